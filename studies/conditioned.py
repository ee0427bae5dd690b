"""U-Nets that are told kind and strength: the network, its training step, its crops, and how it generates.

The network is the package's, with one addition: every noise map is multiplied by gains that are learned for each level
of each kind. Without them the finest noise, which the package adds to the image as it is, would be as strong for JPEG
as for the strongest white noise.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from distort_pipeline.distortions import apply, is_random
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.networks.fusing import fused_weights
from distort_pipeline.networks.generator import build_generator
from distort_pipeline.networks.predictor import noise_maps
from distort_pipeline.networks.severity import fade, interpolation_weights
from distort_pipeline.pixels import Images, denormalize, normalize
from distort_pipeline.prefetch import prefetch
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.trained import assign_weights
from distort_pipeline.training.crops import BATCHES_AHEAD, CropBatch, Crops
from distort_pipeline.training.gan import GANConfig
from distort_pipeline.training.tensorflow_step import TensorflowTrainer
from distort_pipeline.wavelets.significance import Significances

ADDED = "white_noise"  # the second distortion of a mixture: each pixel for itself, so that a crop is as good as a whole
Conditions = NDArray[np.float32]  # (N, kinds) in [0, 1]: a severity for each kind, 0 where it is absent


def condition(kinds: Sequence[str], severities: Mapping[str, float]) -> Conditions:
    """Return (kinds,): the severity of each of `kinds`, 0 where `severities` has none; KeyError for a kind not there.

    >>> condition(("jpeg", "jp2k", "white_noise"), {"white_noise": 0.5, "jpeg": 1}).tolist()
    [1.0, 0.0, 0.5]
    """
    if unknown := severities.keys() - set(kinds):
        raise KeyError(f"no kind is called {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
    return np.array([severities.get(kind, 0.0) for kind in kinds], np.float32)


@keras.saving.register_keras_serializable(package="studies")
class NoiseGains(keras.layers.Layer):  # type: ignore[misc]
    """Maps [severity (N, kinds), maps (N, h, w, c)...] to the maps, each channel times its gain at that severity.

    The gains of several kinds add up. At the start the gain of a kind is its severity if it draws at random, else 0.
    """

    def __init__(self, levels: int, random: Sequence[bool], **options: Any) -> None:
        super().__init__(**options)
        self.levels, self.random = levels, tuple(random)

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Make a gain for each channel of each map, at each level of each kind."""
        kinds, maps, channels = input_shape[0][-1], len(input_shape) - 1, input_shape[1][-1]
        self.table = self.add_weight(name="table", shape=(kinds, self.levels, maps, channels), initializer=self._start)

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the maps as strong as they are to be."""
        severity, *maps = inputs
        each = severity[..., None]  # (N, kinds, 1)
        shares = fade(each, self.levels) * interpolation_weights(each, self.levels)
        gains = ops.einsum("nkl,klmc->nmc", shares, self.table)
        return [noise * gains[:, place, None, None] for place, noise in enumerate(maps)]

    def _start(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        steps = np.arange(1, self.levels + 1, dtype=np.float32) / self.levels
        random = np.array(self.random, np.float32)
        return ops.convert_to_tensor(np.broadcast_to(np.outer(random, steps)[..., None, None], shape), dtype)

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> list[tuple[int | None, ...]]:
        """Return the shapes of the maps."""
        return list(input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {"name": super().get_config()["name"], "levels": self.levels, "random": self.random}


def with_gains(unet: keras.Model, levels: int, kinds: Sequence[str]) -> keras.Model:
    """Return a model of the same inputs that gives the `unet` of `kinds` noise of the right strength.

    Without noise it is `unet` itself.
    """
    if len(unet.inputs) == 2:  # image and severity
        return unet
    image, severity, *noises = inputs = [keras.Input(one.shape[1:], name=one.name) for one in unet.inputs]
    scaled = NoiseGains(levels, [is_random(kind) for kind in kinds], name="noise_gains")([severity, *noises])
    return keras.Model(inputs, unet([image, severity, *scaled]), name="conditioned")


class ConditionedTrainer(TensorflowTrainer):
    """The package's adversaries and their step, with noise gains before the generator."""

    def __init__(self, networks: GANConfig, kinds: Sequence[str]) -> None:
        super().__init__(networks)
        self.generator, self.ema_generator = (
            with_gains(one, networks.levels, kinds) for one in (self.generator, self.ema_generator)
        )
        self.ema_generator.set_weights(self.generator.get_weights())
        self.generator_optimizer = self._adam("generator_adam", networks.generator_lr, self.generator)


class CompositeCrops:
    """The crops of several kinds, as many of each in a batch, with (N, kinds) severities.

    The last crop of each kind that draws nothing, a codec, gets white noise on top, of a severity anywhere on its
    ladder: the truth of a mixture is a distortion of what truly was distorted. With four kinds, two of them codecs, and
    batches of eight that is a quarter of all crops.
    """

    def __init__(
        self, pairs: PairStore, kinds: Sequence[str], *, crop_px: int, crop_align: int, batch: int, seed: int
    ) -> None:
        if batch % len(kinds):
            raise ValueError(f"a batch of {batch} has no equal shares of {len(kinds)} kinds")
        self.kinds, self.seed = tuple(kinds), seed
        self._five_levels = [recipe["parameters"] for recipe in pairs.recipes(ADDED)]
        self._own = {
            kind: Crops(
                pairs,
                kind,
                pairs.levels(kind),
                crop_px=crop_px,
                crop_align=crop_align,
                batch=batch // len(kinds),
                seed=derive_seed(seed, kind) % 2**31,
            )
            for kind in kinds
        }

    def at(self, step: int) -> CropBatch:
        """Return the batch of `step`."""
        parts = {kind: crops.at(step) for kind, crops in self._own.items()}
        conditions = {
            kind: np.stack([condition(self.kinds, {kind: float(one)}) for one in part.severities[:, 0]])
            for kind, part in parts.items()
        }
        for kind, part in parts.items():
            if not is_random(kind):
                rng = make_rng(derive_seed(self.seed, "mixed", kind, step))
                severity = 1 - float(rng.random())  # above 0
                parameters = parameters_at(ADDED, self._five_levels, severity)
                part.distorted[-1] = apply(ADDED, part.distorted[-1], parameters, rng).image
                conditions[kind][-1, self.kinds.index(ADDED)] = severity
        pristine, distorted = (
            np.concatenate([getattr(part, column) for part in parts.values()]) for column in ("pristine", "distorted")
        )
        return CropBatch(step, pristine, distorted, np.concatenate(list(conditions.values())))

    def prefetch(self, first: int, last: int) -> Generator[CropBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, read by a thread while the network works."""
        yield from prefetch((self.at(step) for step in range(first, last)), BATCHES_AHEAD, name="crops")


@dataclass(frozen=True)
class Conditioned:
    """A trained U-Net at work on 8-bit tiles whose sides are multiples of 128, `batch` at a time."""

    call: Any
    kinds: tuple[str, ...]
    noise_channels: int
    batch: int = 8

    def distort_composite(self, images: Images, seeds: Sequence[int], conditions: Conditions) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with the noise of its own seed, as its condition says."""
        made = []
        for start in range(0, len(images), self.batch):
            own = slice(start, start + self.batch)
            part = np.zeros((self.batch, *images.shape[1:]), np.uint8)
            told = np.zeros((self.batch, len(self.kinds)), np.float32)
            count = len(images[own])
            part[:count], told[:count] = images[own], conditions[own]
            noises = noise_maps(list(seeds[own]), part.shape[1], part.shape[2], self.noise_channels, self.batch)
            made.append(denormalize(np.asarray(self.call([normalize(part), told, *noises]))[:count]))
        return np.concatenate(made)


@dataclass(frozen=True)
class OneKind:
    """A U-Net asked for one of its kinds, or for several of them that are equally severe; as `Forward` is asked."""

    unet: Conditioned
    asked: tuple[str, ...]

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,  # noqa: ARG002 - a U-Net sees the tile alone
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with the noise of its own seed and at its own severity."""
        told = [condition(self.unet.kinds, dict.fromkeys(self.asked, severity)) for severity in severities]
        return self.unet.distort_composite(images, seeds, np.stack(told))


def conditioned(
    weights: Mapping[str, Any], kinds: Sequence[str], *, base_filters: int, levels: int, noise_channels: int
) -> Conditioned:
    """Return the generator of trained `weights`, path → array, norms folded as in the package's own generation."""
    import tensorflow as tf

    unet = build_generator(
        base_filters=base_filters, levels=levels, kinds=len(kinds), noise_channels=noise_channels, fused=True
    )
    model = with_gains(unet, levels, kinds)
    assign_weights(model, fused_weights(weights))
    call = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    return Conditioned(call, tuple(kinds), noise_channels)
