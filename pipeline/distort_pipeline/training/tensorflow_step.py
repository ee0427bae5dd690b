"""One training step on TensorFlow: D on (x, y) and (x, G(x)), then G through the updated D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distort_pipeline.networks import losses
from distort_pipeline.networks.discriminator import build_discriminator
from distort_pipeline.networks.generator import (
    NO_TRANSFORM,
    RESPONSES,
    build_generator,
    generator_inputs,
    noise_shapes,
)
from distort_pipeline.ranges import GREYS_PER_UNIT, Pictures

AVERAGING_START = 10  # the average's decay grows as (1 + t) / (10 + t): early averages forget the start


@dataclass(frozen=True)
class Networks:
    """The settings of both networks, their losses and their optimisers; see TrainConfig for each."""

    base_filters: int
    discriminator_filters: int
    noise_channels: int
    pair_view: str
    precision: str
    crop_px: int
    batch: int
    generator_rate: float
    discriminator_rate: float
    beta_1: float
    beta_2: float
    sparsity_weight: float
    sparsity_span: float
    sparsity_reduction: str
    averaging: float
    seed: int
    transform: str = NO_TRANSFORM
    adversarial_weight: float = 1.0
    pixel_weight: float = 0.0
    pixel_norm: str = "l1"


class TensorflowTrainer:
    """Both networks, their optimisers and the moving average of G's weights."""

    def __init__(self, networks: Networks) -> None:
        self.settings = networks
        keras.utils.set_random_seed(networks.seed % 2**32)
        self.strategy = _strategy()
        replicas = self.strategy.num_replicas_in_sync
        if networks.batch % replicas:
            raise ValueError(f"a batch of {networks.batch} cannot be split over {replicas} GPUs")
        self._replica_batch = networks.batch // replicas
        with self.strategy.scope():
            self.generator, self.averaged = (
                build_generator(
                    base_filters=networks.base_filters,
                    noise_channels=networks.noise_channels,
                    transform=networks.transform,
                    precision=networks.precision,
                )
                for _ in range(2)
            )
            self.averaged.set_weights(self.generator.get_weights())
            self.discriminator = build_discriminator(
                base_filters=networks.discriminator_filters,
                pair_view=networks.pair_view,
                precision=networks.precision,
            )
            self.generator_optimizer = self._adam("generator_adam", networks.generator_rate, self.generator)
            self.discriminator_optimizer = self._adam(
                "discriminator_adam", networks.discriminator_rate, self.discriminator
            )
        self._step = tf.function(self._distributed_step, autograph=False)

    def step(self, pristine: Pictures, distorted: Pictures, number: int) -> dict[str, Any]:
        """Train on one batch of 8-bit crops, the `number`-th, and return the losses, as scalars still on the device."""
        found: dict[str, Any] = self._step(tf.constant(pristine), tf.constant(distorted), tf.constant(number, tf.int64))
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on."""
        return {
            f"{part}/{place:03d}/{variable.path}": np.asarray(variable)
            for part, variables in self._parts().items()
            for place, variable in enumerate(variables)
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a `state`; KeyError if it is of other networks."""
        for part, variables in self._parts().items():
            for place, variable in enumerate(variables):
                variable.assign(state[f"{part}/{place:03d}/{variable.path}"])

    def _parts(self) -> dict[str, list[Any]]:
        return {
            "generator": self.generator.variables,
            "averaged": self.averaged.variables,
            "discriminator": self.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }

    def _adam(self, name: str, rate: float, network: keras.Model) -> keras.optimizers.Adam:
        # without a name Keras counts them through the process, and a checkpoint would fit the first trainer only
        optimizer = keras.optimizers.Adam(rate, beta_1=self.settings.beta_1, beta_2=self.settings.beta_2, name=name)
        optimizer.build(network.trainable_variables)
        return optimizer

    def _distributed_step(self, pristine: Any, distorted: Any, number: Any) -> dict[str, Any]:
        if self.strategy.num_replicas_in_sync == 1:
            return self._replica_step(pristine, distorted, number)

        def shares(pictures: Any) -> Any:
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: pictures[context.replica_id_in_sync_group :: context.num_replicas_in_sync]
            )

        found = self.strategy.run(self._replica_step, (shares(pristine), shares(distorted), number))
        return {name: self.strategy.reduce("MEAN", value, axis=None) for name, value in found.items()}

    def _replica_step(self, pristine: Any, distorted: Any, number: Any) -> dict[str, Any]:
        x, y = (tf.cast(pixels, tf.float32) / GREYS_PER_UNIT - 1 for pixels in (pristine, distorted))
        settings, noises = self.settings, self._noises(number)
        explained = self._explained(x)
        found = {"true_residual": losses.sparsity(y, x, span=255.0, reduction="mean")}
        with tf.GradientTape() as generator_tape:
            fake = self.generator(generator_inputs(x, noises), training=True)
            found["sparsity"] = losses.sparsity(
                fake, explained, span=settings.sparsity_span, reduction=settings.sparsity_reduction
            )
            loss = settings.sparsity_weight * found["sparsity"]
            if settings.adversarial_weight:
                with generator_tape.stop_recording():
                    found |= self._discriminator_update(x, y, tf.stop_gradient(fake))
                found["adversarial"] = losses.generator_adversarial(self.discriminator([x, fake], training=True))
                loss += settings.adversarial_weight * found["adversarial"]
            if settings.pixel_weight:
                found["pixel_distance"] = losses.pixel_distance(fake, y, norm=settings.pixel_norm)
                loss += settings.pixel_weight * found["pixel_distance"]
        _apply(self.generator_optimizer, generator_tape, loss, self.generator, self._share())
        self._average(number)
        return {**found, "generator_loss": loss}

    def _discriminator_update(self, x: Any, y: Any, fake: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            real_logits = self.discriminator([x, y], training=True)
            fake_logits = self.discriminator([x, fake], training=True)
            loss = losses.discriminator_hinge(real_logits, fake_logits)
        _apply(self.discriminator_optimizer, tape, loss, self.discriminator, self._share())
        gap = tf.reduce_mean(real_logits) - tf.reduce_mean(fake_logits)  # 0 when D cannot tell
        return {"discriminator_loss": loss, "logit_gap": gap}

    def _explained(self, x: Any) -> Any:
        """Return what G adds its learned residual to: x, or x + T(x) where responses have been fitted."""
        if self.settings.transform == NO_TRANSFORM:
            return x
        return x + self.generator.get_layer(RESPONSES)(x)

    def _noises(self, number: Any) -> list[Any]:
        """Return the noise maps of a step, drawn from (seed, step, scale, replica) alone."""
        shapes = noise_shapes(self.settings.crop_px, self.settings.crop_px, self.settings.noise_channels)
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64) if context else tf.constant(0, tf.int64)
        first = (number * self.strategy.num_replicas_in_sync + replica) * len(shapes)
        return [
            tf.random.stateless_normal(
                (self._replica_batch, *shape), seed=tf.stack([tf.constant(self.settings.seed, tf.int64), first + scale])
            )
            for scale, shape in enumerate(shapes)
        ]

    def _average(self, number: Any) -> None:
        steps = tf.cast(number, tf.float32)
        decay = tf.minimum(self.settings.averaging, (1 + steps) / (AVERAGING_START + steps))
        for average, current in zip(self.averaged.variables, self.generator.variables, strict=True):
            average.assign(decay * average.value + (1 - decay) * current.value)

    def _share(self) -> float:
        return 1 / self.strategy.num_replicas_in_sync


def _apply(optimizer: Any, tape: tf.GradientTape, loss: Any, network: keras.Model, share: float) -> None:
    variables = network.trainable_variables
    optimizer.apply([gradient * share for gradient in tape.gradient(loss, variables)], variables)


def _strategy() -> Any:
    """Return one device's strategy, or MirroredStrategy where there are several GPUs."""
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
