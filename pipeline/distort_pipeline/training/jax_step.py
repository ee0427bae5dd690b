"""The training step on JAX: D on (x, y) and (x, G(x)), then G through the updated D. TensorFlow is not imported.

The step is a pure function of the values of all variables; Keras keeps the values between steps. Noise maps are drawn
on the device by JAX's own generator: after a change of the backend, training continues with other noise of the same
kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypedDict

import jax
import jax.numpy as jnp
import keras
import numpy as np

from distort_pipeline.networks import losses
from distort_pipeline.networks.inputs import noise_shapes
from distort_pipeline.records import LEVELS_PER_UNIT, Images
from distort_pipeline.training.gan import GANConfig, GANTrainer, Severities

Values: TypeAlias = list[jax.Array]
Network: TypeAlias = tuple[Values, Values]  # the trainable variables, and the moving averages of batch norms
Figures: TypeAlias = dict[str, jax.Array]


class State(TypedDict):
    """The values of all variables."""

    generator: Network
    ema_generator: Network
    discriminator: Network
    generator_optimizer: Values
    discriminator_optimizer: Values


class JaxTrainer(GANTrainer):
    """Trains the GAN by JAX on a single device."""

    def __init__(self, networks: GANConfig) -> None:
        super().__init__(networks)
        self._step = jax.jit(self.update, donate_argnums=0)

    def step(self, pristine: Images, distorted: Images, severities: Severities, number: int) -> Figures:
        """Train on a batch of 8-bit crops, step `number`, and return the losses, as scalars still on the device."""
        values, figures = self._step(self.values(), pristine, distorted, severities, number)
        for variable, value in zip(jax.tree.leaves(self._variables()), jax.tree.leaves(values), strict=True):
            variable.assign(value)
        return figures

    def values(self) -> State:
        """Return the values of all variables for `update`."""
        return jax.tree.map(lambda variable: variable.value, self._variables())

    def update(
        self,
        values: State,
        pristine: jax.Array,
        distorted: jax.Array,
        severity: jax.Array,
        number: jax.Array,
    ) -> tuple[State, Figures]:
        """Return the values after a step, and its losses: a pure function."""
        x, y = (pixels.astype("float32") / LEVELS_PER_UNIT - 1 for pixels in (pristine, distorted))
        inputs = self.inputs(x, self._noises(number), severity)
        all_figures = {"true_residual": losses.l1_loss(y, x, span=255.0, reduction="mean")}
        weights, norms = values["generator"]
        fake, pull_back, norms = jax.vjp(
            lambda weights: self.generator.stateless_call(weights, norms, inputs, training=True), weights, has_aux=True
        )
        discriminator, discriminator_state = values["discriminator"], values["discriminator_optimizer"]
        if self.settings.adversarial_weight:
            discriminator, discriminator_state, discriminator_figures = self._discriminator_update(
                discriminator, discriminator_state, x, y, fake, severity
            )
            all_figures |= discriminator_figures
        fake_gradient, (discriminator, figures) = jax.grad(self._loss_of_fake, has_aux=True)(
            fake, discriminator, x, y, severity
        )
        (gradients,) = pull_back(
            jax.tree.map(lambda gradient: self.generator_is_active(number) * gradient, fake_gradient)
        )
        weights, generator_state = self.generator_optimizer.stateless_apply(
            values["generator_optimizer"], gradients, weights
        )
        decay = self.decay(number)
        ema_generator = jax.tree.map(
            lambda average, current: decay * average + (1 - decay) * current, values["ema_generator"], (weights, norms)
        )
        values = {
            "generator": (weights, norms),
            "ema_generator": ema_generator,
            "discriminator": discriminator,
            "generator_optimizer": generator_state,
            "discriminator_optimizer": discriminator_state,
        }
        return values, all_figures | figures

    def _discriminator_update(
        self, discriminator: Network, state: Values, x: jax.Array, y: jax.Array, fake: jax.Array, severity: jax.Array
    ) -> tuple[Network, Values, Figures]:
        def loss_of(weights: Values, norms: Values) -> tuple[jax.Array, tuple[Values, Figures]]:
            real, generated = self.discriminator_inputs(x, y, severity), self.discriminator_inputs(x, fake, severity)
            real_logits, norms = self.discriminator.stateless_call(weights, norms, real, training=True)
            fake_logits, norms = self.discriminator.stateless_call(weights, norms, generated, training=True)
            loss, figures = self.discriminator_loss(real_logits, fake_logits)
            return loss, (norms, figures)

        weights, norms = discriminator
        gradients, (norms, figures) = jax.grad(loss_of, has_aux=True)(weights, norms)
        weights, state = self.discriminator_optimizer.stateless_apply(state, gradients, weights)
        return (weights, norms), state, figures

    def _loss_of_fake(
        self, fake: jax.Array, discriminator: Network, x: jax.Array, y: jax.Array, severity: jax.Array
    ) -> tuple[jax.Array, tuple[Network, Figures]]:
        """Return G's loss as a function of G(x), and D with the moving averages of this pass."""
        weights, norms = discriminator
        logits = None
        if self.settings.adversarial_weight:
            generated = self.discriminator_inputs(x, fake, severity)
            logits, norms = self.discriminator.stateless_call(weights, norms, generated, training=True)
        loss, figures = self.generator_loss(x, y, severity, fake, logits)
        return loss, ((weights, norms), figures)

    def _noises(self, number: jax.Array) -> list[jax.Array]:
        """Return the noise maps of a step, drawn from (seed, step, scale) alone."""
        settings = self.settings
        step_key = jax.random.fold_in(jax.random.key(settings.seed), number)
        return [
            jax.random.normal(jax.random.fold_in(step_key, scale), (settings.batch_size, *shape))
            for scale, shape in enumerate(noise_shapes(settings.crop_px, settings.crop_px, settings.noise_channels))
        ]

    def _variables(self) -> State:
        """Return the variables in the structure of `update`'s values."""
        return {
            "generator": _split(self.generator),
            "ema_generator": _split(self.ema_generator),
            "discriminator": _split(self.discriminator),
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }


def _split(network: keras.Model) -> tuple[list[Any], list[Any]]:
    return network.trainable_variables, network.non_trainable_variables


def compiled_update(parts: Sequence[Any], losses: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    """Return a compiled step of `compact.Part`s: (batch, whether each moves, decay of averages) → figures."""
    variables = [
        (part.network.trainable_variables, part.optimizer.variables, part.averaged.variables if part.averaged else [])
        for part in parts
    ]
    trained = [variable for networks, _, _ in variables for variable in networks]

    def losses_of(weights: list[Values], batch: Mapping[str, jax.Array]) -> Any:
        with keras.StatelessScope(list(zip(trained, jax.tree.leaves(weights), strict=True))):
            values, figures = losses(batch)
        return tuple(values), dict(figures)

    def update(state: list[Any], batch: Mapping[str, jax.Array], moves: list[Any], decay: jax.Array) -> Any:
        values, pull_back, figures = jax.vjp(partial(losses_of, batch=batch), [part[0] for part in state], has_aux=True)
        after = []
        for number, (part, before) in enumerate(zip(parts, state, strict=True)):
            weights, moments, means = before
            (gradients,) = pull_back(tuple(jnp.full_like(value, row == number) for row, value in enumerate(values)))
            weights, moments = part.optimizer.stateless_apply(moments, gradients[number], weights)
            if means:
                means = [decay * mean + (1 - decay) * weight for mean, weight in zip(means, weights, strict=True)]
            moved = (weights, moments, means)
            after.append(jax.tree.map(partial(jnp.where, moves[number]), moved, before))
        return after, figures

    compiled = jax.jit(update)

    def step(batch: Mapping[str, Any], moves: Sequence[bool], decay: float) -> Figures:
        state = jax.tree.map(lambda variable: variable.value, variables)
        arrays = {name: np.asarray(values) for name, values in batch.items()}
        after, figures = compiled(state, arrays, [np.array(moved) for moved in moves], np.float32(decay))
        for variable, value in zip(jax.tree.leaves(variables), jax.tree.leaves(after), strict=True):
            variable.assign(value)
        stepped: Figures = figures
        return stepped

    return step
