"""Compares the pretrained generators with the true distortions on the twenty photographs of the sample.

    python -m studies.evaluate_pretrained [MODELS]

MODELS is a folder of other models to compare. These photographs were used neither in the fit of the pretrained
generators nor in decisions about them; photographs with larger versions in the training set were left out. Prints
JSD_NSS in bits (mean, median, maximum) and mean delta PSNR in dB (PSNR against pristine, generated minus true).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from distort_pipeline.commands.inputs import PRETRAINED, SAMPLE
from distort_pipeline.data.images import decode
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.card import LearnedLevel
from distort_pipeline.models.store import TrainedGenerator, load_generator, model_folders
from distort_pipeline.records import Image, canonical, make_rng


def scores_of(pretrained: TrainedGenerator, level: LearnedLevel) -> Iterator[tuple[float, float, float]]:
    """Yield for each photograph JSD_NSS of generated and of pristine to true, in bits, and delta PSNR in dB."""
    for seed, path in enumerate(sorted(SAMPLE.glob("*.png"))):
        pristine: Image = decode(path.read_bytes())[0]
        true = apply(pretrained.card.distortion, pristine, level.parameters, make_rng(seed)).image
        generated = pretrained.predictor.distort_image(pristine, seed, level.severity)
        histogram = product_histogram(true)
        yield (
            jsd_bits(histogram, product_histogram(generated)),
            jsd_bits(histogram, product_histogram(pristine)),
            psnr(pristine, generated) - psnr(pristine, true),
        )


@click.command()
@click.argument("models", type=click.Path(path_type=Path, exists=True), default=PRETRAINED)
def main(models: Path) -> None:
    """Print a line for each level of each pretrained generator, or of each of MODELS."""
    for name, folder in model_folders(models).items():
        pretrained = load_generator(folder, batch_size=1)
        for level in pretrained.card.levels:
            scores, identity, delta_psnr = np.array(list(scores_of(pretrained, level))).T
            text = f"mean {scores.mean():.5f}, median {np.median(scores):.5f}, maximum {scores.max():.4f} bits"
            click.echo(
                f"{name} {canonical(dict(level.parameters))}: {text} (identity baseline {identity.mean():.4f}), "
                f"{delta_psnr.mean():+.2f} dB"
            )


if __name__ == "__main__":
    main()
