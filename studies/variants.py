"""Trains small networks that differ in one thing the paper leaves open, and holds them against each other.

    python -m studies.variants PAIRS [NAME ...] [--steps N] [--out FOLDER]

PAIRS is a pair store with a level 3 of JPEG and of white noise (`pairs --preset ladder --levels 1,2,3,4,5`). Every
variant learns that level from nothing, by the paper's loss alone: no fit, no distance to the true pixels. Those of the
networks' inside are made here, as the package has one form of each network. What is trained lies in FOLDER; a run that
was stopped goes on there. Prints a Markdown table, means over whole validation pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import click
import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.backend import pin_backend_threads
from distort_pipeline.config import TrainConfig
from distort_pipeline.networks import discriminator, forward, generator
from distort_pipeline.ranges import Picture
from distort_pipeline.seeds import derive_seed
from distort_pipeline.statistics.dials import capped
from distort_pipeline.statistics.divergence import jsd_nss
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.mscn import luma
from distort_pipeline.steps import train
from distort_pipeline.stores.pairs import PairStore, open_pairs
from distort_pipeline.trained import load_generator

LEVEL = 3
GRID_PX = 8  # of JPEG's blocks
BLUR_PX = 32  # what is wider than this counts as banding: a residual's slow bands over the picture
SEED = 0
COMMON: dict[str, Any] = {
    "base_filters": 16,
    "discriminator_filters": 16,
    "crop_px": 128,
    "batch": 8,
    "discriminator_rate": 4e-4,
    "levels": (LEVEL,),
    "transform": "none",
    "precision": "mixed_bfloat16",
    "validate_every": 1000,
    "checkpoint_every": 500,
    "validation_tiles": 24,
}


@dataclass(frozen=True)
class Variant:
    """A distortion to learn, the settings that differ from `COMMON`, and what is different inside the networks."""

    distortion: str
    settings: dict[str, Any] = field(default_factory=dict)
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


@contextmanager
def without_norm() -> Iterator[None]:
    """Leave the norms of D out."""
    with patch.object(discriminator, "BatchNorm", _nothing):
        yield


@contextmanager
def spectral_norm() -> Iterator[None]:
    """Put spectral normalisation (Miyato et al. 2018, as Keras has it) in the place of D's batch norms."""
    convolution = keras.layers.Conv2D

    def normalised(*args: Any, **options: Any) -> keras.layers.Layer:
        name = options["name"]
        return keras.layers.SpectralNormalization(convolution(*args, **options), name=f"{name}_spectral")

    class Layers:
        """Keras's layers, of which one is another."""

        def __getattr__(self, name: str) -> Any:
            return normalised if name == "Conv2D" else getattr(keras.layers, name)

    class Keras:
        """Keras with those layers."""

        layers = Layers()

        def __getattr__(self, name: str) -> Any:
            return getattr(keras, name)

    with without_norm(), patch.object(discriminator, "keras", Keras()):
        yield


def depth(blocks: int) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes G a U-Net of so many encoder blocks, in place of the paper's seven."""

    @contextmanager
    def shallower() -> Iterator[None]:
        encoder = generator.ENCODER_WIDTHS[:blocks]
        with (
            patch.object(generator, "ENCODER_WIDTHS", encoder),
            patch.object(generator, "DECODER_WIDTHS", tuple(reversed(encoder[:-1]))),
            patch.object(generator, "BLOCKS", blocks),
            patch.object(generator, "MULTIPLE_PX", 2**blocks),
            patch.object(forward, "MULTIPLE_PX", 2**blocks),
        ):
            yield

    return shallower


VARIANTS = {
    "jpeg": Variant("jpeg"),
    "jpeg-align-8": Variant("jpeg", {"crop_align": 8}),
    "jpeg-align-1": Variant("jpeg", {"crop_align": 1}),
    "jpeg-no-norm": Variant("jpeg", inside=without_norm),
    "jpeg-spectral": Variant("jpeg", inside=spectral_norm),
    "jpeg-depth-5": Variant("jpeg", inside=depth(5)),
    "jpeg-depth-3": Variant("jpeg", inside=depth(3)),
    "noise": Variant("white_noise"),
    "noise-no-norm": Variant("white_noise", inside=without_norm),
    "noise-spectral": Variant("white_noise", inside=spectral_norm),
    "noise-depth-5": Variant("white_noise", inside=depth(5)),
    "noise-seed-1": Variant("white_noise", {"seed": 1}),
    "jpeg-seed-1": Variant("jpeg", {"seed": 1}),
}
HEADINGS = ("variant", "bits", "pristine", "strength, dB", "grid", "true grid", "banding", "true banding", "logit gap")


def measured(pairs: PairStore, variant: Variant, model: Path) -> tuple[float, ...]:
    """Return the figures of a trained variant, as the table has them behind its name."""
    found = []
    with variant.inside():
        made = load_generator(model, batch=1).forward
        for record, pristine, true in pairs.validation(variant.distortion, LEVEL):
            own = made.distort_picture(pristine, derive_seed(SEED, record.picture))
            strength = capped(psnr(pristine, own)) - capped(psnr(pristine, true))
            ours, theirs = (_residual(pristine, one) for one in (own, true))
            row = (jsd_nss(true, own), jsd_nss(true, pristine), strength)
            found.append((*row, grid(ours), grid(theirs), banding(ours), banding(theirs)))
    return tuple(fmean(column) for column in zip(*found, strict=True))


def grid(residual: NDArray[np.float32]) -> float:
    """Return the mean square of steps across the edges of 8 x 8 px blocks over that of all others: 1 without blocks."""
    steps = [np.square(np.diff(residual, axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
    edges = [np.arange(1, len(own) + 1) % GRID_PX == 0 for own in steps]
    across, others = (
        np.concatenate([own[chosen] for own, chosen in zip(steps, which, strict=True)]).mean()
        for which in (edges, [~one for one in edges])
    )
    return float(across / max(others, 1e-9))


def banding(residual: NDArray[np.float32]) -> float:
    """Return the share of the residual's power that a mean over 32 x 32 px leaves."""
    slow = cv2.blur(residual, (BLUR_PX, BLUR_PX))
    return float(np.square(slow).mean() / max(np.square(residual).mean(), 1e-9))


def _residual(pristine: Picture, distorted: Picture) -> NDArray[np.float32]:
    return luma(distorted).astype(np.float32) - luma(pristine)


def _nothing(*, name: str, **_: Any) -> keras.layers.Layer:
    return keras.layers.Identity(name=name)


def _last_gap(model: Path) -> float:
    """Return how far D told true from generated at the end: the last logged difference of its mean logits."""
    lines = (model / "live/plots/metrics/logit_gap.tsv").read_text(encoding="utf-8").split()
    return float(lines[-1])


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("names", nargs=-1, type=click.Choice(sorted(VARIANTS)))
@click.option("--steps", default=1500, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("variants"), show_default=True)
def main(pairs: Path, names: tuple[str, ...], steps: int, out: Path) -> None:
    """Train the named variants, or all, and print their table."""
    pin_backend_threads(0)
    store = open_pairs(pairs)
    click.echo(f"| {' | '.join(HEADINGS)} |\n|---|{'---:|' * (len(HEADINGS) - 1)}")
    for name in names or VARIANTS:
        variant = VARIANTS[name]
        config = TrainConfig(**{**COMMON, **variant.settings, "steps": steps})
        with variant.inside():
            train.run(config, pairs, out / name, distortion=variant.distortion)
        bits, pristine, strength, *others = measured(store, variant, out / name)
        rest = " | ".join(f"{value:.3f}" for value in (*others, _last_gap(out / name)))
        click.echo(f"| {name} | {bits:.4f} | {pristine:.4f} | {strength:+.1f} | {rest} |")


if __name__ == "__main__":
    main()
