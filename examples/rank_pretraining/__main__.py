"""`python -m examples.rank_pretraining`: rank correlations of models trained on generated and on true tiles."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from distort_pipeline import open_corpus
from examples.rank_pretraining.experiment import (
    TEST_PRESETS,
    build_scorer,
    generated_material,
    severity_correlation,
    spread_indices,
    train_scorer,
    true_material,
    validation_images,
)


def main(arguments: list[str] | None = None) -> None:
    """Train both models and an untrained one, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m examples.rank_pretraining", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"))
    parser.add_argument("--manifest", type=Path, default=Path("build/manifest.jsonl"), help="of the corpus")
    parser.add_argument(
        "--test-manifest", type=Path, help="source of the validation photographs; default: the corpus's manifest"
    )
    parser.add_argument("--samples", type=int, default=120, help="of each distortion")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    options = parser.parse_args(arguments)
    corpus = open_corpus(options.corpus)
    indices = spread_indices(corpus, options.samples)
    materials = {
        "generated": generated_material(corpus, indices),
        "true": true_material(corpus, indices, options.manifest, seed=0),
    }
    images = validation_images(options.test_manifest or options.manifest)
    names = [name for name in corpus.distortions if name in TEST_PRESETS]
    settings = {"steps": options.steps, "batch_size": options.batch_size, "crop_px": options.crop_px}
    print(f"SRCC with severity, {len(images)} photographs, levels 0 to 5; mean of {options.seeds} trainings")
    print("trained on".ljust(12), *(name.rjust(12) for name in [*names, "mean"]))
    for kind, material in {"untrained": None, **materials}.items():
        rows = []
        for seed in range(options.seeds):
            scorer = build_scorer() if material is None else train_scorer(material, **settings, seed=seed)
            rows.append(list(severity_correlation(scorer, images, names, seed=0).values()))
        means = np.mean(rows, axis=0)
        print(kind.ljust(12), *(f"{value:12.3f}" for value in [*means, means.mean()]), flush=True)


if __name__ == "__main__":
    main()
