"""The transforms that codecs work in, as pure functions on keras.ops: cosine blocks and the 9/7 wavelet.

A transform takes planes (N, H, W, 3), luma and two colour differences in greys, apart into bands, and puts bands
together again; both are linear and (nearly) orthonormal. A band is (N, h, w, k): k coefficients at each of h x w
places. What is lost in which band is not said here: that is learned from pairs, see `coefficient_curves.py`.
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

LEAST_STEP = 1e-3  # greys; an image that gains no more is left as it is
HALF_UP = 0.5 + 1e-3  # codecs round halves up, and the last bits of a float are not to decide
BLOCK_PX = 8
COSINES = dct(np.eye(BLOCK_PX), axis=0, norm="ortho").astype(np.float32)  # a row for each frequency


@dataclass(frozen=True)
class Curves:
    """How finely a band is looked at: `count` curves, one a coefficient, over `knots` values `spacing` steps apart."""

    count: int
    knots: int
    spacing: float


class CodecPrior(Protocol):
    """Planes into bands and back. The sides of images are multiples of 128."""

    @property
    def curves(self) -> Sequence[Curves]:
        """How finely each band is looked at."""

    @property
    def scaled(self) -> bool:
        """Whether the codec chooses its coarseness anew for every image."""

    def analyse(self, planes: Any) -> list[Any]:
        """Return the bands of `planes` (N, H, W, 3), as an encoder takes them."""

    @property
    def integer(self) -> bool:
        """Whether the codec keeps whole greys on its way."""

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands that a decoder made `planes` of: where that is another way, for it is the same planes."""

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:
        """Return what `planes` (N, H, W, 3) gain where their `bands` have these `gains`."""

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes (N, H, W, 3) of `bands`."""


class _Linear(ABC):
    """A transform that rounds nothing: what planes gain is made of what their bands gain."""

    integer = False

    @abstractmethod
    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes (N, H, W, 3) of `bands`."""

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:  # noqa: ARG002 - all is linear
        """Return the planes of the gains."""
        return self.synthesise(gains)


class DCT(_Linear):
    """The orthonormal DCT-II of blocks of 8 x 8, in luma and in both colour differences, which codecs halve first.

    A colour difference is halved by means of four pixels, and doubled as JPEG decoders do, three quarters from the
    nearest and one quarter from the next in each direction; what is lost on that way is a band of its own. Bands are
    the luma of blocks, both halved colour differences of blocks, and both losses, one coefficient a pixel.
    """

    curves = (*(Curves(64, 1025, 1 / 256) for _ in range(3)), *(Curves(1, 257, 1 / 64) for _ in range(2)))
    scaled = False

    def analyse(self, planes: Any) -> list[Any]:
        """Return five bands: (N, H/8, W/8, 64), twice (N, H/16, W/16, 64), twice (N, H, W, 1)."""
        return self._bands(planes, downsample2x)

    def recover(self, planes: Any) -> list[Any]:
        """Return the same bands of what was doubled: halved so that doubling gives it again, and nothing was lost."""
        return self._bands(planes, invert_upsample2x)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes of the five bands."""
        luma, *halves = (_from_blocks(band)[..., None] for band in bands[:3])
        colours = [upsample2x(half) + lost for half, lost in zip(halves, bands[3:], strict=True)]
        return ops.concatenate([luma, *colours], axis=-1)

    def _bands(
        self, planes: Any, half_of: Callable[[Any], Any], double: Callable[[Any], Any] = upsample2x
    ) -> list[Any]:
        colours = [planes[..., place : place + 1] for place in (1, 2)]
        halves = [half_of(colour) for colour in colours]
        lost = [colour - double(half) for colour, half in zip(colours, halves, strict=True)]
        return [_to_blocks(planes[..., 0]), *(_to_blocks(half[..., 0]) for half in halves), *lost]


class IntegerDCT(DCT):
    """The same blocks in whole greys, as the Independent JPEG Group's codec and most others of JPEG keep them.

    Whole are the planes, halved colours, what blocks become, and doubled colours; where colours are halved and doubled,
    halves are rounded up in every other column only. In smooth skies these greys are most of what MSCN sees.
    """

    integer = True

    def analyse(self, planes: Any) -> list[Any]:
        """Return the bands of the whole greys that `planes` are rounded to."""
        return self._bands(_whole(planes), _downsample2x_integer, _upsample2x_integer)

    def recover(self, planes: Any) -> list[Any]:
        """Return the bands that a decoder in whole greys made `planes` of."""
        return self._bands(_whole(planes), lambda colour: _whole(invert_upsample2x(colour)), _upsample2x_integer)

    def gained(self, planes: Any, bands: Sequence[Any], gains: Sequence[Any]) -> Any:
        """Return what the planes gain, those of images without any gain nothing."""
        after = self.synthesise([band + gain for band, gain in zip(bands, gains, strict=True)])
        most = [ops.max(ops.abs(gain), axis=(1, 2, 3), keepdims=True) for gain in gains]
        coded = ops.max(ops.stack(most), axis=0) > LEAST_STEP
        return ops.where(coded, after - planes, 0.0)

    def synthesise(self, bands: Sequence[Any]) -> Any:
        """Return the planes that a decoder in whole greys makes of the five bands."""
        luma, *halves = (_whole(_from_blocks(band)[..., None]) for band in bands[:3])
        colours = [_upsample2x_integer(half) + _whole(lost) for half, lost in zip(halves, bands[3:], strict=True)]
        return ops.concatenate([luma, *colours], axis=-1)


def _whole(values: Any) -> Any:
    return ops.floor(values + HALF_UP)


def _downsample2x_integer(values: Any) -> Any:
    half = downsample2x(values)
    return ops.floor(half + _alternating(half, 1 / 4, 2 / 4))


def _upsample2x_integer(half: Any) -> Any:
    values = upsample2x(half)
    return ops.floor(values + _alternating(values, 8 / 16, 7 / 16))


def _alternating(values: Any, even: float, odd: float) -> Any:
    """Return what is added to the even and odd columns of `values` (N, h, w, c), (w, 1)."""
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
    # the same curves everywhere in luma, and everywhere in each colour difference
    curves = tuple(Curves(3, 401, 0.05) for _ in range(3 * LEVELS + 1))

    def analyse(self, planes: Any) -> list[Any]:
        """Return 16 bands (N, h, w, 3): columns', rows' and both details of each level, finest first; then the rest."""
        return analysed(planes, ops)

    def recover(self, planes: Any) -> list[Any]:
        """Return the same as `analyse`, as there is one way only."""
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
    """Return whether the transform of this name, or "none", has a step for every image, which is read off it."""
    return codec_prior in CODEC_PRIORS and CODEC_PRIORS[codec_prior].scaled
