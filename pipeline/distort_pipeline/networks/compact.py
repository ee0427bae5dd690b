"""The compact generator body: what small fitted models leave unsaid, as a residual of a few hundred thousand weights.

It reads the base (what the fitted models made of the image), the pristine image, drawn noise, image-wide latents and
the position of every pixel, and returns a residual that is added to the base. Its heads start at zero: at step 0 the
composed generator *is* its initialization.

Three scales, all aligned to the 8 px grid of block codecs (2×2 strided and 2×2 transposed convolutions overlap no
block border): pixels unshuffled by 2, by 4, and by 8, where each position also reads and writes its whole 8×8 block.
No normalisation anywhere: whole images and tiles, alone or in a batch, give the same pixels. The receptive field
reaches REACH_PX beyond a pixel; tiles that carry so much context are equal to the whole image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

LEAK = 0.2
FINE_GAIN = 128.0  # brings what bfloat16 cuts off a value in [-1, 1] back to about unit size
CHANGE_GAIN = 4.0  # of what the base changed; found by eye, the network can rescale it
GRID_PX = 16  # sides and offsets are multiples: JPEG's 4:2:0 grid, and twice that of the other block codecs
PERIODS_PX = (16, 8, 4)  # positions are told as sine and cosine of these; 2 px are told apart by the unshuffling
POSITION_CHANNELS = 4 * len(PERIODS_PX) + 3  # and u, v and r² in the image
REACH_PX = 160  # rows of context on each side after which no pixel changes, see `test_compact.py`


@dataclass(frozen=True)
class CompactSize:
    """Channels at a half, a quarter and an eighth of the resolution, and residual blocks at each."""

    widths: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (2, 2, 2)


def build_compact_generator(
    *, noise_channels: int, latents: int, size: CompactSize | None = None, precision: str = "mixed_bfloat16"
) -> keras.Model:
    """Return the body: [base, pristine, noise, latent, position] → residual (N, H, W, 3) in units of [-1, 1], float32.

    `base` and `pristine` are (N, H, W, 3) in [-1, 1], `noise` (N, H, W, noise_channels) of about unit variance,
    `latent` (N, latents) of about unit variance, `position` (N, H/2, W/2, 15) as `position_maps` gives it. Sides are
    multiples of 8.
    """
    size = size or CompactSize()
    half, quarter, eighth = size.widths
    base = keras.Input((None, None, 3), name="base")
    pristine = keras.Input((None, None, 3), name="pristine")
    noise = keras.Input((None, None, noise_channels), name="noise")
    latent = keras.Input((latents,), name="latent")
    position = keras.Input((None, None, POSITION_CHANNELS), name="position")
    coarse_levels = ops.cast(ops.cast(base, "bfloat16"), "float32")
    fine_levels = FINE_GAIN * (base - coarse_levels)  # bfloat16 keeps 8 bits: both together keep every 8-bit level
    pixels = ops.concatenate([coarse_levels, fine_levels, CHANGE_GAIN * (pristine - base), noise], axis=-1)
    stem = _conv(ops.concatenate([Unshuffle(2)(pixels), position], axis=-1), half, 3, "stem", precision)
    shift = keras.layers.Dense(half, name="read_latent", dtype="float32")(latent)  # latents as maps, in one product
    stem = stem + ops.expand_dims(ops.expand_dims(shift, 1), 1)
    fine = _blocks(stem, size.blocks[0], "fine", precision)
    middle = _conv(fine, quarter, 2, "down_4", precision, strides=2)
    middle = _blocks(middle, size.blocks[1], "middle", precision)
    coarse = _conv(middle, eighth, 2, "down_8", precision, strides=2)
    whole_blocks = _conv(Unshuffle(8)(ops.concatenate([base, noise], axis=-1)), eighth, 1, "read_8", precision)
    coarse = _blocks(keras.layers.Add(dtype=precision)([coarse, whole_blocks]), size.blocks[2], "coarse", precision)
    residual_8 = Shuffle(8)(_head(coarse, 3 * 8 * 8, 1, "head_8", precision))
    middle = keras.layers.Add(dtype=precision)([middle, _up(coarse, quarter, "up_4", precision)])
    middle = _blocks(middle, 1, "middle_up", precision)
    fine = keras.layers.Add(dtype=precision)([fine, _up(middle, half, "up_2", precision)])
    fine = _blocks(fine, 1, "fine_up", precision)
    residual_2 = Shuffle(2)(_head(fine, 3 * 2 * 2, 3, "head_2", precision))
    residual = keras.layers.Add(name="residual", dtype="float32")([residual_2, residual_8])
    return keras.Model([base, pristine, noise, latent, position], residual, name="compact_generator")


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

    def get_config(self) -> dict[str, Any]:
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

    def get_config(self) -> dict[str, Any]:
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
    maps = [ops.broadcast_to(one[:, :, None], shape) for one in (*down, v)]
    maps += [ops.broadcast_to(one[:, None, :], shape) for one in (*across, u)]
    maps.append(ops.square(v)[:, :, None] + ops.square(u)[:, None, :])
    return ops.stack(maps, axis=-1)


def _conv(features: Any, filters: int, side: int, name: str, precision: str, *, strides: int = 1) -> Any:
    layer = keras.layers.Conv2D(
        filters, side, strides=strides, padding="same", name=name, dtype=precision, kernel_initializer="he_normal"
    )
    return layer(features)


def _blocks(features: Any, count: int, name: str, precision: str) -> Any:
    """Return `features` after residual blocks of two 3×3 convolutions, whose second starts small."""
    for number in range(1, count + 1):
        width = features.shape[-1]
        inner = keras.layers.LeakyReLU(LEAK, dtype=precision)(features)
        inner = _conv(inner, width, 3, f"{name}_{number}a", precision)
        inner = keras.layers.LeakyReLU(LEAK, dtype=precision)(inner)
        inner = keras.layers.Conv2D(
            width,
            3,
            padding="same",
            name=f"{name}_{number}b",
            dtype=precision,
            kernel_initializer=keras.initializers.VarianceScaling(0.1),
        )(inner)
        features = keras.layers.Add(dtype=precision)([features, inner])
    return features


def _up(features: Any, filters: int, name: str, precision: str) -> Any:
    return keras.layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=name, dtype=precision)(features)


def _head(features: Any, filters: int, side: int, name: str, precision: str) -> Any:
    """Return a zero-initialized convolution; 8 bits are enough for a residual, which is added in float32."""
    activated = keras.layers.LeakyReLU(LEAK, dtype=precision)(features)
    layer = keras.layers.Conv2D(filters, side, padding="same", kernel_initializer="zeros", name=name, dtype=precision)
    return layer(activated)
