"""Trains the compact network: first towards the mean, then against a discriminator that cannot wreck it.

Phase "mean": ℓ1 through the codec's straight-through stage, noise inputs at zero, so that what reads them stays as it
was drawn and is alive later. Phase "adversary": paired relativistic loss (the same x on both sides cancels content;
Jolicoeur-Martineau 2018), D warmed up until it beats chance and G held whenever it does not, R1 and R2 (Mescheder et
al. 2018) by finite differences every few steps, a low weight on powers by octave and luminance. D and G learn from one
pass through D. After validations that are worse, the network goes back to the best, and on at half the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distort_pipeline.backend import has_bfloat16
from distort_pipeline.components.jpeg_stage import JpegStage, StraightThroughJpeg
from distort_pipeline.networks.compact import CompactSize, build_compact_discriminator, position_maps
from distort_pipeline.networks.compact_body import network_inputs, new_body
from distort_pipeline.networks.octave_powers import power_mismatch
from distort_pipeline.pixels import LEVELS_PER_UNIT
from distort_pipeline.training.compact_crops import Batch, CompactCrops

CHANCE = float(np.log(2))  # the paired relativistic loss of a D that knows nothing
PATIENCE = 4  # validations that are worse, before the network goes back
LEAST_RATE = 0.2  # of the first learning rate: slower than this nothing more is gained
ORDER = ("pristine", "base", "distorted", "noise", "free", "latent", "offsets", "sizes")


@dataclass(frozen=True)
class CompactSettings:
    """One default for every distortion."""

    mean_lr: float = 1e-3
    generator_lr: float = 1e-3
    discriminator_lr: float = 5e-4
    ema_decay: float = 0.99
    power_weight: float = 0.3
    penalty: float = 0.002  # of R1 and R2, on each logit
    penalty_every: int = 4
    penalty_reach: float = 0.1  # of the finite difference, in units of the scaled residual
    informed: float = 0.5  # D's loss below which G may move at first
    lost: float = 0.688  # D's loss above which G is held
    warmup_steps: int = 200  # of D alone, at most
    seed: int = 0


class CompactTrainer:
    """The compact network, its average, a discriminator, and their steps on TensorFlow."""

    def __init__(self, settings: CompactSettings, *, residual_scale: float, jpeg: JpegStage | None) -> None:
        keras.utils.set_random_seed(settings.seed)
        self.settings, self.residual_scale = settings, residual_scale
        self._jpeg = StraightThroughJpeg(jpeg) if jpeg else None
        precision = "mixed_bfloat16" if has_bfloat16() else "float32"
        self.network, self.averaged = new_body(precision=precision), new_body()
        self._first = [np.array(v) for v in self.network.variables]
        self.discriminator = build_compact_discriminator(size=CompactSize(), precision=precision)
        self.mean_optimizer = keras.optimizers.Adam(settings.mean_lr, 0.9, 0.99)
        self.generator_optimizer = keras.optimizers.Adam(settings.generator_lr, 0.0, 0.99)
        self.discriminator_optimizer = keras.optimizers.Adam(settings.discriminator_lr, 0.0, 0.99)
        for optimizer in (self.mean_optimizer, self.generator_optimizer):
            optimizer.build(self.network.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self._mean_step = tf.function(self._mean, autograph=False)
        self._adversarial_step = tf.function(self._adversarial, autograph=False)
        self.average(0.0)

    def start_anew(self) -> None:
        """Give the network and its average the weights of the beginning: the residual is 0."""
        _assign(self.network, self._first)
        self.average(0.0)

    def start_from(self, network: keras.Model) -> None:
        """Give the network and its average the weights of `network`."""
        _assign(self.network, network.variables)
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
            anneal = rate * min(1.0, 2.0 * (1 - step / steps) + 0.05)
            self.generator_optimizer.learning_rate.assign(settings.generator_lr * anneal)
            self.discriminator_optimizer.learning_rate.assign(settings.discriminator_lr * anneal)
            moving = moving or running < settings.informed or step >= settings.warmup_steps
            go = moving and running < settings.lost
            held += not go
            figures = self._adversarial_step(
                _tensors(crops.at(1_000_000 + step)),
                tf.constant(go),
                tf.constant(settings.ema_decay if go else 1.0),
                tf.constant(step % settings.penalty_every == 0),
            )
            running = 0.97 * running + 0.03 * float(figures["discriminator"])
            if (step + 1) % every == 0 or step + 1 == steps:
                score = validate(step + 1)
                say(
                    f"step {step + 1}: score {score:.3f} (best {best:.3f} at {best_step}), D {running:.3f}, "
                    f"power {float(figures['power']):.3f}, G held {held}"
                )
                if score < best:
                    best, best_step, worse = score, step + 1, 0
                    kept = [np.array(v) for v in self.averaged.variables]
                elif moving:
                    worse += 1
                if worse == PATIENCE:  # go back, and more slowly
                    _assign(self.network, kept)
                    self.average(0.0)
                    rate, worse = rate / 2, 0
                if rate < LEAST_RATE:
                    break
        _assign(self.averaged, kept)
        return best_step

    def _generated(self, given: dict[str, Any], *, stochastic: bool) -> Any:
        """Return generated levels (N, H, W, 3) behind the codec."""
        noise, free, latent = given["noise"], given["free"], given["latent"]
        if not stochastic:
            noise, free, latent = tf.zeros_like(noise), tf.zeros_like(free), tf.zeros_like(latent)
        inputs = network_inputs(
            given["pristine"], given["base"], noise, free, latent, given["offsets"], given["sizes"], self.residual_scale
        )
        levels = given["base"] + noise + LEVELS_PER_UNIT * self.network(inputs)
        return self._jpeg(levels) if self._jpeg else levels

    def _mean(self, given: dict[str, Any], decay: Any) -> Any:
        with tf.GradientTape() as tape:
            generated = self._generated(given, stochastic=False)
            loss = tf.reduce_mean(tf.abs(generated - given["distorted"])) / self.residual_scale
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
        twice = [tf.concat([part, part], 0) for part in (x, position, given["base"])]
        with tf.GradientTape(persistent=True) as tape:
            generated = self._generated(given, stochastic=True)
            images = tf.concat([given["distorted"], generated], 0)
            logits = self._judge(images, *twice)
            real, fake = tf.split(logits, 2)
            d_loss = tf.reduce_mean(tf.nn.softplus(fake - real))
            g_loss = tf.reduce_mean(tf.nn.softplus(real - fake))
            power = power_mismatch(given["distorted"] - given["base"], generated - given["base"], given["pristine"])
            penalty = tf.cond(
                penalise, lambda: self._penalty(tf.stop_gradient(images), twice, logits), lambda: tf.constant(0.0)
            )
            d_total = d_loss + settings.penalty * settings.penalty_every * penalty
            g_total = g_loss + settings.power_weight * power
        d_variables, g_variables = self.discriminator.trainable_variables, self.network.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(d_total, d_variables), d_variables)

        def move() -> Any:
            self.generator_optimizer.apply(tape.gradient(g_total, g_variables), g_variables)
            self.average(decay)
            return tf.constant(0)

        tf.cond(go, move, lambda: tf.constant(0))
        return {"discriminator": d_loss, "generator": g_loss, "power": power}

    def _judge(self, images: Any, pristine: Any, position: Any, base: Any) -> Any:
        """Return D's logits of distorted `images` (N, H, W, 3) in levels."""
        return self.discriminator([pristine, (images - base) / self.residual_scale, images, position])

    def _penalty(self, images: Any, others: list[Any], logits: Any) -> Any:
        """Return the mean squared slope of each logit along a random direction of the residual: R1 and R2."""
        reach = self.settings.penalty_reach
        moved = self._judge(images + reach * self.residual_scale * tf.random.normal(tf.shape(images)), *others)
        return tf.reduce_mean(tf.square((moved - logits) / reach))


def _tensors(batch: Batch) -> dict[str, Any]:
    return {name: tf.constant(batch[name]) for name in ORDER}


def _assign(network: keras.Model, values: Sequence[Any]) -> None:
    for variable, value in zip(network.variables, values, strict=True):
        variable.assign(value)
