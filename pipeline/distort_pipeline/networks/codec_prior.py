"""Codec priors: JPEG and JPEG 2000 as transforms whose coefficients change along curves learned from pairs.

A codec rounds the coefficients of a transform. A network of convolutions and leaky ReLUs has to build each of these
staircases out of kinks, and does not learn to in tens of thousands of adversarial steps. A curve per coefficient is
fitted to pairs by least squares instead (`training/fit_codec.py`). Not in the paper: there G(x) = x + U(x); with
coefficient curves G(x) = x + T(x) + U(x), and U learns the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.fft import dct

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.layers import fade, interpolate, interpolation_weights
from distort_pipeline.networks.noise import downsample2x, invert_upsample2x, upsample2x
from distort_pipeline.networks.wavelets import (
    LEVELS,
    PHASES,
    SIZES,
    TO_PLANES,
    analysed,
    log_sizes,
    plane_shares,
    unlift,
)
from distort_pipeline.records import LEVELS_PER_UNIT

TO_RGB = np.linalg.inv(TO_PLANES).astype(np.float32)

LEAST_STEP = 1e-3  # 8-bit levels; smaller gains leave an image unchanged
HALF_UP = 0.5 + 1e-3  # codecs round 0.5 up; the margin keeps the last bits of a float from deciding
BLOCK_PX = 8
COSINES = dct(np.eye(BLOCK_PX), axis=0, norm="ortho").astype(np.float32)  # a row for each frequency


@dataclass(frozen=True)
class Curves:
    """The sampling of a band's curves: `count` curves, one per coefficient, `knots` values each, `spacing` in steps."""

    count: int
    knots: int
    spacing: float


class CodecPrior(Protocol):
    """Analysis of planes into bands and synthesis from bands, both linear and (nearly) orthonormal.

    Planes are (N, H, W, 3), luma and two colour differences in 8-bit levels, sides multiples of 128. A band is
    (N, h, w, k): k coefficients at each of h x w positions.
    """

    @property
    def curves(self) -> Sequence[Curves]:
        """The sampling of each band's curves."""

    @property
    def scaled(self) -> bool:
        """Whether the codec chooses its quantisation step per image."""

    def analyse(self, planes: Any) -> list[Any]:
        """Return the bands of `planes` (N, H, W, 3), as the encoder computes them."""

    @property
    def integer(self) -> bool:
        """Whether the codec rounds intermediate planes to integers."""

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands from which a decoder synthesised `planes`."""

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:
        """Return the change of `planes` (N, H, W, 3) for `gains` in their `bands`."""

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes (N, H, W, 3) of `bands`."""


class _Linear(ABC):
    """A codec prior without rounding: the change of the planes is the synthesis of the gains."""

    integer = False

    @abstractmethod
    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes (N, H, W, 3) of `bands`."""

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:  # noqa: ARG002 - all is linear
        """Return the planes of the gains."""
        return self.synthesise(gains)


class DCT(_Linear):
    """The orthonormal 8 x 8 DCT-II of luma and of both colour differences downsampled by 2.

    Colour differences are downsampled by means of 2 x 2 pixels and upsampled as JPEG decoders do, three quarters from
    the nearest pixel and one quarter from the next in each direction. The chroma subsampling loss is a band of its own.
    The bands: DCT of luma, DCT of both downsampled colour differences, and both losses with one coefficient a pixel.
    """

    curves = (*(Curves(64, 1025, 1 / 256) for _ in range(3)), *(Curves(1, 257, 1 / 64) for _ in range(2)))
    scaled = False

    def analyse(self, planes: Any) -> list[Any]:
        """Return five bands: (N, H/8, W/8, 64), twice (N, H/16, W/16, 64), twice (N, H, W, 1)."""
        return self._bands(planes, downsample2x)

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands of decoded planes: upsampling the downsampled colours restores the input without loss."""
        return self._bands(planes, invert_upsample2x)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes of the five bands."""
        luma, *downsampled = (_from_blocks(band)[..., None] for band in bands[:3])
        colours = [upsample2x(colour) + lost for colour, lost in zip(downsampled, bands[3:], strict=True)]
        return ops.concatenate([luma, *colours], axis=-1)

    def _bands(
        self, planes: Any, downsample: Callable[[Any], Any], upsample: Callable[[Any], Any] = upsample2x
    ) -> list[Any]:
        colours = [planes[..., channel : channel + 1] for channel in (1, 2)]
        downsampled = [downsample(colour) for colour in colours]
        lost = [colour - upsample(low) for colour, low in zip(colours, downsampled, strict=True)]
        return [_to_blocks(planes[..., 0]), *(_to_blocks(low[..., 0]) for low in downsampled), *lost]


class IntegerDCT(DCT):
    """The same bands with integer planes, as in the Independent JPEG Group's codec and most other JPEG codecs.

    Rounded to integers are the planes, the downsampled colours, the decoded blocks and the upsampled colours. In
    downsampling and upsampling, 0.5 is rounded up in every other column only. In smooth skies these integer levels are
    most of the MSCN statistics.
    """

    integer = True

    def analyse(self, planes: Any) -> list[Any]:
        """Return the bands of `planes` rounded to integers."""
        return self._bands(_round_half_up(planes), _downsample2x_integer, _upsample2x_integer)

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands from which an integer decoder synthesised `planes`."""
        return self._bands(
            _round_half_up(planes), lambda colour: _round_half_up(invert_upsample2x(colour)), _upsample2x_integer
        )

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:
        """Return the change of the planes; 0 for images without any gain."""
        decoded = self.synthesise([band + gain for band, gain in zip(bands, gains, strict=True)])
        largest = [ops.max(ops.abs(gain), axis=(1, 2, 3), keepdims=True) for gain in gains]
        coded = ops.max(ops.stack(largest), axis=0) > LEAST_STEP
        return ops.where(coded, decoded - planes, 0.0)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the integer planes of the five bands."""
        luma, *downsampled = (_round_half_up(_from_blocks(band)[..., None]) for band in bands[:3])
        colours = [
            _upsample2x_integer(low) + _round_half_up(lost) for low, lost in zip(downsampled, bands[3:], strict=True)
        ]
        return ops.concatenate([luma, *colours], axis=-1)


def _round_half_up(values: Any) -> Any:
    return ops.floor(values + HALF_UP)


def _downsample2x_integer(values: Any) -> Any:
    low = downsample2x(values)
    return ops.floor(low + _alternating(low, 1 / 4, 2 / 4))


def _upsample2x_integer(low: Any) -> Any:
    values = upsample2x(low)
    return ops.floor(values + _alternating(values, 8 / 16, 7 / 16))


def _alternating(values: Any, even: float, odd: float) -> Any:
    """Return the offset (w, 1) of the even and odd columns of `values` (N, h, w, c)."""
    return ops.cast(ops.where(ops.arange(ops.shape(values)[2])[:, None] % 2 == 0, even, odd), "float32")


def _to_blocks(plane: Any) -> Any:
    _, height, width = ops.shape(plane)
    blocks = ops.reshape(plane, (-1, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX))
    columns = ops.einsum("ui,nhiwj->nhuwj", COSINES, blocks)
    coefficients = ops.einsum("vj,nhuwj->nhwuv", COSINES, columns)
    return ops.reshape(coefficients, (-1, height // BLOCK_PX, width // BLOCK_PX, BLOCK_PX**2))


def _from_blocks(band: Any) -> Any:
    _, rows, columns, _ = ops.shape(band)
    coefficients = ops.reshape(band, (-1, rows, columns, BLOCK_PX, BLOCK_PX))
    inner = ops.einsum("ui,nhwuv->nhiwv", COSINES, coefficients)
    blocks = ops.einsum("vj,nhiwv->nhiwj", COSINES, inner)
    return ops.reshape(blocks, (-1, rows * BLOCK_PX, columns * BLOCK_PX))


class DWT97(_Linear):
    """Five levels of the biorthogonal 9/7 wavelet, see `networks/wavelets.py`."""

    scaled = True
    # one curve for all positions of a channel
    curves = tuple(Curves(3, 401, 0.05) for _ in range(3 * LEVELS + 1))

    def analyse(self, planes: Any) -> list[Any]:
        """Return 16 bands (N, h, w, 3): columns', rows' and both details of each level, finest first; then the rest."""
        return analysed(planes, ops)

    def recover(self, planes: Any) -> list[Any]:
        """Return the same as `analyse`."""
        return self.analyse(planes)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes of the 16 bands."""
        smooth = bands[-1]
        for level in reversed(range(LEVELS)):
            columns, rows, both = bands[3 * level : 3 * level + 3]
            smooth = unlift(unlift(smooth, rows, 1, ops), unlift(columns, both, 1, ops), 2, ops)
        return smooth


CODEC_PRIORS: dict[str, CodecPrior] = {
    "dct": DCT(),
    "dct_integer": IntegerDCT(),
    "dwt97": DWT97(),
}


def is_scaled(codec_prior: str) -> bool:
    """Return whether the codec prior of this name, or "none", has a quantisation step per image."""
    return codec_prior in CODEC_PRIORS and CODEC_PRIORS[codec_prior].scaled


HALF_LEVEL = 0.5  # codecs subtract 128, not the 127.5 that is 0 here: multiples of a step have to match
UPWARDS = 1 / 32  # 8-bit levels; decoders round 0.5 up, and without this the last bits of a pixel decide
ALL_LEVELS = "phases"  # name prefix of the weights shared by all levels


@keras.saving.register_keras_serializable(package="distort_pipeline")
class CoefficientCurves(keras.layers.Layer):  # type: ignore[misc]
    """T: images (N, H, W, 3) in [-1, 1] → the change of their coefficients, same shape, float32.

    Coefficients are measured in quantisation steps: the curves of a coarser level are the same with larger steps, and
    both are interpolated between two levels. Where the codec prior is `scaled`, all coefficients of an image have the
    same step: the magnitude reached by a share of the coefficients; the share belongs to the level, see
    `networks/wavelets.py`. The levels then share their curves, in units of the power of two below the step, with a
    set of curves for each phase of an octave, see `networks/wavelets.py`. Otherwise each coefficient has its own step
    for all images, and each level its own curves.

    Called with [images, severity] with several `levels`, see `layers.interpolation_weights`. With `image_stats` the
    significance (N, 18) of the whole image of each tile is the last input; without, each input image is taken as a
    whole image. Curves and steps are fitted beforehand and not trained; initially the curves are flat, and T is 0.
    """

    def __init__(self, codec_prior: str, levels: int = 1, image_stats: bool = False, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.prior_name = codec_prior
        self.codec_prior = CODEC_PRIORS[codec_prior]
        self.levels = levels
        self.image_stats = image_stats

    def build(self, input_shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """Make the curves and the logarithms of the steps, or of the shares."""
        bands = list(enumerate(self.codec_prior.curves))
        name, sets = (ALL_LEVELS, PHASES + 1) if self.codec_prior.scaled else ("curves", self.levels)
        self.curves = [self._zeros(f"{name}_{n:02d}", sets, band.count, band.knots) for n, band in bands]
        if self.codec_prior.scaled:
            self.log_shares = self._zeros("log_shares", self.levels, 1)
        else:
            self.log_steps = [self._zeros(f"log_steps_{n:02d}", self.levels, band.count) for n, band in bands]

    def call(self, inputs: Any) -> Any:
        """Return T(x), T(x, severity), T(x, significance) or T(x, severity, significance)."""
        images, *extra = inputs if self.levels > 1 or self.image_stats else [inputs]
        severity = extra[0] if self.levels > 1 else None
        planes = self._planes(images)
        bands = self.codec_prior.analyse(planes)
        shares = np.ones((1, 1), np.float32) if severity is None else interpolation_weights(severity, self.levels)
        fading = np.ones((1, 1), np.float32) if severity is None else fade(severity, self.levels)
        if self.codec_prior.scaled:
            scale = self.scale(extra[-1] if self.image_stats else significance_in(bands), shares)
            plane, shares = plane_shares(ops.maximum(fading * scale, LEAST_STEP), ops)
            steps = [plane] * len(bands)
        else:
            steps = [ops.maximum(fading * self.steps(number, shares), LEAST_STEP) for number in range(len(bands))]
        gains = [self.gain(number, band, steps[number], shares) for number, band in enumerate(bands)]
        levels_8bit = ops.matmul(self.codec_prior.gained(planes, bands, gains), TO_RGB.T)
        upwards = 0.0 if self.codec_prior.integer else UPWARDS
        return ops.where(levels_8bit == 0, 0.0, levels_8bit + upwards) / LEVELS_PER_UNIT

    def analyse(self, images: Any) -> list[Any]:
        """Return the bands of `images` (N, H, W, 3) in [-1, 1]."""
        return self.codec_prior.analyse(self._planes(images))

    def recover(self, images: Any) -> list[Any]:
        """Return the bands from which a decoder synthesised `images`."""
        return self.codec_prior.recover(self._planes(images))

    def scale(self, significance: Any, shares: Any) -> Any:
        """Return the quantisation step of each image in 8-bit levels, (N, 1), at `shares` (N or 1, levels)."""
        return ops.exp(log_sizes(significance, interpolate(shares, self.log_shares)[:, 0], ops))[:, None]

    def steps(self, number: int, shares: Any) -> Any:
        """Return the quantisation step of each coefficient of band `number` in 8-bit levels, (N or 1, k)."""
        return ops.exp(interpolate(shares, self.log_steps[number]))

    def gain(self, number: int, band: Any, step: Any, shares: Any) -> Any:
        """Return the change of the coefficients of band `number`, (N, h, w, k): curves interpolated between knots.

        `step` is (N or 1, k or 1), in 8-bit levels; `shares` (N or 1, sets) weight the sets of curves.
        """
        step = step[:, None, None, :]
        curves = interpolate(shares, self.curves[number])  # (N or 1, k, knots)
        _, count, knots = self.curves[number].shape
        index, fraction = knot_indices(band / step, self.codec_prior.curves[number].spacing, knots)
        rows = count * ops.arange(ops.shape(curves)[0], dtype="int32")[:, None, None, None]
        index = index + knots * (rows + np.arange(count, dtype=np.int32))
        flat = ops.reshape(curves, (-1,))
        left, right = ops.take(flat, index), ops.take(flat, index + 1)
        return (left + fraction * (right - left)) * step

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the images."""
        return tuple(input_shape[0] if self.levels > 1 or self.image_stats else input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        config = super().get_config()
        return {
            "name": config["name"],
            "codec_prior": self.prior_name,
            "levels": self.levels,
            "image_stats": self.image_stats,
        }

    def _planes(self, images: Any) -> Any:
        return ops.matmul(images * LEVELS_PER_UNIT - HALF_LEVEL, TO_PLANES.T)

    def _zeros(self, name: str, *shape: int) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)


def knot_indices(values: Any, spacing: float, knots: int) -> tuple[Any, Any]:
    """Return the knot to the left of each value, int32, and the fraction in [0, 1) of the way to the next knot.

    `values` and the `spacing` of the knots are in quantisation steps; the middle knot is 0 and the outermost knots are
    whole steps away. A codec's effect repeats with every step: a value beyond the outermost knots is read in the last
    step before the outermost knot, at the same phase.
    """
    reach = spacing * (knots - 1) / 2
    size = ops.abs(values)
    repeated = ops.where(size > reach, reach - 1 + (size - ops.floor(size)), size)
    position = ops.clip(ops.sign(values) * repeated / spacing + (knots - 1) / 2, 0.0, knots - 1.001)
    left = ops.floor(position)
    return ops.cast(left, "int32"), position - left


def significance_in(bands: Sequence[Any]) -> Any:
    """Return the share (N, 18) of all coefficients of `bands`, (N, h, w, 3) each, not below each of the SIZES."""
    flat = ops.concatenate([ops.reshape(band, (ops.shape(band)[0], -1)) for band in bands], axis=1)
    return ops.stack([ops.mean(ops.cast(ops.abs(flat) >= size, "float32"), axis=1) for size in SIZES], axis=1)
