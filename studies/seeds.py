"""Makes pairs, and fits generators to them, with three seeds: how far the figures of a generator are its luck.

    python -m studies.seeds MANIFEST [--out FOLDER]

Of each seed are the tiles that are cut for training and the draws of true noise; a fit itself draws nothing. The
images and their split stay: those for validation are nowhere fitted to. Level 3 of the ladder, JPEG and white noise.
Prints a Markdown table, means over whole validation images; what is made lies in FOLDER and is not made twice.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

import click

from distort_pipeline.config import PairsConfig, TrainConfig
from distort_pipeline.seeds import derive_seed
from distort_pipeline.statistics.divergence import jsd_nss
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.severity_sweep import capped
from distort_pipeline.steps import pairs as pairs_step
from distort_pipeline.steps import train
from distort_pipeline.stores.pairs import open_pairs
from distort_pipeline.trained import load_generator

DISTORTIONS = ("jpeg", "white_noise")
LEVEL = 3
SEEDS = (0, 1, 2)
TILES_PER_IMAGE = 6


def measured(manifest: Path, distortion: str, seed: int, out: Path) -> tuple[float, float, float]:
    """Return JSD_NSS of the generator and of the pristine images in bits, and its strength in dB, for one seed."""
    config = PairsConfig(
        distortions=DISTORTIONS, preset="five_levels", levels=(LEVEL,), tiles_per_image=TILES_PER_IMAGE, seed=seed
    )
    store, model = out / f"pairs-{seed}", out / f"{distortion}-{seed}"
    pairs_step.run(config, manifest, store)
    train.run(TrainConfig(steps=0, seed=seed), store, model, distortion=distortion)
    predictor = load_generator(model, batch_size=1).predictor
    rows = []
    for record, pristine, true in open_pairs(store).validation(distortion, LEVEL):
        made = predictor.distort_image(pristine, derive_seed(seed, distortion, record.image))
        strength = capped(psnr(pristine, made)) - capped(psnr(pristine, true))
        rows.append((jsd_nss(true, made), jsd_nss(true, pristine), strength))
    bits, nothing, strength = (fmean(column) for column in zip(*rows, strict=True))
    return bits, nothing, strength


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), default=Path("seeds"), show_default=True)
def main(manifest: Path, out: Path) -> None:
    """Print a row for each distortion: the three figures of each, their means and deviations."""
    click.echo("| distortion | bits | mean ± deviation | strength, dB | mean ± deviation | pristine, bits |")
    click.echo("|---|---|---:|---|---:|---:|")
    for distortion in DISTORTIONS:
        found = [measured(manifest, distortion, seed, out) for seed in SEEDS]
        bits, nothing, strength = zip(*found, strict=True)
        cells = [
            distortion,
            ", ".join(f"{value:.5f}" for value in bits),
            f"{fmean(bits):.5f} ± {stdev(bits):.5f}",
            ", ".join(f"{value:+.2f}" for value in strength),
            f"{fmean(strength):+.2f} ± {stdev(strength):.2f}",
            f"{fmean(nothing):.4f}",
        ]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
