"""The GAN for every backend: both networks, their losses and optimisers, the EMA of G, and the training state."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks import losses
from distort_pipeline.networks.backend import backend_name, keras, ops, start_backend
from distort_pipeline.networks.codec_prior import NO_PRIOR
from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.networks.inputs import GeneratorInputs
from distort_pipeline.networks.layers import CoefficientCurves
from distort_pipeline.networks.losses import build_discriminator
from distort_pipeline.networks.predictor import COEFFICIENT_CURVES, NOISE_PYRAMID

Severities = NDArray[np.float32]  # (N, 1): k / n for level k of n
EMA_START = 10  # the decay grows as (1 + t) / (10 + t): early averages forget the initial weights


@dataclass(frozen=True)
class GANConfig:
    """The settings of both networks, their losses and their optimisers; see TrainConfig for each."""

    base_filters: int
    discriminator_filters: int
    noise_channels: int
    discriminator_input: str
    precision: str
    crop_px: int
    batch_size: int
    generator_lr: float
    discriminator_lr: float
    beta_1: float
    beta_2: float
    lambda_l1: float
    l1_scale: float
    l1_reduction: str
    ema_decay: float
    seed: int
    codec_prior: str = NO_PRIOR
    noise_pyramid: bool = False
    levels: int = 1
    discriminator_warmup_steps: int = 0
    adversarial_weight: float = 1.0
    pixel_weight: float = 0.0
    pixel_norm: str = "l1"
    xla: bool = False

    @property
    def architecture(self) -> Architecture:
        """The small models of the generator."""
        return Architecture(self.base_filters, self.noise_channels, self.codec_prior, self.noise_pyramid, self.levels)


class GANTrainer:
    """Both networks, their optimisers and the exponential moving average (EMA) of G's weights.

    A backend adds the step. Losses and variable names are defined here: all backends train the same, and a checkpoint
    of any backend fits any other.
    """

    adam: type[keras.optimizers.Adam] = keras.optimizers.Adam

    def __init__(self, networks: GANConfig) -> None:
        self.settings = networks
        # the source of seeds of Keras's initialisers; keras.utils.set_random_seed would import TensorFlow as well
        random.seed(networks.seed % 2**32)
        self.generator, self.ema_generator = (
            build_generator(networks.architecture, precision=networks.precision, image_stats=image_stats)
            for image_stats in (False, True)  # in training a crop counts as a whole image
        )
        self.ema_generator.set_weights(self.generator.get_weights())
        self.coefficient_curves: CoefficientCurves | None = None
        if networks.codec_prior != NO_PRIOR:
            # outside the networks: a constant of the step
            self.coefficient_curves = CoefficientCurves(networks.codec_prior, networks.levels)
            self.coefficient_curves.build((None, None, None, 3))
        self.discriminator = build_discriminator(
            base_filters=networks.discriminator_filters,
            discriminator_input=networks.discriminator_input,
            levels=networks.levels,
            precision=networks.precision,
        )
        self.generator_optimizer = self._adam("generator_adam", networks.generator_lr, self.generator)
        self.discriminator_optimizer = self._adam("discriminator_adam", networks.discriminator_lr, self.discriminator)

    def discriminator_loss(self, real: Any, fake: Any) -> tuple[Any, dict[str, keras.KerasTensor]]:
        """Return D's loss over its logits of (x, y) and of (x, G(x)), and its figures."""
        loss = losses.discriminator_hinge(real, fake)
        # the gap is 0 when D cannot discriminate
        return loss, {"discriminator_loss": loss, "logit_gap": ops.mean(real) - ops.mean(fake)}

    def inputs(self, x: Any, noises: Any, severity: Any) -> Any:
        """Return the inputs of G; `severity` (N, 1) is used with several levels only."""
        return GeneratorInputs(x, noises, severity if self.settings.levels > 1 else None).listed()

    def discriminator_inputs(self, x: Any, y: Any, severity: Any) -> list[Any]:
        """Return the inputs of D for the pair (x, y)."""
        return [x, y, severity] if self.settings.levels > 1 else [x, y]

    def generator_loss(
        self, x: Any, y: Any, severity: Any, fake: Any, logits: Any | None
    ) -> tuple[Any, dict[str, keras.KerasTensor]]:
        """Return G's loss for `fake` = G(x), and its terms; `logits` = D(x, G(x)), or None without an adversary."""
        settings = self.settings
        terms = {
            "l1": losses.l1_loss(
                fake, self.explained(x, severity), span=settings.l1_scale, reduction=settings.l1_reduction
            )
        }
        loss = settings.lambda_l1 * terms["l1"]
        if logits is not None:
            terms["adversarial"] = losses.generator_adversarial(logits)
            loss += settings.adversarial_weight * terms["adversarial"]
        if settings.pixel_weight:
            terms["pixel_distance"] = losses.pixel_distance(fake, y, norm=settings.pixel_norm)
            loss += settings.pixel_weight * terms["pixel_distance"]
        return loss, {**terms, "generator_loss": loss}

    def explained(self, x: Any, severity: Any) -> Any:
        """Return the input of the global skip: x as in the paper, or x + T(x) with fitted coefficient curves."""
        if self.coefficient_curves is None:
            return x
        return x + self.coefficient_curves([x, severity] if self.settings.levels > 1 else x)

    def load_curves(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Load fitted coefficient curves, variable name → array, as constants of the training."""
        if self.coefficient_curves is None:
            raise ValueError("these networks were built without coefficient curves")
        for layer in (
            self.generator.get_layer(COEFFICIENT_CURVES),
            self.ema_generator.get_layer(COEFFICIENT_CURVES),
            self.coefficient_curves,
        ):
            for variable in layer.variables:
                variable.assign(weights[variable.name])

    def load_noise(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Load the fitted weights of the noise pyramid, name → array, as constants of the training."""
        for network in (self.generator, self.ema_generator):
            for variable in network.get_layer(NOISE_PYRAMID).variables:
                variable.assign(weights[variable.name])

    def generator_is_active(self, number: Any) -> Any:
        """Return 1 if G learns in step `number`, 0 during the warm-up of D."""
        return ops.cast(number >= self.settings.discriminator_warmup_steps, "float32")

    def decay(self, number: Any) -> Any:
        """Return the decay of the EMA in step `number`."""
        steps = ops.cast(number, "float32")
        return ops.minimum(self.settings.ema_decay, (1 + steps) / (EMA_START + steps))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the whole state for the next step."""
        return {
            f"{owner}/{index:03d}/{variable.path}": np.asarray(variable)
            for owner, variables in self._parts().items()
            for index, variable in enumerate(variables)
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a `state`; KeyError for a state of other networks."""
        for owner, variables in self._parts().items():
            for index, variable in enumerate(variables):
                variable.assign(state[f"{owner}/{index:03d}/{variable.path}"])

    def _parts(self) -> dict[str, list[Any]]:
        return {
            "generator": self.generator.variables,
            "ema_generator": self.ema_generator.variables,
            "discriminator": self.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }

    def _adam(self, name: str, rate: float, network: keras.Model) -> keras.optimizers.Adam:
        # without a name Keras numbers optimisers per process, and a checkpoint would fit the first trainer only
        optimizer = self.adam(rate, beta_1=self.settings.beta_1, beta_2=self.settings.beta_2, name=name)
        optimizer.build(network.trainable_variables)
        return optimizer


def make_trainer(networks: GANConfig) -> tuple[GANTrainer, str]:
    """Return a trainer of `networks`, a `loop.Trainer`, and a description of its devices, such as "2 GPU".

    PipelineError if the backend has no training step.
    """
    start_backend()
    if backend_name() == "tensorflow":
        import tensorflow as tf

        from distort_pipeline.training.tensorflow_step import TensorflowTrainer

        gpus = len(tf.config.list_physical_devices("GPU"))
        return TensorflowTrainer(networks), f"{gpus} GPU" if gpus else "CPU"
    if backend_name() == "jax":
        import jax

        from distort_pipeline.training.jax_step import JaxTrainer

        if jax.device_count() > 1:
            print(f"JAX trains on one of {jax.device_count()} devices; TensorFlow uses all", file=sys.stderr)
        return JaxTrainer(networks), "CPU, JAX" if jax.default_backend() == "cpu" else "1 GPU, JAX"
    raise PipelineError(f"KERAS_BACKEND is {backend_name()!r}; training needs tensorflow or jax")
