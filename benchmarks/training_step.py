"""A training step of our networks, float32 and mixed_bfloat16, against the plain Keras form in float32.

The same trainer, losses and discriminator; the plain generator alone replaces ours. A full-size step takes many
seconds on two cores, so few are measured.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.harness import Figure, Options, Result, cut_tiles, in_turn, ratios, read_pictures, spread
from distort_pipeline.backend import pin_backend_threads
from distort_pipeline.distortions import apply
from distort_pipeline.versions import package_versions

BAR = 3.0


def measure(options: Options) -> Result:
    """Return pictures/s of ours over those of the plain form, at full size and at starter size."""
    pin_backend_threads(0)
    figures = []
    sizes = ((4, 2, 1, 128),) if options.quick else ((16, 8, 5, 256), (64, 16, 2, 256))
    for filters, batch, rounds, crop_px in sizes:
        figures += _size(options, filters, batch, rounds, crop_px)
    return Result(
        "one step of generator and discriminator, 256² crops, all cores",
        figures,
        ["The full size is 64 filters and batches of 16; 16 filters, batches of 8 are the sample's networks."],
        ["losses over the same 200 steps, statistically alike", "training from the store against one constant batch"],
        package_versions(["tensorflow", "keras"]),
    )


def _size(options: Options, filters: int, batch: int, rounds: int, crop_px: int) -> list[Figure]:
    pristine = cut_tiles(read_pictures(options.pictures, 4), batch, crop_px)
    rng = np.random.default_rng(0)
    distorted = np.stack([apply("white_noise", tile, {"sigma_grey": 19}, rng).picture for tile in pristine])
    trainers = {
        "plain": _trainer(filters, batch, crop_px, "float32", plain=True),
        "float32": _trainer(filters, batch, crop_px, "float32"),
        "mixed_bfloat16": _trainer(filters, batch, crop_px, "mixed_bfloat16"),
    }
    steps = {
        name: lambda trainer=trainer: float(trainer.step(pristine, distorted, 1)["generator_loss"])
        for name, trainer in trainers.items()
    }
    seconds = in_turn(steps, rounds)
    named = f"{filters} filters, batch {batch}"
    plain = "plain Keras form, float32"
    figures = [
        Figure(
            f"{precision}, {named}",
            plain,
            ratios(seconds["plain"], seconds[precision]),
            bar=BAR if filters == 64 and precision == "mixed_bfloat16" else None,
            note=f"{batch / sorted(seconds[precision])[rounds // 2]:.2f} pictures/s",
        )
        for precision in ("float32", "mixed_bfloat16")
    ]
    return [*figures, Figure(f"{plain}, {named}", "–", spread([batch / s for s in seconds["plain"]]), "pictures/s")]


def _trainer(filters: int, batch: int, crop_px: int, precision: str, *, plain: bool = False) -> Any:
    from benchmarks.plain_networks import build_plain_generator
    from distort_pipeline.training import adversaries, tensorflow_step

    networks = adversaries.Networks(
        base_filters=filters,
        discriminator_filters=filters,
        noise_channels=0,
        pair_view="amplified_difference",
        precision=precision,
        crop_px=crop_px,
        batch=batch,
        generator_rate=3e-4,
        discriminator_rate=1e-4,
        beta_1=0.5,
        beta_2=0.999,
        sparsity_weight=0.1,
        sparsity_span=255.0,
        sparsity_reduction="mean",
        averaging=0.999,
        seed=0,
    )
    if not plain:
        return tensorflow_step.TensorflowTrainer(networks)
    with patch.object(tensorflow_step, "build_generator", build_plain_generator):
        return tensorflow_step.TensorflowTrainer(networks)
