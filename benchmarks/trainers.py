"""Trainers for benchmarks, with the default settings except size and precision."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from distort_pipeline.training.tensorflow_step import TensorflowTrainer


def trainer_of(
    filters: int, batch: int, crop_px: int, precision: str, *, plain: bool = False, seed: int = 0
) -> TensorflowTrainer:
    """Return a trainer of our networks, or with `plain` of Keras's usual generator, batch norms and Adam."""
    import keras

    from benchmarks.plain_networks import build_plain_generator
    from distort_pipeline.networks import losses
    from distort_pipeline.training import gan, tensorflow_step

    networks = gan.GANConfig(
        base_filters=filters,
        discriminator_filters=filters,
        noise_channels=0,
        discriminator_input="scaled_residual",
        precision=precision,
        crop_px=crop_px,
        batch_size=batch,
        generator_lr=3e-4,
        discriminator_lr=1e-4,
        beta_1=0.5,
        beta_2=0.999,
        lambda_l1=0.1,
        l1_scale=255.0,
        l1_reduction="mean",
        ema_decay=0.999,
        seed=seed,
    )
    if not plain:
        return tensorflow_step.TensorflowTrainer(networks)
    with (
        patch.object(gan, "build_generator", build_plain_generator),
        patch.object(losses, "BatchNorm", keras.layers.BatchNormalization),
        patch.object(tensorflow_step.TensorflowTrainer, "adam", keras.optimizers.Adam),
    ):
        return tensorflow_step.TensorflowTrainer(networks)
