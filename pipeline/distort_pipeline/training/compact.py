"""Trains the compact network: first towards the mean, then against a discriminator that cannot wreck it.

MeanTrainer: ℓ1 before the codec, noise inputs at zero, so that what reads them stays as it was drawn and is alive
later. AdversarialTrainer: paired relativistic loss (the same x on both sides cancels content;
Jolicoeur-Martineau 2018), D warmed up until it beats chance and G held whenever it does not, R1 and R2 (Mescheder et
al. 2018) by finite differences every few steps; G also matches the means of D's features (Salimans et al. 2016) and
powers by octave and luminance. D and G learn from one pass through D. After validations that are worse, the network
goes back to the best, and on at half the rate.

Random aligned crops for the compact networks: the batch of a step, from the seed and the step alone.

Noise is Gaussian, given its activity: of two draws n1 and n2 made once for each patch, cos(a) n1 + sin(a) n2 is another
draw with the same covariance for any angle, which costs a multiplication in place of a coloured filter bank a crop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.models.store import read_arrays
from distort_pipeline.networks.backend import backend_name, bfloat16_is_faster, keras, ops
from distort_pipeline.networks.compact import (
    INITIALISATION,
    CompactSize,
    NetworkBatch,
    build_compact_discriminator,
    network_inputs,
    new_body,
    position_maps,
)
from distort_pipeline.networks.jpeg_stage import DifferentiableJpeg, JpegStage
from distort_pipeline.networks.losses import power_mismatch
from distort_pipeline.networks.patches import FREE_CHANNELS, GRID_PX, LATENTS, Levels, PairPatch
from distort_pipeline.networks.signal_noise import Fields
from distort_pipeline.process import prefetch
from distort_pipeline.records import LEVELS_PER_UNIT, make_rng

if TYPE_CHECKING:
    from distort_pipeline.networks.composed import ComposedGenerator

Inputs = dict[str, NDArray[np.generic]]
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class CompactBatch:
    """The crops of one training step, as the trainers take them."""

    step: int
    inputs: tuple[Inputs]


class CompactCrops:
    """Crops of `patches` with their `bases`; `give_noise` makes the draws that later crops carry."""

    def __init__(
        self, patches: Sequence[PairPatch], bases: Sequence[Levels], *, crop_px: int, batch: int, seed: int
    ) -> None:
        usable = [n for n, patch in enumerate(patches) if min(patch.pristine.shape[:2]) >= crop_px]
        self.patches = [patches[n] for n in usable]
        self.bases = [bases[n].astype(np.float16) if _is_8bit(bases[n]) else bases[n] for n in usable]
        self.crop_px, self.batch, self.seed = crop_px, batch, seed
        self._areas = np.array([patch.pristine.shape[0] * patch.pristine.shape[1] for patch in self.patches], float)
        self._draws: list[tuple[NDArray[np.float16], NDArray[np.float16]]] | None = None
        self._log_gains: NDArray[np.float32] | None = None

    def give_noise(self, generator: ComposedGenerator, *, seed: int) -> None:
        """Draw the noise of `generator` twice for every patch, with its image's gain; crops follow another seed."""
        self.seed = seed
        if generator.noise is None:
            return
        self._log_gains = generator.noise.log_gains
        self._draws = []
        for number, (patch, base) in enumerate(zip(self.patches, self.bases, strict=True)):
            gain = float(self._log_gains[patch.image % len(self._log_gains)])
            levels = base.astype(np.float32)
            fields = [Fields.of(2 * number + n, 0, 0, *levels.shape[:2]) for n in range(2)]
            fields[1] = replace(fields[1], activity=fields[0].activity)  # of both draws: only they are Gaussian
            one, other = (generator.noise.draw(levels, make_rng(2 * number + n), gain, fields[n]) for n in range(2))
            self._draws.append((one.astype(np.float16), other.astype(np.float16)))

    def prefetch(self, first: int, last: int) -> Generator[CompactBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, made by a thread during training."""
        batches = (CompactBatch(step, (self.at(step),)) for step in range(first, last))
        yield from prefetch(batches, BATCHES_AHEAD, name="crops")

    def at(self, step: int) -> Inputs:
        """Return the crops of `step`: pristine, base, distorted and noise (N, H, W, 3) in levels, and the rest."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, step])))
        side, count = self.crop_px, self.batch
        pixels = {
            name: np.zeros((count, side, side, 3), np.float32) for name in ("pristine", "base", "distorted", "noise")
        }
        offsets, sizes = np.zeros((count, 2), np.float32), np.zeros((count, 2), np.float32)
        latent = rng.standard_normal((count, LATENTS), dtype=np.float32)
        chosen = rng.choice(len(self.patches), count, p=self._areas / self._areas.sum())
        for row, number in enumerate(chosen):
            patch = self.patches[number]
            room = [(whole - side) // GRID_PX for whole in patch.pristine.shape[:2]]
            y, x = (GRID_PX * int(rng.integers(0, most + 1)) for most in room)
            inside = (slice(y, y + side), slice(x, x + side))
            pixels["pristine"][row], pixels["distorted"][row] = patch.pristine[inside], patch.distorted[inside]
            pixels["base"][row] = self.bases[number][inside]
            offsets[row], sizes[row] = (patch.y + y, patch.x + x), (patch.image_height, patch.image_width)
            if self._draws is not None and self._log_gains is not None:
                angle = np.float32(rng.uniform(0, 2 * np.pi))
                one, other = self._draws[number]
                pixels["noise"][row] = np.cos(angle) * one[inside] + np.sin(angle) * other[inside]
                latent[row, 0] = self._log_gains[patch.image % len(self._log_gains)]
        free = rng.standard_normal((count, side, side, FREE_CHANNELS), dtype=np.float32)
        return {**pixels, "free": free, "latent": latent, "offsets": offsets, "sizes": sizes}


def _is_8bit(base: Levels) -> bool:
    return bool((base == np.rint(base)).all())  # whole levels are exact in half precision


CHANCE = float(np.log(2))  # the paired relativistic loss of a D that knows nothing
PATIENCE = 4  # validations that are worse, before the network goes back
LEAST_RATE = 0.4  # of the first learning rate: a training ends as it goes back for the second time
BETA_2 = 0.99
State = dict[str, NDArray[Any]]


Losses = tuple[Sequence[Any], Mapping[str, Any]]  # of each part, and figures
Update = Callable[[Mapping[str, Any], Sequence[bool], float], Mapping[str, Any]]  # batch, who moves, decay → figures


@dataclass(frozen=True)
class Part:
    """A network that is trained, its optimiser, and the moving average of its weights, if there is one."""

    network: keras.Model
    optimizer: keras.optimizers.Optimizer
    averaged: keras.Model | None = None


@dataclass(frozen=True)
class CompactSettings:
    """One default for every distortion."""

    mean_lr: float = 1e-3
    generator_lr: float = 2e-4
    discriminator_lr: float = 4e-4
    beta_1: float = 0.5  # of both, in the adversarial phase
    ema_decay: float = 0.995
    power_weight: float = 0.3
    feature_weight: float = 5.0
    feature_share: float = 0.25  # of single crops' features, beside the batch's mean
    penalty: float = 0.02  # of R1 and R2, on each logit
    penalty_every: int = 4
    penalty_reach: float = 0.1  # of the finite difference, in units of the scaled residual
    informed: float = 0.5  # D's loss below which G may move at first
    lost: float = 0.688  # D's loss above which G is held
    warmup_steps: int = 100  # of D alone, at most
    prepared: bool = True  # begin with weights that have seen many synthetic distortions
    seed: int = 0


class CompactNetwork:
    """The network that is trained, the average of its weights, and the generator around it."""

    def __init__(self, settings: CompactSettings, *, residual_scale: float, jpeg: JpegStage | None) -> None:
        random.seed(settings.seed)  # of Keras's initialisers; keras.utils.set_random_seed would import TensorFlow
        self.residual_scale = residual_scale  # levels, rms
        self.precision = "mixed_bfloat16" if bfloat16_is_faster() else "float32"
        self.network, self.averaged = new_body(precision=self.precision), new_body()
        self._first = [np.array(variable) for variable in self.network.variables]
        if settings.prepared:
            prepared = read_arrays(INITIALISATION)[0]
            self._first = [prepared[variable.path] for variable in self.network.variables]
        self._jpeg = DifferentiableJpeg(jpeg) if jpeg else None
        self.restart()

    def restart(self, values: Any = None) -> None:
        """Give the network and its average `values`, or the weights of the beginning: the residual is 0."""
        for network in (self.network, self.averaged):
            assign(network, self._first if values is None else values)

    def generate(self, batch: Mapping[str, Any], *, stochastic: bool) -> Any:
        """Return generated levels (N, H, W, 3) behind the codec; if not `stochastic`, before it and without noise.

        Without noise, rounding hides coefficients below half a step, and nothing would keep them small: noise that is
        added later would bring out a pattern in all flat areas.
        """
        noise, free, latent = batch["noise"], batch["free"], batch["latent"]
        if not stochastic:
            noise, free, latent = ops.zeros_like(noise), ops.zeros_like(free), ops.zeros_like(latent)
        given = NetworkBatch(batch["pristine"], batch["base"], noise, free, latent, batch["offsets"], batch["sizes"])
        inputs = network_inputs(given, self.residual_scale)
        levels = batch["base"] + noise + LEVELS_PER_UNIT * self.network(inputs)
        return self._jpeg(levels) if self._jpeg and stochastic else levels

    def part(self, optimizer: keras.optimizers.Optimizer) -> Part:
        """Return the network as a part that `optimizer` trains."""
        optimizer.build(self.network.trainable_variables)
        return Part(self.network, optimizer, self.averaged)

    def state(self) -> State:
        """Return the weights of both, by name."""
        return {
            f"{name}/{variable.path}": np.array(variable)
            for name, network in (("network", self.network), ("averaged", self.averaged))
            for variable in network.variables
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights of `state`."""
        for name, network in (("network", self.network), ("averaged", self.averaged)):
            assign(network, [state[f"{name}/{variable.path}"] for variable in network.variables])


class MeanTrainer:
    """Trains the network towards the conditional mean (the median, by ℓ1) in `steps`, the rate annealed."""

    def __init__(self, network: CompactNetwork, settings: CompactSettings, *, steps: int) -> None:
        self.network, self.settings, self.steps = network, settings, steps
        self.optimizer = keras.optimizers.Adam(settings.mean_lr, 0.9, BETA_2)
        self._update = make_update([network.part(self.optimizer)], self._losses)

    def step(self, inputs: Inputs, number: int) -> Mapping[str, Any]:
        """Train on the crops of step `number`, and return the ℓ1 distance in units of the residual's deviation."""
        warm = min(1.0, (number + 1) / 50)
        cosine = 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * number / self.steps))
        self.optimizer.learning_rate.assign(self.settings.mean_lr * warm * cosine)
        return self._update(inputs, (True,), 0.98 if number > 50 else 0.0)

    def state(self) -> State:
        """Return the whole state for the next step."""
        return {**self.network.state(), **_optimizer_state("optimizer", self.optimizer)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state."""
        self.network.restore(state)
        _restore_optimizer("optimizer", self.optimizer, state)

    def _losses(self, batch: Mapping[str, Any]) -> Losses:
        generated = self.network.generate(batch, stochastic=False)
        loss = ops.mean(ops.abs(generated - batch["distorted"])) / self.network.residual_scale
        return (loss,), {"l1": loss}


class AdversarialTrainer:
    """Trains the network against a discriminator for up to `steps`."""

    def __init__(self, network: CompactNetwork, settings: CompactSettings, *, steps: int) -> None:
        self.network, self.settings, self.steps = network, settings, steps
        self.discriminator = build_compact_discriminator(size=CompactSize(), precision=network.precision)
        self.optimizers = {
            "generator": keras.optimizers.Adam(settings.generator_lr, settings.beta_1, BETA_2),
            "discriminator": keras.optimizers.Adam(settings.discriminator_lr, settings.beta_1, BETA_2),
        }
        self.optimizers["discriminator"].build(self.discriminator.trainable_variables)
        self.loss, self.moving, self.rate, self.best, self.worse = CHANCE, False, 1.0, np.inf, 0
        discriminator = Part(self.discriminator, self.optimizers["discriminator"])
        self._update = make_update([discriminator, network.part(self.optimizers["generator"])], self._losses)

    def step(self, inputs: Inputs, number: int) -> Mapping[str, Any]:
        """Train on the crops of step `number`, and return the losses; G is held while D is at chance."""
        settings = self.settings
        anneal = self.rate * min(1.0, 2.0 * (1 - number / self.steps) + 0.05)
        self.optimizers["generator"].learning_rate.assign(settings.generator_lr * anneal)
        self.optimizers["discriminator"].learning_rate.assign(settings.discriminator_lr * anneal)
        self.moving = self.moving or self.loss < settings.informed or number >= settings.warmup_steps
        moves = self.moving and self.loss < settings.lost
        penalised = number % settings.penalty_every == 0
        direction = np.zeros((2 * len(inputs["pristine"]), *inputs["pristine"].shape[1:]), np.float32)
        if penalised:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, number])))
            rng.standard_normal(direction.shape, out=direction, dtype=np.float32)
        batch = {**inputs, "direction": direction, "penalised": np.array(penalised)}
        figures = self._update(batch, (True, moves), settings.ema_decay)
        self.loss = 0.97 * self.loss + 0.03 * float(figures["discriminator_loss"])
        return {**figures, "generator_moves": float(moves)}

    @property
    def goes_on(self) -> bool:
        """Whether more steps may gain something."""
        return self.rate >= LEAST_RATE

    def validated(self, score: float, best_weights: Callable[[], Any]) -> None:
        """Take in a validation's score, the lower the better; after PATIENCE worse ones go back to `best_weights()`."""
        if score < self.best:
            self.best, self.worse = score, 0
        elif self.moving:
            self.worse += 1
        if self.worse == PATIENCE:
            self.network.restart(best_weights())
            self.rate, self.worse = self.rate / 2, 0

    def state(self) -> State:
        """Return the whole state for the next step."""
        progress = np.array([self.loss, self.moving, self.rate, self.best, self.worse])
        weights = {f"discriminator/{v.path}": np.array(v) for v in self.discriminator.variables}
        optimizers = [_optimizer_state(name, optimizer) for name, optimizer in self.optimizers.items()]
        return {**self.network.state(), **weights, "progress": progress} | optimizers[0] | optimizers[1]

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state."""
        self.network.restore(state)
        assign(self.discriminator, [state[f"discriminator/{v.path}"] for v in self.discriminator.variables])
        for name, optimizer in self.optimizers.items():
            _restore_optimizer(name, optimizer, state)
        self.loss, moving, self.rate, self.best, worse = (float(value) for value in state["progress"])
        self.moving, self.worse = bool(moving), int(worse)

    def _losses(self, batch: Mapping[str, Any]) -> Losses:
        """Return the losses of D and of G, from one pass through D."""
        settings = self.settings
        x = batch["pristine"] / LEVELS_PER_UNIT - 1.0
        side = x.shape[1]
        position = position_maps(batch["offsets"], batch["sizes"], side, side)
        twice = [ops.concatenate([part, part], 0) for part in (x, position, batch["base"])]
        generated = self.network.generate(batch, stochastic=True)
        images = ops.concatenate([batch["distorted"], generated], 0)
        logits, features = self._judge(images, *twice)
        real, fake = ops.split(logits, 2)
        d_loss, g_loss = ops.mean(ops.softplus(fake - real)), ops.mean(ops.softplus(real - fake))
        power = power_mismatch(batch["distorted"] - batch["base"], generated - batch["base"], batch["pristine"])
        penalty = ops.cond(
            batch["penalised"],
            lambda: self._penalty(ops.stop_gradient(images), batch["direction"], twice, logits),
            lambda: ops.zeros(()),
        )
        mismatch = _feature_mismatch(features, settings.feature_share)
        d_total = d_loss + settings.penalty * settings.penalty_every * penalty
        g_total = g_loss + settings.power_weight * power + settings.feature_weight * mismatch
        figures = {"discriminator_loss": d_loss, "generator_loss": g_loss}
        return (d_total, g_total), {**figures, "feature_mismatch": mismatch, "power_mismatch": power}

    def _judge(self, images: Any, pristine: Any, position: Any, base: Any) -> tuple[Any, Any]:
        """Return D's logits and features of distorted `images` (N, H, W, 3) in levels."""
        return self.discriminator([pristine, (images - base) / self.network.residual_scale, images, position])

    def _penalty(self, images: Any, direction: Any, others: list[Any], logits: Any) -> Any:
        """Return the mean squared slope of each logit along a random direction of the residual: R1 and R2."""
        reach = self.settings.penalty_reach
        moved, _ = self._judge(images + reach * self.network.residual_scale * direction, *others)
        return ops.mean(ops.square((moved - logits) / reach))


def _feature_mismatch(features: Any, share: float) -> Any:
    """Return how far the means of generated crops' `features` are from those of the true ones, in their deviations.

    The first half of `features` (2 N, h, w, F) is of true crops, the second of generated ones of the same images.
    """
    true, generated = ops.split(features, 2)
    deviation = ops.stop_gradient(ops.std(true, axis=(0, 1, 2))) + 1e-3
    change = (ops.mean(generated, axis=(1, 2)) - ops.mean(true, axis=(1, 2))) / deviation  # (N, F)
    return ops.mean(ops.square(ops.mean(change, axis=0))) + share * ops.mean(ops.square(change))


def make_update(parts: Sequence[Part], losses: Callable[[Mapping[str, Any]], Losses]) -> Update:
    """Return the step of this backend that trains each of the `parts` by its loss."""
    if backend_name() == "jax":
        from distort_pipeline.training.jax_step import compiled_update
    else:
        from distort_pipeline.training.tensorflow_step import compiled_update
    return compiled_update(parts, losses)


def assign(network: keras.Model, values: Any) -> None:
    """Give the variables of `network` these values, in order."""
    for variable, value in zip(network.variables, values, strict=True):
        variable.assign(value)


def _optimizer_state(name: str, optimizer: Any) -> State:
    return {f"{name}_optimizer/{number}": np.array(v) for number, v in enumerate(optimizer.variables)}


def _restore_optimizer(name: str, optimizer: Any, state: Mapping[str, NDArray[Any]]) -> None:
    for number, variable in enumerate(optimizer.variables):
        variable.assign(state[f"{name}_optimizer/{number}"])
