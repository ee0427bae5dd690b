"""The training step on TensorFlow: D on (x, y) and (x, G(x)), then G through the updated D."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distort_pipeline.networks import losses
from distort_pipeline.networks.inputs import noise_shapes
from distort_pipeline.records import LEVELS_PER_UNIT, Images
from distort_pipeline.training.gan import GANConfig, GANTrainer, Severities


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam with TensorFlow's fused update: D. P. Kingma, J. L. Ba, "Adam", ICLR 2015."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one `variable` and its two moments."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:  # mirrored variables
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        first, second = (moments[index].value for moments in (self._momentums, self._velocities))
        rate, beta_1, beta_2, epsilon = (
            tf.cast(number, variable.dtype) for number in (learning_rate, self.beta_1, self.beta_2, self.epsilon)
        )
        steps = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=beta_1**steps,
            beta2_power=beta_2**steps,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


class TensorflowTrainer(GANTrainer):
    """Trains the GAN by TensorFlow."""

    adam = FusedAdam

    def __init__(self, networks: GANConfig) -> None:
        self.strategy = _strategy()
        replicas = self.strategy.num_replicas_in_sync
        if networks.batch_size % replicas:
            raise ValueError(f"a batch of {networks.batch_size} cannot be split over {replicas} GPUs")
        self._replica_batch = networks.batch_size // replicas
        with self.strategy.scope():
            super().__init__(networks)
        # MirroredStrategy runs without XLA; XLA draws other noise of the same kind
        self._step = tf.function(self._distributed_step, autograph=False, jit_compile=networks.xla and replicas == 1)

    def step(self, pristine: Images, distorted: Images, severities: Severities, number: int) -> dict[str, tf.Tensor]:
        """Train on a batch of 8-bit crops, step `number`, and return the losses, as scalars still on the device."""
        batch = (tf.constant(array) for array in (pristine, distorted, severities))
        figures: dict[str, tf.Tensor] = self._step(*batch, tf.constant(number, tf.int64))
        return figures

    def _distributed_step(self, pristine: Any, distorted: Any, severities: Any, number: Any) -> dict[str, tf.Tensor]:
        if self.strategy.num_replicas_in_sync == 1:
            return self._replica_step(pristine, distorted, severities, number)

        def shares(batch: Any) -> Any:
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: batch[context.replica_id_in_sync_group :: context.num_replicas_in_sync]
            )

        inputs = (shares(pristine), shares(distorted), shares(severities), number)
        figures = self.strategy.run(self._replica_step, inputs)
        return {name: self.strategy.reduce("MEAN", value, axis=None) for name, value in figures.items()}

    def _replica_step(self, pristine: Any, distorted: Any, severity: Any, number: Any) -> dict[str, tf.Tensor]:
        x, y = (tf.cast(pixels, tf.float32) / LEVELS_PER_UNIT - 1 for pixels in (pristine, distorted))
        noises = self._noises(number)
        all_figures = {"true_residual": losses.l1_loss(y, x, span=255.0, reduction="mean")}
        with tf.GradientTape() as generator_tape:
            fake = self.generator(self.inputs(x, noises, severity), training=True)
            logits = None
            if self.settings.adversarial_weight:
                with generator_tape.stop_recording():
                    all_figures |= self._discriminator_update(x, y, tf.stop_gradient(fake), severity)
                logits = self.discriminator(self.discriminator_inputs(x, fake, severity), training=True)
            loss, figures = self.generator_loss(x, y, severity, fake, logits)
        _apply(
            self.generator_optimizer,
            generator_tape,
            loss,
            self.generator,
            self._share() * self.generator_is_active(number),
        )
        self._average(number)
        return all_figures | figures

    def _discriminator_update(self, x: Any, y: Any, fake: Any, severity: Any) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            real_logits = self.discriminator(self.discriminator_inputs(x, y, severity), training=True)
            fake_logits = self.discriminator(self.discriminator_inputs(x, fake, severity), training=True)
            loss, figures = self.discriminator_loss(real_logits, fake_logits)
        _apply(self.discriminator_optimizer, tape, loss, self.discriminator, self._share())
        return figures

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
        decay = self.decay(number)
        for average, current in zip(self.ema_generator.variables, self.generator.variables, strict=True):
            average.assign(decay * average.value + (1 - decay) * current.value)

    def _share(self) -> float:
        return 1 / self.strategy.num_replicas_in_sync


def _apply(optimizer: Any, tape: tf.GradientTape, loss: Any, network: keras.Model, share: float) -> None:
    variables = network.trainable_variables
    optimizer.apply([gradient * share for gradient in tape.gradient(loss, variables)], variables)


def _strategy() -> Any:
    """Return the single-device strategy, or MirroredStrategy with several GPUs."""
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def compiled_update(parts: Sequence[Any], losses: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    """Return a compiled step of `compact.Part`s: (batch, whether each moves, decay of averages) → figures."""

    def update(batch: dict[str, tf.Tensor], moves: list[tf.Tensor], decay: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            values, figures = losses(batch)
        for part, loss, moved in zip(parts, values, moves, strict=True):
            variables = part.network.trainable_variables
            gradients = tape.gradient(loss, variables)
            tf.cond(moved, lambda p=part, g=gradients, v=variables: _moved(p, g, v, decay), lambda: tf.constant(0))
        return dict(figures)

    compiled = tf.function(update, autograph=False)

    def step(batch: Mapping[str, Any], moves: Sequence[bool], decay: float) -> dict[str, tf.Tensor]:
        tensors = {name: tf.constant(np.asarray(values)) for name, values in batch.items()}
        figures: dict[str, tf.Tensor] = compiled(tensors, [tf.constant(moved) for moved in moves], tf.constant(decay))
        return figures

    return step


def _moved(part: Any, gradients: Any, variables: Any, decay: Any) -> tf.Tensor:
    part.optimizer.apply(gradients, variables)
    if part.averaged is not None:
        for average, current in zip(part.averaged.variables, part.network.variables, strict=True):
            average.assign(decay * average + (1 - decay) * current)
    return tf.constant(0)
