"""U-Nets conditioned on kind and severity of distortion: network, training step, crops and generation.

The network is the package's, with one addition: every noise map is multiplied by learned gains for each level
of each kind. Without gains the finest noise, added to the image directly, would be as severe for JPEG as for the
highest level of white noise.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from distort_pipeline.data.pairs import PairStore
from distort_pipeline.distortions import apply, is_random
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.models.store import assign_weights
from distort_pipeline.networks.generator import build_generator
from distort_pipeline.networks.layers import fade, fused_weights, interpolation_weights
from distort_pipeline.networks.predictor import noise_maps
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Images, denormalize, derive_seed, make_rng, normalize
from distort_pipeline.training.crops import BATCHES_AHEAD, CropBatch, Crops, prefetch
from distort_pipeline.training.gan import GANConfig
from distort_pipeline.training.tensorflow_step import TensorflowTrainer

ADDED = "white_noise"  # the second distortion of a composite: independent pixels, so that crops suffice
Conditions = NDArray[np.float32]  # (N, kinds) in [0, 1]: a severity for each kind, 0 where it is absent


def condition(kinds: Sequence[str], severities: Mapping[str, float]) -> Conditions:
    """Return (kinds,): the severity of each of `kinds`, 0 if absent from `severities`; KeyError for an unknown kind.

    >>> condition(("jpeg", "jp2k", "white_noise"), {"white_noise": 0.5, "jpeg": 1}).tolist()
    [1.0, 0.0, 0.5]
    """
    if unknown := severities.keys() - set(kinds):
        raise KeyError(f"no kind is called {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
    return np.array([severities.get(kind, 0.0) for kind in kinds], np.float32)


@keras.saving.register_keras_serializable(package="studies")
class NoiseGains(keras.layers.Layer):  # type: ignore[misc]
    """Maps [severity (N, kinds), maps (N, h, w, c)...] to the maps, each channel times its gain at that severity.

    Gains of several kinds are summed. The initial gain of a kind is its severity if random, else 0.
    """

    def __init__(self, levels: int, random: Sequence[bool], **options: Any) -> None:
        super().__init__(**options)
        self.levels, self.random = levels, tuple(random)

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Create a gain for each channel of each map, at each level of each kind."""
        kinds, maps, channels = input_shape[0][-1], len(input_shape) - 1, input_shape[1][-1]
        self.table = self.add_weight(name="table", shape=(kinds, self.levels, maps, channels), initializer=self._start)

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the scaled maps."""
        severity, *maps = inputs
        severities = severity[..., None]  # (N, kinds, 1)
        shares = fade(severities, self.levels) * interpolation_weights(severities, self.levels)
        gains = ops.einsum("nkl,klmc->nmc", shares, self.table)
        return [noise * gains[:, index, None, None] for index, noise in enumerate(maps)]

    def _start(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        steps = np.arange(1, self.levels + 1, dtype=np.float32) / self.levels
        random = np.array(self.random, np.float32)
        return ops.convert_to_tensor(np.broadcast_to(np.outer(random, steps)[..., None, None], shape), dtype)

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> list[tuple[int | None, ...]]:
        """Return the shapes of the maps."""
        return list(input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        return {"name": super().get_config()["name"], "levels": self.levels, "random": self.random}


def with_gains(unet: keras.Model, levels: int, kinds: Sequence[str]) -> keras.Model:
    """Return the `unet` of `kinds` with noise gains before its noise inputs; `unet` itself without noise."""
    if len(unet.inputs) == 2:  # image and severity
        return unet
    image, severity, *noises = inputs = [keras.Input(tensor.shape[1:], name=tensor.name) for tensor in unet.inputs]
    scaled = NoiseGains(levels, [is_random(kind) for kind in kinds], name="noise_gains")([severity, *noises])
    return keras.Model(inputs, unet([image, severity, *scaled]), name="conditioned")


class ConditionedTrainer(TensorflowTrainer):
    """The package's trainer, with noise gains before the generator."""

    def __init__(self, networks: GANConfig, kinds: Sequence[str]) -> None:
        super().__init__(networks)
        self.generator, self.ema_generator = (
            with_gains(network, networks.levels, kinds) for network in (self.generator, self.ema_generator)
        )
        self.ema_generator.set_weights(self.generator.get_weights())
        self.generator_optimizer = self._adam("generator_adam", networks.generator_lr, self.generator)


class CompositeCrops:
    """Crops of several kinds in equal shares, with (N, kinds) severities.

    The last crop of each deterministic kind (codec) gets white noise of random severity on top: the truth of a
    composite is a distortion of a truly distorted image. With four kinds, two of them codecs, and batches of eight,
    a quarter of all crops are composites.
    """

    def __init__(
        self, pairs: PairStore, kinds: Sequence[str], *, crop_px: int, crop_align: int, batch_size: int, seed: int
    ) -> None:
        if batch_size % len(kinds):
            raise ValueError(f"a batch of {batch_size} has no equal shares of {len(kinds)} kinds")
        self.kinds, self.seed = tuple(kinds), seed
        self._noise_levels = [recipe["parameters"] for recipe in pairs.recipes(ADDED)]
        self._crops = {
            kind: Crops(
                pairs,
                kind,
                pairs.levels(kind),
                crop_px=crop_px,
                crop_align=crop_align,
                batch_size=batch_size // len(kinds),
                seed=derive_seed(seed, kind) % 2**31,
            )
            for kind in kinds
        }

    def at(self, step: int) -> CropBatch:
        """Return the batch of `step`."""
        batches = {kind: crops.at(step) for kind, crops in self._crops.items()}
        conditions = {
            kind: np.stack([condition(self.kinds, {kind: float(severity)}) for severity in batch.severities[:, 0]])
            for kind, batch in batches.items()
        }
        for kind, batch in batches.items():
            if not is_random(kind):
                rng = make_rng(derive_seed(self.seed, "mixed", kind, step))
                severity = 1 - float(rng.random())  # above 0
                parameters = parameters_at(ADDED, self._noise_levels, severity)
                batch.distorted[-1] = apply(ADDED, batch.distorted[-1], parameters, rng).image
                conditions[kind][-1, self.kinds.index(ADDED)] = severity
        pristine, distorted = (
            np.concatenate([getattr(batch, column) for batch in batches.values()])
            for column in ("pristine", "distorted")
        )
        return CropBatch(step, pristine, distorted, np.concatenate(list(conditions.values())))

    def prefetch(self, first: int, last: int) -> Generator[CropBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, read by a thread while the network works."""
        yield from prefetch((self.at(step) for step in range(first, last)), BATCHES_AHEAD, name="crops")


@dataclass(frozen=True)
class Conditioned:
    """A trained U-Net for 8-bit tiles with sides in multiples of 128, in batches of `batch`."""

    call: Any
    kinds: tuple[str, ...]
    noise_channels: int
    batch: int = 8

    def distort_composite(self, images: Images, seeds: Sequence[int], conditions: Conditions) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its seed and condition."""
        outputs = []
        for start in range(0, len(images), self.batch):
            rows = slice(start, start + self.batch)
            padded = np.zeros((self.batch, *images.shape[1:]), np.uint8)
            padded_conditions = np.zeros((self.batch, len(self.kinds)), np.float32)
            count = len(images[rows])
            padded[:count], padded_conditions[:count] = images[rows], conditions[rows]
            noises = noise_maps(list(seeds[rows]), padded.shape[1], padded.shape[2], self.noise_channels, self.batch)
            outputs.append(denormalize(np.asarray(self.call([normalize(padded), padded_conditions, *noises]))[:count]))
        return np.concatenate(outputs)


@dataclass(frozen=True)
class OneKind:
    """A U-Net with a fixed kind, or several kinds of equal severity; same interface as `Predictor`."""

    unet: Conditioned
    kinds: tuple[str, ...]

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,  # noqa: ARG002 - unused by a U-Net
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its seed and severity."""
        conditions = [condition(self.unet.kinds, dict.fromkeys(self.kinds, severity)) for severity in severities]
        return self.unet.distort_composite(images, seeds, np.stack(conditions))


def conditioned(
    weights: Mapping[str, Any], kinds: Sequence[str], *, base_filters: int, levels: int, noise_channels: int
) -> Conditioned:
    """Return the generator of trained `weights` (path → array), with fused norms."""
    import tensorflow as tf

    unet = build_generator(
        base_filters=base_filters, levels=levels, kinds=len(kinds), noise_channels=noise_channels, fused=True
    )
    model = with_gains(unet, levels, kinds)
    assign_weights(model, fused_weights(weights))
    call = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    return Conditioned(call, tuple(kinds), noise_channels)
