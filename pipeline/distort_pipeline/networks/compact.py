"""The compact networks: what small fitted models leave unsaid, and the discriminator that says what it is.

The generator reads the base (what the fitted models made of the image), the pristine image, drawn noise, image-wide
latents and the position of every pixel, and returns a residual that is added to the base. Its head starts at zero: at
step 0 the composed generator *is* its initialization. Two scales, pixels unshuffled by 2 and by 4, aligned to the grid
of block codecs. No normalisation anywhere: images alone or in a batch give the same pixels. No pixel decides what
happens beyond REACH_PX.

The discriminator judges the residual, scaled to about unit variance, and the natural-scene statistics of the distorted
image: its normalised (MSCN) coefficients and local deviations in Y, Cb and Cr. A texture is told by statistics over
areas: responses are averaged over cells of CELL_PX before anything is decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.patches import FREE_CHANNELS, GRID_PX, LATENTS, TO_YCC, Levels, TilePosition
from distort_pipeline.records import LEVELS_PER_UNIT, Json

LEAK = 0.2
CHANGE_GAIN = 8.0  # of what the base changed, in [-1, 1]: mostly small
NOISE_VARIANCE_SCALE = 1e-5  # of what first reads the noise: alive, and no upset to a mean learned without it
CELL_PX = 16
PERIODS_PX = (16, 8, 4)  # positions are told as sine and cosine of these; 2 px are told apart by the unshuffling
POSITION_CHANNELS = 4 * len(PERIODS_PX) + 3  # and u, v and r² in the image
REACH_PX = 32  # on each side, after which no pixel changes, see tests/networks/test_compact.py
MSCN_WINDOW_PX, MSCN_SIGMA_PX = 7, 7 / 6  # Mittal et al. 2012, section II
FLAT = 0.01  # levels², below which a neighbourhood has no deviation


@dataclass(frozen=True)
class CompactSize:
    """Channels at a half and a quarter of the resolution, and the discriminator's."""

    half: int = 32
    quarter: int = 48
    judged_half: int = 48
    judged_quarter: int = 64


def build_compact_generator(*, noise_channels: int, latents: int, size: CompactSize, precision: str) -> keras.Model:
    """Return G: [base, pristine, noise, latent, position] → residual (N, H, W, 3) in units of [-1, 1], float32.

    `base` and `pristine` are (N, H, W, 3) in [-1, 1], `noise` (N, H, W, noise_channels) of about unit variance,
    `latent` (N, latents) of about unit variance, `position` (N, H/2, W/2, 15) as `position_maps` gives it. Sides are
    multiples of 4.
    """
    base = keras.Input((None, None, 3), name="base")
    pristine = keras.Input((None, None, 3), name="pristine")
    noise = keras.Input((None, None, noise_channels), name="noise")
    latent = keras.Input((latents,), name="latent")
    position = keras.Input((None, None, POSITION_CHANNELS), name="position")
    pixels = ops.concatenate([base, CHANGE_GAIN * (pristine - base)], axis=-1)
    stem = _conv(ops.concatenate([Unshuffle(2)(pixels), position], axis=-1), size.half, 3, "stem", "float32")
    quiet = keras.initializers.VarianceScaling(NOISE_VARIANCE_SCALE)
    read_noise = keras.layers.Conv2D(
        size.half, 3, padding="same", use_bias=False, kernel_initializer=quiet, name="read_noise", dtype="float32"
    )
    read_latent = keras.layers.Dense(
        size.half, use_bias=False, kernel_initializer=quiet, name="read_latent", dtype="float32"
    )
    shift = ops.expand_dims(ops.expand_dims(read_latent(latent), 1), 1)  # the same at every position
    fine = _block(stem + read_noise(Unshuffle(2)(noise)) + shift, "fine", precision)
    middle = _conv(fine, size.quarter, 2, "down", precision, strides=2)
    middle = _block(_block(middle, "middle_1", precision), "middle_2", precision)
    up = keras.layers.Conv2DTranspose(size.half, 2, strides=2, padding="same", name="up", dtype=precision)(middle)
    fine = _block(_block(fine + up, "fine_up_1", precision), "fine_up_2", precision)
    activated = keras.layers.LeakyReLU(LEAK, dtype="float32")(fine)
    head = keras.layers.Conv2D(12, 3, padding="same", kernel_initializer="zeros", name="head", dtype="float32")
    residual = Shuffle(2)(head(activated))
    return keras.Model([base, pristine, noise, latent, position], residual, name="compact_generator")


def build_compact_discriminator(*, size: CompactSize, precision: str) -> keras.Model:
    """Return D: [pristine, scaled residual, distorted, position] → [logits (N, H/16, W/16, 1), cell features], float32.

    `pristine` (N, H, W, 3) is in [-1, 1], the residual of about unit variance, `distorted` in 8-bit levels, `position`
    (N, H/2, W/2, 15). Sides are multiples of 16.
    """
    pristine = keras.Input((None, None, 3), name="pristine")
    residual = keras.Input((None, None, 3), name="scaled_residual")
    distorted = keras.Input((None, None, 3), name="distorted")
    position = keras.Input((None, None, POSITION_CHANNELS), name="position")
    mscn, deviation = scene_statistics(distorted)
    pixels = ops.concatenate([pristine, residual, 2.0 * mscn, deviation], axis=-1)
    seen = ops.concatenate([Unshuffle(2)(pixels), position], axis=-1)
    fine = _activated(_conv(seen, size.judged_half, 3, "fine_1", precision))
    fine = _activated(_conv(fine, size.judged_half, 3, "fine_2", precision))
    coarse = _activated(_conv(fine, size.judged_quarter, 4, "coarse_1", precision, strides=2))
    coarse = _activated(_conv(coarse, size.judged_quarter, 3, "coarse_2", precision))
    cells = [
        keras.layers.AveragePooling2D(CELL_PX // pixels_per_feature, dtype="float32")(maps)
        for maps, pixels_per_feature in ((fine, 2), (coarse, 4))
    ]
    features = ops.concatenate(cells, axis=-1)
    decided = _activated(_conv(features, 128, 1, "decide_1", "float32"))
    decided = _activated(_conv(decided, 64, 1, "decide_2", "float32"))
    logits = keras.layers.Conv2D(1, 1, name="logits", dtype="float32")(decided)
    return keras.Model([pristine, residual, distorted, position], [logits, features], name="compact_discriminator")


def scene_statistics(levels: Any) -> tuple[Any, Any]:
    """Return MSCN coefficients and log local deviations, both (N, H, W, 3), of Y, Cb and Cr of RGB `levels`."""
    taps = np.exp(-0.5 * np.square((np.arange(MSCN_WINDOW_PX) - MSCN_WINDOW_PX // 2) / MSCN_SIGMA_PX))
    taps /= taps.sum()
    window = np.repeat(np.outer(taps, taps)[..., None, None], 3, axis=2).astype(np.float32)
    ycc = ops.matmul(levels, TO_YCC.T.astype(np.float32))
    mean = ops.depthwise_conv(ycc, window, padding="same")
    variance = ops.depthwise_conv(ycc * ycc, window, padding="same") - mean * mean
    deviation = ops.sqrt(ops.maximum(variance, FLAT))
    return (ycc - mean) / (deviation + 1.0), ops.log(deviation + 1.0)


@keras.saving.register_keras_serializable(package="distort_pipeline")
class Unshuffle(keras.layers.Layer):  # type: ignore[misc]
    """Pixels (N, H, W, C) → (N, H/f, W/f, f·f·C): each block of pixels becomes one position's channels."""

    def __init__(self, factor: int, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.factor = factor

    def call(self, pixels: Any) -> Any:
        """Return the blocks of `pixels`."""
        factor, (_, height, width, channels) = self.factor, ops.shape(pixels)
        blocks = ops.reshape(pixels, (-1, height // factor, factor, width // factor, factor * channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4))
        return ops.reshape(blocks, (-1, height // factor, width // factor, factor * factor * channels))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape of the blocks; None stays None."""
        height, width = (side and side // self.factor for side in shape[1:3])
        return (shape[0], height, width, shape[3] * self.factor**2)

    def get_config(self) -> dict[str, Json]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="distort_pipeline")
class Shuffle(keras.layers.Layer):  # type: ignore[misc]
    """Features (N, h, w, f·f·C) → pixels (N, f·h, f·w, C): the inverse of `Unshuffle`."""

    def __init__(self, factor: int, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.factor = factor

    def call(self, features: Any) -> Any:
        """Return the pixels of `features`."""
        factor, (_, height, width, channels) = self.factor, ops.shape(features)
        out = channels // factor**2
        blocks = ops.reshape(features, (-1, height, width, factor, factor * out))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4))
        return ops.reshape(blocks, (-1, height * factor, width * factor, out))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape of the pixels; None stays None."""
        height, width = (side and side * self.factor for side in shape[1:3])
        return (shape[0], height, width, shape[3] // self.factor**2)

    def get_config(self) -> dict[str, Json]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "factor": self.factor}


def position_maps(offsets: Any, sizes: Any, height: int, width: int) -> Any:
    """Return where each 2×2 block of a tile lies, (N, H/2, W/2, 15) float32: in the grid of codecs, and in the image.

    `offsets` (N, 2) are the tile's first row and column in its image, `sizes` (N, 2) the image's height and width.
    """
    rows = ops.cast(offsets[:, :1], "float32") + 2.0 * ops.arange(height // 2, dtype="float32")[None]  # (N, H/2)
    columns = ops.cast(offsets[:, 1:], "float32") + 2.0 * ops.arange(width // 2, dtype="float32")[None]
    shape = (ops.shape(offsets)[0], height // 2, width // 2)
    down = [wave(2 * math.pi / period * rows) for period in PERIODS_PX for wave in (ops.sin, ops.cos)]
    across = [wave(2 * math.pi / period * columns) for period in PERIODS_PX for wave in (ops.sin, ops.cos)]
    v = 2 * rows / ops.cast(sizes[:, :1], "float32") - 1
    u = 2 * columns / ops.cast(sizes[:, 1:], "float32") - 1
    maps = [ops.broadcast_to(wave_map[:, :, None], shape) for wave_map in (*down, v)]
    maps += [ops.broadcast_to(wave_map[:, None, :], shape) for wave_map in (*across, u)]
    maps.append(ops.square(v)[:, :, None] + ops.square(u)[:, None, :])
    return ops.stack(maps, axis=-1)


def _conv(features: Any, filters: int, side: int, name: str, precision: str, *, strides: int = 1) -> Any:
    layer = keras.layers.Conv2D(
        filters, side, strides=strides, padding="same", name=name, dtype=precision, kernel_initializer="he_normal"
    )
    return layer(features)


def _activated(features: Any) -> Any:
    return keras.layers.LeakyReLU(LEAK, dtype=features.dtype)(features)


def _block(features: Any, name: str, precision: str) -> Any:
    """Return `features` after a residual block of two 3×3 convolutions, whose second starts small."""
    width = features.shape[-1]
    inner = _activated(_conv(_activated(features), width, 3, f"{name}_a", precision))
    small = keras.initializers.VarianceScaling(0.1)
    layer = keras.layers.Conv2D(width, 3, padding="same", name=f"{name}_b", dtype=precision, kernel_initializer=small)
    return keras.layers.Add(dtype=precision)([features, layer(inner)])


NOISE_CHANNELS = 3 + FREE_CHANNELS
# by `python -m studies.initialisation.prepare`: blurs, noise, curves, block transforms, composed; the residual is 0
INITIALISATION = Path(__file__).with_name("initialisation.safetensors")


def new_body(size: CompactSize | None = None, precision: str = "float32") -> keras.Model:
    """Return a network whose residual is 0, with the channels of a composed generator."""
    return build_compact_generator(
        noise_channels=NOISE_CHANNELS, latents=LATENTS, size=size or CompactSize(), precision=precision
    )


class NetworkBatch(NamedTuple):
    """What the network gets of a batch, arrays or tensors: (N, H, W, C) in levels with known sides."""

    pristine: Any
    base: Any
    noise: Any  # signal-dependent
    free: Any  # (N, H, W, 2), unit white noise
    latent: Any  # (N, 4)
    offsets: Any  # (N, 2): row and column in the image
    sizes: Any  # (N, 2): the image's height and width


def network_inputs(batch: NetworkBatch, noise_scale: float) -> list[Any]:
    """Return what the network is called with, noise in units of `noise_scale` levels."""
    from distort_pipeline.networks.backend import ops

    pristine, base, noise, free, latent, offsets, sizes = map(ops.convert_to_tensor, batch)
    height, width = pristine.shape[1:3]
    return [
        base / LEVELS_PER_UNIT - 1.0,
        pristine / LEVELS_PER_UNIT - 1.0,
        ops.concatenate([noise / noise_scale, free], axis=-1),
        latent,
        position_maps(offsets, sizes, height, width),
    ]


class CompactBody:
    """The `body` of a composed generator: residual in levels (H, W, 3)."""

    reach_px = REACH_PX

    def __init__(self, network: keras.Model, *, noise_scale: float, stochastic: bool) -> None:
        self.network, self.noise_scale, self.stochastic = network, noise_scale, stochastic

    def __call__(
        self,
        *,
        image: NDArray[np.uint8],
        position: TilePosition,
        base: Levels,
        noise: Levels,
        free: Levels,
        latent: Levels,
    ) -> Levels:
        """Return what is added to `base`; a network that is not `stochastic` sees neither noise nor latents."""
        height, width = image.shape[:2]
        pad = ((0, -height % GRID_PX), (0, -width % GRID_PX), (0, 0))
        padded = [np.pad(values, pad, "symmetric")[None].astype(np.float32) for values in (image, base, noise, free)]
        if not self.stochastic:
            padded[2:] = [np.zeros_like(values) for values in padded[2:]]
            latent = np.zeros_like(latent)
        offsets, sizes = (
            np.array([[position.y, position.x]], np.float32),
            np.array([[position.height, position.width]], np.float32),
        )
        pristine, first, drawn, white = padded
        batch = NetworkBatch(pristine, first, drawn, white, latent[None], offsets, sizes)
        inputs = network_inputs(batch, self.noise_scale)
        residual = np.asarray(self.network(inputs))[0, :height, :width]
        return residual * np.float32(LEVELS_PER_UNIT)
