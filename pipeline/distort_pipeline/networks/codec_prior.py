"""Codec priors: JPEG and JPEG 2000 as transforms whose coefficients change along curves learned from pairs.

A codec rounds the coefficients of a transform. A network of convolutions and leaky ReLUs has to build each of these
staircases out of kinks, and does not learn to in tens of thousands of adversarial steps. A curve per coefficient is
fitted to pairs by least squares instead (`training/fit_codec.py`). Not in the paper: there G(x) = x + U(x); with
coefficient curves G(x) = x + T(x) + U(x), and U learns the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.fft import dct

from distort_pipeline.networks.inputs import NumpyOps, fade, interpolate, interpolation_weights
from distort_pipeline.networks.noise import downsample2x, invert_upsample2x, upsample2x
from distort_pipeline.networks.wavelets import (
    HEADERS,
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

    def on(self, xp: Any) -> CodecPrior:
        """Return the same codec prior for the arrays of `xp`."""


class _Linear(ABC):
    """A codec prior without rounding: the change of the planes is the synthesis of the gains."""

    integer = False

    def __init__(self, xp: Any = NumpyOps) -> None:
        self.xp = xp

    def on(self, xp: Any) -> Any:
        """Return the same codec prior for the arrays of `xp`."""
        return type(self)(xp)

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
        return self._bands(planes, self._downsample)

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands of decoded planes: upsampling the downsampled colours restores the input without loss."""
        return self._bands(planes, lambda colour: self._rounded(invert_upsample2x(colour, self.xp)))

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes of the five bands."""
        luma, *downsampled = (self._rounded(_from_blocks(band, self.xp)[..., None]) for band in bands[:3])
        colours = [self._upsample(low) + self._rounded(lost) for low, lost in zip(downsampled, bands[3:], strict=True)]
        return self.xp.concatenate([luma, *colours], axis=-1)

    def _bands(self, planes: Any, downsample: Callable[[Any], Any]) -> list[Any]:
        planes = self._rounded(planes)
        colours = [planes[..., channel : channel + 1] for channel in (1, 2)]
        downsampled = [downsample(colour) for colour in colours]
        lost = [colour - self._upsample(low) for colour, low in zip(colours, downsampled, strict=True)]
        return [_to_blocks(plane[..., 0], self.xp) for plane in (planes[..., :1], *downsampled)] + lost

    def _rounded(self, values: Any) -> Any:
        return values

    def _downsample(self, values: Any) -> Any:
        return downsample2x(values, self.xp)

    def _upsample(self, low: Any) -> Any:
        return upsample2x(low, self.xp)


class IntegerDCT(DCT):
    """The same bands with integer planes, as in the Independent JPEG Group's codec and most other JPEG codecs.

    Rounded to integers are the planes, the downsampled colours, the decoded blocks and the upsampled colours. In
    downsampling and upsampling, 0.5 is rounded up in every other column only. In smooth skies these integer levels are
    most of the MSCN statistics.
    """

    integer = True

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:
        """Return the change of the planes; 0 for images without any gain."""
        xp = self.xp
        decoded = self.synthesise([band + gain for band, gain in zip(bands, gains, strict=True)])
        largest = [xp.max(xp.abs(gain), axis=(1, 2, 3), keepdims=True) for gain in gains]
        coded = xp.max(xp.stack(largest), axis=0) > LEAST_STEP
        return xp.where(coded, decoded - planes, 0.0)

    def _rounded(self, values: Any) -> Any:
        return self.xp.floor(values + HALF_UP)

    def _downsample(self, values: Any) -> Any:
        low = super()._downsample(values)
        return self.xp.floor(low + self._alternating(low, 1 / 4, 2 / 4))

    def _upsample(self, low: Any) -> Any:
        values = super()._upsample(low)
        return self.xp.floor(values + self._alternating(values, 8 / 16, 7 / 16))

    def _alternating(self, values: Any, even: float, odd: float) -> Any:
        """Return the offset (w, 1) of the even and odd columns of `values` (N, h, w, c)."""
        xp = self.xp
        return xp.cast(xp.where(xp.arange(xp.shape(values)[2])[:, None] % 2 == 0, even, odd), "float32")


def _to_blocks(plane: Any, xp: Any) -> Any:
    _, height, width = xp.shape(plane)
    blocks = xp.reshape(plane, (-1, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX))
    columns = xp.einsum("ui,nhiwj->nhuwj", COSINES, blocks)
    coefficients = xp.einsum("vj,nhuwj->nhwuv", COSINES, columns)
    return xp.reshape(coefficients, (-1, height // BLOCK_PX, width // BLOCK_PX, BLOCK_PX**2))


def _from_blocks(band: Any, xp: Any) -> Any:
    _, rows, columns, _ = xp.shape(band)
    coefficients = xp.reshape(band, (-1, rows, columns, BLOCK_PX, BLOCK_PX))
    inner = xp.einsum("ui,nhwuv->nhiwv", COSINES, coefficients)
    blocks = xp.einsum("vj,nhiwv->nhiwj", COSINES, inner)
    return xp.reshape(blocks, (-1, rows * BLOCK_PX, columns * BLOCK_PX))


class DWT97(_Linear):
    """Five levels of the biorthogonal 9/7 wavelet, see `networks/wavelets.py`."""

    scaled = True
    # one curve for all positions of a channel
    curves = tuple(Curves(3, 401, 0.05) for _ in range(3 * LEVELS + 1))

    def analyse(self, planes: Any) -> list[Any]:
        """Return 16 bands (N, h, w, 3): columns', rows' and both details of each level, finest first; then the rest."""
        return analysed(planes, self.xp)

    def recover(self, planes: Any) -> list[Any]:
        """Return the same as `analyse`."""
        return self.analyse(planes)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes of the 16 bands."""
        smooth = bands[-1]
        for level in reversed(range(LEVELS)):
            columns, rows, both = bands[3 * level : 3 * level + 3]
            smooth = unlift(unlift(smooth, rows, 1, self.xp), unlift(columns, both, 1, self.xp), 2, self.xp)
        return smooth


NO_PRIOR = "none"
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


class ChangedCoefficients:
    """T: images (N, H, W, 3) in [-1, 1] → the change of their coefficients, same shape, float32.

    Coefficients are measured in quantisation steps: the curves of a coarser level are the same with larger steps, and
    both are interpolated between two levels. Where the codec prior is `scaled`, all coefficients of an image have the
    same step: the magnitude reached by a share of the coefficients; the share belongs to the level, see
    `networks/wavelets.py`. A rate is not spent evenly, and less evenly the smaller it is: each level has an offset of
    the step for each coefficient of each band, luma and both colour differences. The levels then share their curves, in
    units of the power of two below the step, with a set of curves for each phase of an octave. Otherwise each
    coefficient has its own step for all images, and each level its own curves.
    """

    xp: Any = NumpyOps
    codec_prior: CodecPrior
    levels: int
    curves: list[Any]  # of each band, (levels, or phases, coefficients, knots)
    log_shares: Any  # (levels, 1), of a scaled codec prior
    log_offsets: list[Any]  # of each band, (levels, coefficients), of a scaled codec prior
    log_steps: list[Any]  # of each band, (levels, coefficients), of another

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name → shape of the curves, and of the logarithms of the steps, or of the shares and offsets."""
        bands, scaled = self.codec_prior.curves, self.codec_prior.scaled
        name, sets = (ALL_LEVELS, PHASES + 1) if scaled else ("curves", self.levels)
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}_{n:02d}": (sets, band.count, band.knots) for n, band in enumerate(bands)
        }
        if scaled:
            shapes["log_shares"] = (self.levels, 1)
        name = "log_offsets" if scaled else "log_steps"
        return {**shapes, **{f"{name}_{n:02d}": (self.levels, band.count) for n, band in enumerate(bands)}}

    def set_arrays(self, weights: Mapping[str, Any]) -> None:
        """Take the weights of `weight_shapes`, arrays or variables."""
        listed = [weights[name] for name in self.weight_shapes()]
        bands = len(self.codec_prior.curves)
        self.curves = listed[:bands]
        if self.codec_prior.scaled:
            self.log_shares, *self.log_offsets = listed[bands:]
        else:
            self.log_steps = listed[bands:]

    def change(self, images: Any, severity: Any | None = None, significance: Any | None = None) -> Any:
        """Return T(x), with several levels at `severity` (N, 1), see `interpolation_weights`.

        `significance` (N, 18) is of the whole image of each tile; None takes each input image as a whole image.
        """
        xp = self.xp
        planes = self._planes(images)
        bands = self.codec_prior.analyse(planes)
        ones = np.ones((1, 1), np.float32)
        shares = ones if severity is None else interpolation_weights(severity, self.levels, xp)
        fading = ones if severity is None else fade(severity, self.levels, xp)
        if self.codec_prior.scaled:
            scale = self.scale(significance_in(bands, xp) if significance is None else significance, shares)
            gains = [self.rate_scaled_gain(number, band, fading * scale, shares) for number, band in enumerate(bands)]
        else:
            steps = [xp.maximum(fading * self.steps(number, shares), LEAST_STEP) for number in range(len(bands))]
            gains = [
                self.gain(number, band, steps[number], interpolate(shares, self.curves[number], xp))
                for number, band in enumerate(bands)
            ]
        levels_8bit = xp.matmul(self.codec_prior.gained(planes, bands, gains), TO_RGB.T)
        upwards = 0.0 if self.codec_prior.integer else UPWARDS
        return xp.where(levels_8bit == 0, 0.0, levels_8bit + upwards) / LEVELS_PER_UNIT

    def analyse(self, images: Any) -> list[Any]:
        """Return the bands of `images` (N, H, W, 3) in [-1, 1]."""
        return self.codec_prior.analyse(self._planes(images))

    def recover(self, images: Any) -> list[Any]:
        """Return the bands from which a decoder synthesised `images`."""
        return self.codec_prior.recover(self._planes(images))

    def scale(self, significance: Any, shares: Any) -> Any:
        """Return the quantisation step of each image in 8-bit levels, (N, 1), at `shares` (N or 1, levels)."""
        log_shares = interpolate(shares, self.log_shares, self.xp)[:, 0]
        return self.xp.exp(log_sizes(significance, log_shares, self.xp))[:, None]

    def steps(self, number: int, shares: Any) -> Any:
        """Return the quantisation step of each coefficient of band `number` in 8-bit levels, (N or 1, k)."""
        return self.xp.exp(interpolate(shares, self.log_steps[number], self.xp))

    def rate_scaled_gain(self, number: int, band: Any, scale: Any, shares: Any) -> Any:
        """Return the change of the coefficients of band `number`, (N, h, w, k), at the images' step `scale` (N, 1).

        `shares` (N or 1, levels) weight the levels' offsets.
        """
        xp = self.xp
        step = xp.maximum(scale * xp.exp(interpolate(shares, self.log_offsets[number], xp)), LEAST_STEP)
        plane, phases = plane_shares(xp.reshape(step, (-1, 1)), xp)
        count = self.curves[number].shape[1]
        phases = xp.reshape(phases, (-1, count, self.curves[number].shape[0]))
        sets = xp.stack([self.curves[number][:, coefficient] for coefficient in range(count)])  # (k, sets, knots)
        curves = xp.matmul(phases[:, :, None, :], sets)[:, :, 0]
        return self.gain(number, band, xp.reshape(plane, (-1, count)), curves)

    def gain(self, number: int, band: Any, step: Any, curves: Any) -> Any:
        """Return the change of the coefficients of band `number`, (N, h, w, k): `curves` read between their knots.

        `step` is (N or 1, k), in 8-bit levels; `curves` are (N or 1, k, knots).
        """
        xp = self.xp
        step = step[:, None, None, :]
        _, count, knots = self.curves[number].shape
        index, fraction = knot_indices(band / step, self.codec_prior.curves[number].spacing, knots, xp)
        rows = count * xp.arange(xp.shape(curves)[0], dtype="int32")[:, None, None, None]
        index = index + knots * (rows + np.arange(count, dtype=np.int32))
        flat = xp.reshape(curves, (-1,))
        left, right = xp.take(flat, index), xp.take(flat, index + 1)
        return (left + fraction * (right - left)) * step

    def _planes(self, images: Any) -> Any:
        return self.xp.matmul(images * LEVELS_PER_UNIT - HALF_LEVEL, TO_PLANES.T)


def knot_indices(values: Any, spacing: float, knots: int, xp: Any = NumpyOps) -> tuple[Any, Any]:
    """Return the knot to the left of each value, int32, and the fraction in [0, 1) of the way to the next knot.

    `values` and the `spacing` of the knots are in quantisation steps; the middle knot is 0 and the outermost knots are
    whole steps away. A codec's effect repeats with every step: a value beyond the outermost knots is read in the last
    step before the outermost knot, at the same phase.
    """
    reach = spacing * (knots - 1) / 2
    size = xp.abs(values)
    repeated = xp.where(size > reach, reach - 1 + (size - xp.floor(size)), size)
    position = xp.clip(xp.sign(values) * repeated / spacing + (knots - 1) / 2, 0.0, knots - 1.001)
    left = xp.floor(position)
    return xp.cast(left, "int32"), position - left


def significance_in(bands: Sequence[Any], xp: Any = NumpyOps) -> Any:
    """Return the significance (N, 18) of images with these `bands`, (N, h, w, 3) each, as `significance_of` does."""
    coefficients = sum(xp.shape(band)[1] * xp.shape(band)[2] * xp.shape(band)[3] for band in bands)
    return xp.minimum(shares_in(bands, xp) + HEADERS / xp.cast(coefficients, "float32"), 1.0)


def shares_in(bands: Sequence[Any], xp: Any = NumpyOps) -> Any:
    """Return the share (N, 18) of all coefficients of `bands`, (N, h, w, 3) each, not below each of the SIZES."""
    flat = xp.concatenate([xp.reshape(band, (xp.shape(band)[0], -1)) for band in bands], axis=1)
    return xp.stack([xp.mean(xp.cast(xp.abs(flat) >= size, "float32"), axis=1) for size in SIZES], axis=1)
