"""Trains the compact network: first towards the mean, then against a discriminator that cannot wreck it.

Phase "mean": ℓ1 through the codec's straight-through stage, noise inputs at zero, so that what reads them stays as it
was drawn and is alive later. Phase "adversary": paired relativistic loss (the same x on both sides cancels content),
D warmed up until it beats chance and G held whenever it does not, R1 and R2 by finite differences every few steps, a
low weight on powers by octave and luminance. D and G learn from one pass through D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distort_pipeline.components.jpeg_stage import JpegStage, StraightThroughJpeg
from distort_pipeline.networks.compact import position_maps
from distort_pipeline.networks.compact_body import network_inputs, new_body
from distort_pipeline.networks.compact_discriminator import build_compact_discriminator
from distort_pipeline.networks.octave_powers import power_mismatch
from distort_pipeline.pixels import LEVELS_PER_UNIT
from distort_pipeline.training.compact_crops import Batch, CompactCrops

CHANCE = float(np.log(2))  # the paired relativistic loss of a D that knows nothing
ORDER = ("pristine", "base", "distorted", "noise", "free", "latent", "offsets", "sizes")


@dataclass(frozen=True)
class CompactSettings:
    """One default for every distortion."""

    mean_lr: float = 1e-3
    generator_lr: float = 2e-4
    discriminator_lr: float = 4e-4
    ema_decay: float = 0.99
    power_weight: float = 0.1
    penalty: float = 0.002  # of R1 and R2, on each patch logit
    penalty_every: int = 4
    penalty_reach: float = 0.1  # of the finite difference, in units of the scaled residual
    informed: float = 0.66  # D's loss below which G may move at first
    lost: float = 0.688  # D's loss above which G is held
    warmup_steps: int = 250  # of D alone, at most
    seed: int = 0


@dataclass
class Told:
    """What a phase came to."""

    history: list[dict[str, float]] = field(default_factory=list)


class CompactTrainer:
    """The compact network, its average, a discriminator, and their steps on TensorFlow."""

    def __init__(
        self, settings: CompactSettings, *, residual_scale: float, noise_scale: float, jpeg: JpegStage | None
    ) -> None:
        keras.utils.set_random_seed(settings.seed)
        self.settings, self.noise_scale = settings, noise_scale
        self.residual_scale = tf.constant(residual_scale)
        self._jpeg = StraightThroughJpeg(jpeg) if jpeg else None
        self.network, self.averaged = new_body(), new_body()
        self.discriminator = build_compact_discriminator()
        self.mean_optimizer = keras.optimizers.Adam(settings.mean_lr, 0.9, 0.99)
        self.generator_optimizer = keras.optimizers.Adam(settings.generator_lr, 0.0, 0.99)
        self.discriminator_optimizer = keras.optimizers.Adam(settings.discriminator_lr, 0.0, 0.99)
        for optimizer in (self.mean_optimizer, self.generator_optimizer):
            optimizer.build(self.network.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self._mean_step = tf.function(self._mean, autograph=False)
        self._adversarial_step = tf.function(self._adversarial, autograph=False)
        self.average(0.0)

    def start_from(self, network: keras.Model) -> None:
        """Give the network and its average the weights of `network`."""
        for variable, value in zip(self.network.variables, network.variables, strict=True):
            variable.assign(value)
        self.average(0.0)

    def average(self, decay: float) -> None:
        """Move the averaged network towards the present one."""
        for average, current in zip(self.averaged.variables, self.network.variables, strict=True):
            average.assign(decay * average + (1 - decay) * current)

    def train_mean(self, crops: CompactCrops, steps: int, say: Callable[[int, float], None]) -> None:
        """Train towards the conditional mean (the median, by ℓ1) for `steps`, the rate annealed to a twentieth."""
        running = 0.0
        for step in range(steps):
            share = step / max(steps, 1)
            self.mean_optimizer.learning_rate.assign(
                self.settings.mean_lr * min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * share)))
            )
            loss = float(self._mean_step(_tensors(crops.at(step)), tf.constant(0.98 if step > 50 else 0.0)))
            running = loss if step == 0 else 0.98 * running + 0.02 * loss
            if (step + 1) % 100 == 0:
                say(step + 1, running)

    def train_adversary(
        self,
        crops: CompactCrops,
        steps: int,
        validate: Callable[[int], float],
        *,
        every: int,
        say: Callable[[str], None],
    ) -> int:
        """Train against D for `steps`; the averaged network ends as the best by `validate`. Return the step of that."""
        settings = self.settings
        best, best_step, kept = validate(0), 0, [np.array(v) for v in self.network.variables]
        running, moving, worse, held, rate = CHANCE, False, 0, 0, 1.0
        for step in range(steps):
            anneal = rate * min(1.0, 2.0 * (1 - step / steps) + 0.1)
            self.generator_optimizer.learning_rate.assign(settings.generator_lr * anneal)
            self.discriminator_optimizer.learning_rate.assign(settings.discriminator_lr * anneal)
            if not moving:
                moving = running < settings.informed or step >= settings.warmup_steps
            go = moving and running < settings.lost
            held += not go
            figures = self._adversarial_step(
                _tensors(crops.at(1_000_000 + step)),
                tf.constant(float(go)),
                tf.constant(settings.ema_decay if go else 1.0),
                tf.constant(step % settings.penalty_every == 0),
            )
            running = 0.97 * running + 0.03 * float(figures["discriminator"])
            if (step + 1) % every == 0 or step + 1 == steps:
                found = validate(step + 1)
                say(
                    f"step {step + 1}: score {found:.4f} (best {best:.4f} at {best_step}), D {running:.3f}, "
                    f"power {float(figures['power']):.4f}, G held {held}"
                )
                if found < best:
                    best, best_step, worse = found, step + 1, 0
                    kept = [np.array(v) for v in self.averaged.variables]
                elif moving:
                    worse += 1
                if worse == 4:  # go back, and more slowly
                    for variable, value in zip(self.network.variables, kept, strict=True):
                        variable.assign(value)
                    self.average(0.0)
                    rate, worse = rate / 2, 0
        for variable, value in zip(self.averaged.variables, kept, strict=True):
            variable.assign(value)
        return best_step

    def _made(self, given: dict[str, Any], *, stochastic: bool) -> Any:
        """Return generated levels (N, H, W, 3) behind the codec."""
        noise, free, latent = given["noise"], given["free"], given["latent"]
        if not stochastic:
            noise, free, latent = tf.zeros_like(noise), tf.zeros_like(free), tf.zeros_like(latent)
        inputs = network_inputs(
            given["pristine"], given["base"], noise, free, latent, given["offsets"], given["sizes"], self.noise_scale
        )
        levels = given["base"] + noise + LEVELS_PER_UNIT * self.network(inputs)
        return self._jpeg(levels) if self._jpeg else levels

    def _mean(self, given: dict[str, Any], decay: Any) -> Any:
        with tf.GradientTape() as tape:
            made = self._made(given, stochastic=False)
            loss = tf.reduce_mean(tf.abs(made - given["distorted"])) / self.residual_scale
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        self.mean_optimizer.apply(gradients, variables)
        self.average(decay)
        return loss

    def _adversarial(self, given: dict[str, Any], go: Any, decay: Any, penalise: Any) -> dict[str, Any]:
        settings = self.settings
        x = given["pristine"] / LEVELS_PER_UNIT - 1.0
        side = x.shape[1]
        position = position_maps(given["offsets"], given["sizes"], side, side)
        seen, where = tf.concat([x, x], 0), tf.concat([position, position], 0)
        with tf.GradientTape(persistent=True) as tape:
            made = self._made(given, stochastic=True)
            residuals = tf.concat([given["distorted"], made], 0) - tf.concat([given["base"], given["base"]], 0)
            scaled = residuals / self.residual_scale
            logits = self.discriminator([seen, scaled, where])
            real, fake = tf.split(logits, 2)
            d_loss = tf.reduce_mean(tf.nn.softplus(fake - real))
            g_loss = tf.reduce_mean(tf.nn.softplus(real - fake))
            power = power_mismatch(given["distorted"] - given["base"], made - given["base"], given["pristine"])
            penalty = tf.cond(
                penalise,
                lambda: self._penalty(tf.stop_gradient(seen), tf.stop_gradient(scaled), where, logits),
                lambda: tf.constant(0.0),
            )
            d_total = d_loss + settings.penalty * settings.penalty_every * penalty
            g_total = g_loss + settings.power_weight * power
        d_variables, g_variables = self.discriminator.trainable_variables, self.network.trainable_variables
        d_gradients = tape.gradient(d_total, d_variables)
        self.discriminator_optimizer.apply(d_gradients, d_variables)

        def move() -> Any:
            gradients = tape.gradient(g_total, g_variables)
            self.generator_optimizer.apply(gradients, g_variables)
            self.average(decay)
            return tf.constant(0)

        tf.cond(go > 0, move, lambda: tf.constant(0))
        return {"discriminator": d_loss, "generator": g_loss, "power": power}

    def _penalty(self, seen: Any, scaled: Any, where: Any, logits: Any) -> Any:
        """Return the mean squared slope of each patch logit along a random direction of the residual: R1 and R2."""
        reach = self.settings.penalty_reach
        moved = self.discriminator([seen, scaled + reach * tf.random.normal(tf.shape(scaled)), where])
        return tf.reduce_mean(tf.square((moved - logits) / reach))


def _tensors(batch: Batch) -> dict[str, Any]:
    return {name: tf.constant(batch[name]) for name in ORDER}
