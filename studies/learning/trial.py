"""One trial: learn one folder of pairs, and say what each stage comes to on held-out images of the learn set.

python studies/learning/trial.py FOLDER OUT [--mean 900] [--adversary 1500] [--judge]
FOLDER holds learn/pristine, learn/distorted; with --judge also judge/pristine, judge/distorted, which choose nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distort_pipeline.data.files import to_json
from distort_pipeline.networks.jpeg_stage import read_jpeg_stage
from distort_pipeline.networks.patches import cut_patches
from distort_pipeline.training.learn import LearnData, LearnSettings, learn


def load(folder: Path) -> tuple[list[Any], list[Path]]:
    """Return the pairs in `folder`, (pristine, distorted) images, and the distorted files."""
    pairs, files = [], []
    distorted = {path.stem: path for path in sorted((folder / "distorted").iterdir())}
    for path in sorted((folder / "pristine").iterdir()):
        pairs.append(tuple(np.asarray(Image.open(p).convert("RGB")) for p in (path, distorted[path.stem])))
        files.append(distorted[path.stem])
    return pairs, files


def main() -> None:
    """Learn the pairs of a folder, and write generated images of the judging photographs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mean", type=int, default=900)
    parser.add_argument("--adversary", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pairs, files = load(options.folder / "learn")
    held, train = pairs[::6], [pair for number, pair in enumerate(pairs) if number % 6]
    options.out.mkdir(parents=True, exist_ok=True)
    settings = LearnSettings(minutes=None, mean_steps=options.mean, adversarial_steps=options.adversary)
    patches = cut_patches(held, 384)
    data = LearnData(cut_patches(train, 384), patches[:: max(len(patches) // 16, 1)], held, read_jpeg_stage(files[0]))
    generator, report = learn(data, settings, options.out, keep_anyway=True)
    print(json.dumps(to_json(report), indent=1))
    if options.judge:
        judge, _ = load(options.folder / "judge")
        from distort_pipeline.models.store import write_arrays
        from distort_pipeline.networks.saved import composed_arrays

        arrays, described = composed_arrays(generator)
        write_arrays(options.out / "generator.safetensors", arrays)
        (options.out / "generator.json").write_text(json.dumps(described))
        folder = options.out / "judge"
        folder.mkdir(exist_ok=True)
        for number, (path, (x, _)) in enumerate(
            zip(sorted((options.folder / "judge" / "pristine").iterdir()), judge, strict=True)
        ):
            Image.fromarray(generator.distort(x, 1.0, 1000 + number)).save(folder / f"{path.stem}.png")
    rows = []
    for number, (x, y) in enumerate(held[:4]):
        inside = (slice(64, 320), slice(64, 320))
        generated = generator.distort(x, 1.0, number)[inside]
        x, y = x[inside], y[inside]
        residuals = [np.clip(128 + 8 * (z.astype(float) - x), 0, 255).astype(np.uint8) for z in (y, generated)]
        rows.append(np.concatenate([x, y, generated, *residuals], axis=1))
    Image.fromarray(np.concatenate(rows)).save(options.out / "strip.png")
    print(f"{time.process_time():.0f} CPU-s", file=sys.stderr)


if __name__ == "__main__":
    main()
