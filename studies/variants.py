"""Trains small networks that differ in one thing the paper leaves open, and holds them against each other.

    python -m studies.variants PAIRS [NAME ...] [--out FOLDER]

PAIRS is a pair store with a level 3 of JPEG, JPEG 2000 and white noise (`pairs --preset ladder --levels 1,2,3,4,5`).
Variants learn that level by the paper's loss alone, with no distance to the true pixels, and from nothing unless their
name says that they start from the fit. Those of the networks' inside are made here, as the package has one form of each
network. What is trained lies in FOLDER; a run that was stopped goes on there. Prints a Markdown table, means over whole
validation images.
"""

from __future__ import annotations

import re
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
from keras import ops
from numpy.typing import NDArray

from distort_pipeline.backend import pin_backend_threads
from distort_pipeline.config import TrainConfig
from distort_pipeline.networks import discriminator, generator, predictor
from distort_pipeline.pixels import LEVELS_PER_UNIT, Image
from distort_pipeline.seeds import derive_seed
from distort_pipeline.statistics.divergence import jsd_nss
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.mscn import luma
from distort_pipeline.statistics.severity_sweep import capped
from distort_pipeline.steps import train
from distort_pipeline.stores.models import read_card
from distort_pipeline.stores.pairs import PairStore, open_pairs
from distort_pipeline.trained import load_generator
from distort_pipeline.training.crops import CropBatch, Crops
from distort_pipeline.training.gan import GANTrainer

LEVEL = 3
GRID_PX = 8  # of JPEG's blocks
BLUR_PX = 32  # what is wider than this counts as banding: a residual's slow bands over the image
GROUPS = 8
HIDING_LEVELS = 4.0
SEED = 0
COMMON: dict[str, Any] = {
    "base_filters": 16,
    "discriminator_filters": 16,
    "crop_px": 128,
    "batch": 8,
    "discriminator_lr": 4e-4,
    "levels": (LEVEL,),
    "codec_prior": "none",
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
    folds: bool = True  # whether the package can load what was trained, its norms folded


@contextmanager
def without_norm() -> Iterator[None]:
    """Leave the norms of D out."""
    with patch.object(discriminator, "BatchNorm", _nothing):
        yield


def other_norm(layer: Callable[..., keras.layers.Layer]) -> Callable[[], AbstractContextManager[None]]:
    """Return what puts `layer` in the place of G's batch norms."""

    @contextmanager
    def other() -> Iterator[None]:
        with patch.object(generator, "BatchNorm", layer):
            yield

    return other


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
            patch.object(predictor, "MULTIPLE_PX", 2**blocks),
        ):
            yield

    return shallower


@contextmanager
def flips() -> Iterator[None]:
    """Mirror every other pair of crops, left to right."""
    plain = Crops.at

    def mirrored(self: Crops, step: int) -> CropBatch:
        batch = plain(self, step)
        for pixels in (batch.pristine, batch.distorted):
            pixels[::2] = pixels[::2, :, ::-1].copy()
        return batch

    with patch.object(Crops, "at", mirrored):
        yield


def decay(steps: int) -> Callable[[], AbstractContextManager[None]]:
    """Return what lets both learning rates fall to 0 over so many steps, along half a cosine."""

    @contextmanager
    def falling() -> Iterator[None]:
        plain = GANTrainer._adam

        def scheduled(self: GANTrainer, name: str, rate: float, network: keras.Model) -> keras.optimizers.Adam:
            return plain(self, name, keras.optimizers.schedules.CosineDecay(rate, steps), network)

        with patch.object(GANTrainer, "_adam", scheduled):
            yield

    return falling


@contextmanager
def noise_before_d() -> Iterator[None]:
    """Add white noise to what D judges, true and generated alike, so that it cannot go by what is finer."""
    plain, seeds = GANTrainer.discriminator_inputs, keras.random.SeedGenerator(SEED)

    def hidden(self: GANTrainer, x: Any, y: Any, severity: Any) -> list[Any]:
        noise = keras.random.normal(ops.shape(y), stddev=HIDING_LEVELS / LEVELS_PER_UNIT, seed=seeds)
        return plain(self, x, y + noise, severity)

    with patch.object(GANTrainer, "judged", hidden):
        yield


def _nothing(*, name: str, **_: Any) -> keras.layers.Layer:
    return keras.layers.Identity(name=name)


def _grouped(*, name: str, dtype: str, **_: Any) -> keras.layers.Layer:
    return keras.layers.GroupNormalization(GROUPS, name=name, dtype=dtype)


STEPS = 1500
FROM_FIT = {
    "codec_prior": None, "generator_lr": 5e-5, "discriminator_warmup_steps": 300, "keep": "best", "validate_every": 150,
    "lambda_l1": 1.0, "l1_scale": 2.0,
}  # fmt: skip
VARIANTS = {
    "jpeg": Variant("jpeg"),
    "jpeg, another seed": Variant("jpeg", {"seed": 1}),
    "jpeg, crop_align 8": Variant("jpeg", {"crop_align": 8}),
    "jpeg, crop_align 1": Variant("jpeg", {"crop_align": 1}),
    "jpeg, flips": Variant("jpeg", inside=flips),
    "jpeg, D without norms": Variant("jpeg", inside=without_norm),
    "jpeg, D with spectral norm": Variant("jpeg", inside=spectral_norm),
    "jpeg, D sees the pair as it is": Variant("jpeg", {"discriminator_input": "plain"}),
    "jpeg, rates fall to 0": Variant("jpeg", inside=decay(STEPS)),
    "jpeg, 5 blocks": Variant("jpeg", inside=depth(5)),
    "jpeg, 3 blocks": Variant("jpeg", inside=depth(3)),
    "noise": Variant("white_noise"),
    "noise, another seed": Variant("white_noise", {"seed": 1}),
    "noise, D without norms": Variant("white_noise", inside=without_norm),
    "noise, D with spectral norm": Variant("white_noise", inside=spectral_norm),
    "noise, D sees the pair as it is": Variant("white_noise", {"discriminator_input": "plain"}),
    "noise, rates fall to 0": Variant("white_noise", inside=decay(STEPS)),
    "noise, weights not averaged": Variant("white_noise", {"ema_decay": 0.0}),
    "noise, sparsity summed": Variant("white_noise", {"l1_reduction": "sum"}),
    "noise, batches of 2": Variant("white_noise", {"batch": 2}),
    "noise, batches of 2, G without norms": Variant("white_noise", {"batch": 2}, other_norm(_nothing), folds=False),
    "noise, batches of 2, G with group norms": Variant("white_noise", {"batch": 2}, other_norm(_grouped), folds=False),
    "jp2k, from the fit": Variant("jp2k", FROM_FIT),
    "jp2k, from the fit, noise before D": Variant("jp2k", FROM_FIT, inside=noise_before_d),
    "noise, 5 blocks": Variant("white_noise", inside=depth(5)),
}
FORMS = ("{:.4f}", "{:.4f}", "{:+.1f}", "{:.2f}", "{:.2f}", "{:.3f}", "{:.3f}")  # of what is measured
HEADINGS = (
    "variant",
    "bits",
    "pristine",
    "strength, dB",
    "grid",
    "true grid",
    "banding",
    "true banding",
    "logit gap",
    "kept",
)


def measured(pairs: PairStore, variant: Variant, model: Path) -> tuple[float, ...]:
    """Return the figures of a trained variant, as the table has them behind its name, or the first two of them."""
    if not variant.folds:  # of the tiles that its training validated
        figures = read_card(model)["figures"]
        return figures["jsd_nss"], figures["jsd_nss_pristine"]
    found = []
    with variant.inside():
        made = load_generator(model, batch_size=1).predictor
        for record, pristine, true in pairs.validation(variant.distortion, LEVEL):
            own = made.distort_image(pristine, derive_seed(SEED, record.image))
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


def _residual(pristine: Image, distorted: Image) -> NDArray[np.float32]:
    return luma(distorted).astype(np.float32) - luma(pristine)


def _last_gap(model: Path) -> float:
    """Return how far D told true from generated at the end: the last logged difference of its mean logits."""
    lines = (model / "live/plots/metrics/logit_gap.tsv").read_text(encoding="utf-8").split()
    return float(lines[-1])


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("names", nargs=-1, type=click.Choice(sorted(VARIANTS)))
@click.option("--out", type=click.Path(path_type=Path), default=Path("variants"), show_default=True)
def main(pairs: Path, names: tuple[str, ...], out: Path) -> None:
    """Train the named variants, or all, and print their table."""
    pin_backend_threads(0)
    store = open_pairs(pairs)
    click.echo(f"| {' | '.join(HEADINGS)} |\n|---|{'---:|' * (len(HEADINGS) - 1)}")
    for name in names or VARIANTS:
        variant = VARIANTS[name]
        config = TrainConfig(**{**COMMON, **variant.settings, "steps": STEPS})
        model = out / re.sub(r"\W+", "-", name)
        with variant.inside():
            train.run(config, pairs, model, distortion=variant.distortion)
        figures = measured(store, variant, model)
        told = [form.format(value) for form, value in zip(FORMS, figures, strict=False)]
        told += ["–"] * (len(FORMS) - len(told))
        cells = [name, *told, f"{_last_gap(model):.3f}", str(read_card(model)["kept_step"])]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
