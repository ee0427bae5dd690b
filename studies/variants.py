"""Compares small networks that differ in one choice that the paper leaves open.

    python -m studies.variants PAIRS [NAME ...] [--out FOLDER]

PAIRS has level 3 of JPEG, JPEG 2000 and white noise (`pairs --preset five_levels --levels 1,2,3,4,5`).
Variants are trained on that level with the paper's loss alone, without a pixel loss, and from random weights unless
their name says *from the fit*. Variants of the architecture are patched here, since the package has one form of each
network. Trained weights are stored in FOLDER; a stopped run resumes there. Prints a Markdown table, means over full
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

from distort_pipeline.config import TrainConfig
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.metrics.jsd_nss import jsd_nss, luma
from distort_pipeline.metrics.severity_sweep import capped
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import load_generator
from distort_pipeline.networks import generator, losses, predictor
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import LEVELS_PER_UNIT, Image, derive_seed
from distort_pipeline.steps import train
from distort_pipeline.training.crops import CropBatch, Crops
from distort_pipeline.training.gan import GANTrainer
from studies.nearest_upsampling import nearest_upsampling

LEVEL = 3
GRID_PX = 8  # of JPEG's blocks
BLUR_PX = 32  # lower spatial scale of banding, the slow bands of a residual over the image
GROUPS = 8
HIDING_LEVELS = 4.0
SEED = 0
COMMON: dict[str, Any] = {
    "base_filters": 16,
    "discriminator_filters": 16,
    "crop_px": 128,
    "batch_size": 8,
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
    """A distortion to learn, the settings that differ from `COMMON`, and the change of the networks."""

    distortion: str
    settings: dict[str, Any] = field(default_factory=dict)
    inside: Callable[[], AbstractContextManager[None]] = nullcontext
    fuses: bool = True  # whether the package can load the weights with fused norms


@contextmanager
def without_norm() -> Iterator[None]:
    """Remove the norms of D."""
    with patch.object(losses, "BatchNorm", _identity):
        yield


def other_norm(layer: Callable[..., keras.layers.Layer]) -> Callable[[], AbstractContextManager[None]]:
    """Return a context with `layer` instead of G's batch norms."""

    @contextmanager
    def other() -> Iterator[None]:
        with patch.object(generator, "BatchNorm", layer):
            yield

    return other


@contextmanager
def spectral_norm() -> Iterator[None]:
    """Use spectral normalisation (Miyato et al. 2018, in Keras) instead of D's batch norms."""
    convolution = keras.layers.Conv2D

    def normalised(*args: Any, **options: Any) -> keras.layers.Layer:
        name = options["name"]
        return keras.layers.SpectralNormalization(convolution(*args, **options), name=f"{name}_spectral")

    class Layers:
        """Keras's layers with another Conv2D."""

        def __getattr__(self, name: str) -> Any:
            return normalised if name == "Conv2D" else getattr(keras.layers, name)

    class Keras:
        """Keras with those layers."""

        layers = Layers()

        def __getattr__(self, name: str) -> Any:
            return getattr(keras, name)

    with without_norm(), patch.object(losses, "keras", Keras()):
        yield


def depth(blocks: int) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which G has `blocks` encoder blocks instead of the paper's seven."""

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
    """Return a context with both learning rates decaying to 0 over `steps`, along half a cosine."""

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
    """Add white noise to D's inputs, true and generated, to hide finer differences."""
    plain, seeds = GANTrainer.discriminator_inputs, keras.random.SeedGenerator(SEED)

    def hidden(self: GANTrainer, x: Any, y: Any, severity: Any) -> list[Any]:
        noise = keras.random.normal(ops.shape(y), stddev=HIDING_LEVELS / LEVELS_PER_UNIT, seed=seeds)
        return plain(self, x, y + noise, severity)

    with patch.object(GANTrainer, "discriminator_inputs", hidden):
        yield


def _identity(*, name: str, **_: Any) -> keras.layers.Layer:
    return keras.layers.Identity(name=name)


def _grouped(*, name: str, dtype: str, **_: Any) -> keras.layers.Layer:
    return keras.layers.GroupNormalization(GROUPS, name=name, dtype=dtype)


STEPS = 1500
FROM_FIT = {
    "codec_prior": None, "generator_lr": 5e-5, "discriminator_warmup_steps": 300, "select_checkpoint": "best",
    "validate_every": 150, "lambda_l1": 1.0, "l1_scale": 2.0,
}  # fmt: skip
VARIANTS = {
    "jpeg": Variant("jpeg"),
    "jpeg, another seed": Variant("jpeg", {"seed": 1}),
    "jpeg, crop_align 8": Variant("jpeg", {"crop_align": 8}),
    "jpeg, crop_align 1": Variant("jpeg", {"crop_align": 1}),
    "jpeg, flips": Variant("jpeg", inside=flips),
    "jpeg, D without norms": Variant("jpeg", inside=without_norm),
    "jpeg, D with spectral norm": Variant("jpeg", inside=spectral_norm),
    "jpeg, plain input of D": Variant("jpeg", {"discriminator_input": "plain"}),
    "jpeg, rates decay to 0": Variant("jpeg", inside=decay(STEPS)),
    "jpeg, nearest upsampling": Variant("jpeg", inside=nearest_upsampling, fuses=False),
    "jpeg, 5 blocks": Variant("jpeg", inside=depth(5)),
    "jpeg, 3 blocks": Variant("jpeg", inside=depth(3)),
    "noise": Variant("white_noise"),
    "noise, another seed": Variant("white_noise", {"seed": 1}),
    "noise, D without norms": Variant("white_noise", inside=without_norm),
    "noise, D with spectral norm": Variant("white_noise", inside=spectral_norm),
    "noise, plain input of D": Variant("white_noise", {"discriminator_input": "plain"}),
    "noise, rates decay to 0": Variant("white_noise", inside=decay(STEPS)),
    "noise, without EMA": Variant("white_noise", {"ema_decay": 0.0}),
    "noise, L1 summed": Variant("white_noise", {"l1_reduction": "sum"}),
    "noise, batches of 2": Variant("white_noise", {"batch_size": 2}),
    "noise, batches of 2, G without norms": Variant(
        "white_noise", {"batch_size": 2}, other_norm(_identity), fuses=False
    ),
    "noise, batches of 2, G with group norms": Variant(
        "white_noise", {"batch_size": 2}, other_norm(_grouped), fuses=False
    ),
    "jp2k, from the fit": Variant("jp2k", FROM_FIT),
    "jp2k, from the fit, noise before D": Variant("jp2k", FROM_FIT, inside=noise_before_d),
    "noise, 5 blocks": Variant("white_noise", inside=depth(5)),
}
FORMS = ("{:.4f}", "{:.4f}", "{:+.1f}", "{:.2f}", "{:.2f}", "{:.3f}", "{:.3f}")  # of the figures
HEADINGS = (
    "variant",
    "bits",
    "pristine",
    "delta PSNR, dB",
    "grid",
    "true grid",
    "banding",
    "true banding",
    "logit gap",
    "selected step",
)


def evaluated(pairs: PairStore, variant: Variant, model: Path) -> tuple[float, ...]:
    """Return the figures of a trained variant in the order of the table, or the first two."""
    if not variant.fuses:  # of the validation tiles of its training
        figures = read_card(model).figures
        return figures.jsd_nss, figures.jsd_nss_pristine
    rows = []
    with variant.inside():
        trained = load_generator(model, batch_size=1).predictor
        for record, pristine, true in pairs.validation(variant.distortion, LEVEL):
            generated = trained.distort_image(pristine, derive_seed(SEED, record.image))
            delta_psnr = capped(psnr(pristine, generated)) - capped(psnr(pristine, true))
            generated_residual, true_residual = (_residual(pristine, image) for image in (generated, true))
            row = (jsd_nss(true, generated), jsd_nss(true, pristine), delta_psnr)
            rows.append(
                (
                    *row,
                    grid(generated_residual),
                    grid(true_residual),
                    banding(generated_residual),
                    banding(true_residual),
                )
            )
    return tuple(fmean(column) for column in zip(*rows, strict=True))


def grid(residual: NDArray[np.float32]) -> float:
    """Return the mean square gradient across edges of 8 x 8 px blocks over the mean inside: 1 without blocking."""
    steps = [np.square(np.diff(residual, axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
    edges = [np.arange(1, len(axis_steps) + 1) % GRID_PX == 0 for axis_steps in steps]
    across, others = (
        np.concatenate([axis_steps[mask] for axis_steps, mask in zip(steps, masks, strict=True)]).mean()
        for masks in (edges, [~mask for mask in edges])
    )
    return float(across / max(others, 1e-9))


def banding(residual: NDArray[np.float32]) -> float:
    """Return the share of the residual's power after a mean over 32 x 32 px."""
    slow = cv2.blur(residual, (BLUR_PX, BLUR_PX))
    return float(np.square(slow).mean() / max(np.square(residual).mean(), 1e-9))


def _residual(pristine: Image, distorted: Image) -> NDArray[np.float32]:
    return luma(distorted).astype(np.float32) - luma(pristine)


def _last_gap(model: Path) -> float:
    """Return the last logged difference of D's mean logits, true minus generated."""
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
        figures = evaluated(store, variant, model)
        cells = [form.format(value) for form, value in zip(FORMS, figures, strict=False)]
        cells += ["–"] * (len(FORMS) - len(cells))
        cells = [name, *cells, f"{_last_gap(model):.3f}", str(read_card(model).kept_step)]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
