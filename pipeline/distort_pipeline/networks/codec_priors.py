"""Codec priors: the transforms of JPEG and JPEG 2000 as pure functions on keras.ops, 8 x 8 DCT and 9/7 wavelet.

A codec prior splits planes (N, H, W, 3), luma and two colour differences in 8-bit levels, into bands, and
synthesises planes from bands; both directions are linear and (nearly) orthonormal. A band is (N, h, w, k): k
coefficients at each of h x w positions. The loss in each band is learned from pairs, see `coefficient_curves.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from keras import ops
from scipy.fft import dct

from distort_pipeline.networks.resampling import downsample2x, invert_upsample2x, upsample2x
from distort_pipeline.wavelets.lifting import LEVELS, analysed, unlift
from distort_pipeline.wavelets.significance import TO_PLANES

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
    """Analysis into bands and synthesis from bands. The sides of images are multiples of 128."""

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
    """Five levels of the biorthogonal 9/7 wavelet, see `wavelets/lifting.py`."""

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
