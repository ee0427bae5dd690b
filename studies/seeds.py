"""Makes pairs and fits generators with three seeds: the variation of a generator's figures.

    python -m studies.seeds MANIFEST [--out FOLDER]

A seed decides the training tiles and the draws of true noise; the fit itself is deterministic. Images and split are
fixed, and validation images are never fitted to. Level 3 of the preset `five_levels`, JPEG and white noise. Prints a
Markdown table, means over full validation images; stores in FOLDER are reused.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

import click

from distort_pipeline.config import PairsConfig, TrainConfig
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.metrics.severity_sweep import capped
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import derive_seed
from distort_pipeline.steps import pairs as pairs_step
from distort_pipeline.steps import train

DISTORTIONS = ("jpeg", "white_noise")
LEVEL = 3
SEEDS = (0, 1, 2)
TILES_PER_IMAGE = 6


def evaluated(manifest: Path, distortion: str, seed: int, out: Path) -> tuple[float, float, float]:
    """Return JSD_NSS of the generator and of the pristine images in bits, and delta PSNR in dB, for one seed."""
    config = PairsConfig(
        distortions=DISTORTIONS, preset="five_levels", levels=(LEVEL,), tiles_per_image=TILES_PER_IMAGE, seed=seed
    )
    store, model = out / f"pairs-{seed}", out / f"{distortion}-{seed}"
    pairs_step.run(config, manifest, store)
    train.run(TrainConfig(steps=0, seed=seed), store, model, distortion=distortion)
    predictor = load_generator(model, batch_size=1).predictor
    rows = []
    for record, pristine, true in open_pairs(store).validation(distortion, LEVEL):
        generated = predictor.distort_image(pristine, derive_seed(seed, distortion, record.image))
        delta_psnr = capped(psnr(pristine, generated)) - capped(psnr(pristine, true))
        rows.append((jsd_nss(true, generated), jsd_nss(true, pristine), delta_psnr))
    bits, identity, delta_psnr = (fmean(column) for column in zip(*rows, strict=True))
    return bits, identity, delta_psnr


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), default=Path("seeds"), show_default=True)
def main(manifest: Path, out: Path) -> None:
    """Print a row for each distortion: three figures each, with means and standard deviations."""
    click.echo("| distortion | bits | mean ± deviation | delta PSNR, dB | mean ± deviation | identity, bits |")
    click.echo("|---|---|---:|---|---:|---:|")
    for distortion in DISTORTIONS:
        figures = [evaluated(manifest, distortion, seed, out) for seed in SEEDS]
        bits, identity, delta_psnr = zip(*figures, strict=True)
        cells = [
            distortion,
            ", ".join(f"{value:.5f}" for value in bits),
            f"{fmean(bits):.5f} ± {stdev(bits):.5f}",
            ", ".join(f"{value:+.2f}" for value in delta_psnr),
            f"{fmean(delta_psnr):+.2f} ± {stdev(delta_psnr):.2f}",
            f"{fmean(identity):.4f}",
        ]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
