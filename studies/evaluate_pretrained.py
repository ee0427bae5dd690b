"""Compares the pretrained generators with the true distortions on the twenty photographs of the sample, or on others.

    python -m studies.evaluate_pretrained [MODELS] [--photographs FOLDER] [--only jp2k]

MODELS is a folder of other models to compare. The sample's photographs were used neither in the fit of the pretrained
generators nor in decisions about them; photographs with larger versions in the training set were left out. Prints
JSD_NSS in bits (mean, median, maximum) and mean delta PSNR in dB (PSNR against pristine, generated minus true) of each
level, and at the middle level the mean JSD_NSS to each of the other true distortions at theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

SUFFIXES = (".png", ".webp", ".jpg")


def scores_of(
    pretrained: TrainedGenerator, level: LearnedLevel, photographs: Sequence[Image], others: Mapping[str, LearnedLevel]
) -> Iterator[tuple[float, ...]]:
    """Yield for each photograph JSD_NSS of generated and of pristine to true, in bits, and delta PSNR in dB.

    Then JSD_NSS of generated to each of `others`, distortion → level.
    """
    for seed, pristine in enumerate(photographs):
        true = apply(pretrained.card.distortion, pristine, level.parameters, make_rng(seed)).image
        generated = pretrained.predictor.distort_image(pristine, seed, level.severity)
        histogram, of_generated = product_histogram(true), product_histogram(generated)
        yield (
            jsd_bits(histogram, of_generated),
            jsd_bits(histogram, product_histogram(pristine)),
            psnr(pristine, generated) - psnr(pristine, true),
            *(
                jsd_bits(product_histogram(apply(name, pristine, at.parameters, make_rng(seed)).image), of_generated)
                for name, at in others.items()
            ),
        )


@click.command()
@click.argument("models", type=click.Path(path_type=Path, exists=True), default=PRETRAINED)
@click.option("--photographs", type=click.Path(path_type=Path, exists=True), default=SAMPLE)
@click.option("--only", help="One of the models.")
def main(models: Path, photographs: Path, only: str | None) -> None:
    """Print a line for each level of each pretrained generator, or of each of MODELS."""
    images = [decode(path.read_bytes())[0] for path in sorted(photographs.iterdir()) if path.suffix in SUFFIXES]
    generators = {name: load_generator(folder, batch_size=1) for name, folder in model_folders(models).items()}
    middle = {g.card.distortion: g.card.levels[len(g.card.levels) // 2] for g in generators.values()}
    for name, pretrained in generators.items():
        if only not in (None, name):
            continue
        for level in pretrained.card.levels:
            is_middle = level == middle[pretrained.card.distortion]
            others = {d: at for d, at in middle.items() if is_middle and d != pretrained.card.distortion}
            scores, identity, delta_psnr, *to_others = np.array(list(scores_of(pretrained, level, images, others))).T
            text = f"mean {scores.mean():.5f}, median {np.median(scores):.5f}, maximum {scores.max():.4f} bits"
            click.echo(
                f"{name} {canonical(dict(level.parameters))}: {text} (identity baseline {identity.mean():.4f}), "
                f"{delta_psnr.mean():+.2f} dB"
                + "".join(f", {d} {bits.mean():.4f}" for d, bits in zip(others, to_others, strict=True))
            )


if __name__ == "__main__":
    main()
