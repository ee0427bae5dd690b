"""The 9/7 wavelet of JPEG 2000, an image's significance, the basis of its rate control, and its bit planes.

`xp` is `numpy` or `keras.ops`: workers without networks need no backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import Image

LEVELS = 5
LIFTING = (-1.586134342, -0.052980118, 0.882911075, 0.443506852)  # predict, update, predict, update
LIFTING_SCALE = 1.230174105 / 2**0.5  # of the details; its inverse for the rest
MULTIPLE_PX = 2**LEVELS  # sides of the input are multiples of this


def analysed(planes: Any, xp: Any) -> list[Any]:
    """Return the 16 bands of `planes` (N, H, W, c): columns', rows' and both details of each level, finest first.

    The wavelet of Cohen, Daubechies and Feauveau by lifting steps (Daubechies and Sweldens 1998, section 7.9), borders
    mirrored: exactly invertible for any coefficients. The scale of the bands makes it nearly orthonormal.
    """
    bands = []
    smooth = planes
    for _ in range(LEVELS):
        low, high = lift(smooth, 2, xp)
        smooth, rows = lift(low, 1, xp)
        columns, both = lift(high, 1, xp)
        bands += [columns, rows, both]
    return [*bands, smooth]


def lift(values: Any, axis: int, xp: Any) -> tuple[Any, Any]:
    """Return the smooth half and the details of `values` (N, H, W, c) along `axis`, 1 or 2."""
    even, odd = _every_other(values, 0, axis), _every_other(values, 1, axis)
    for predict, update in (LIFTING[:2], LIFTING[2:]):
        odd = odd + predict * (even + _shifted(even, 1, axis, xp))
        even = even + update * (odd + _shifted(odd, -1, axis, xp))
    return even / LIFTING_SCALE, odd * LIFTING_SCALE


def unlift(low: Any, high: Any, axis: int, xp: Any) -> Any:
    """Return the values whose `lift` is (`low`, `high`)."""
    even, odd = low * LIFTING_SCALE, high / LIFTING_SCALE
    for predict, update in (LIFTING[2:], LIFTING[:2]):
        even = even - update * (odd + _shifted(odd, -1, axis, xp))
        odd = odd - predict * (even + _shifted(even, 1, axis, xp))
    shape = list(xp.shape(even))
    shape[axis] = 2 * shape[axis]
    return xp.reshape(xp.stack([even, odd], axis=axis + 1), shape)


def _every_other(values: Any, first: int, axis: int) -> Any:
    return values[:, first::2] if axis == 1 else values[:, :, first::2]


def _shifted(values: Any, by: int, axis: int, xp: Any) -> Any:
    """Return each value's neighbour, the next (`by` 1) or the previous (-1); at the border the value itself."""
    first, second = (slice(1, None), slice(-1, None)) if by > 0 else (slice(None, 1), slice(None, -1))
    pieces = [values[:, first], values[:, second]] if axis == 1 else [values[:, :, first], values[:, :, second]]
    return xp.concatenate(pieces, axis=axis)


Significance = NDArray[np.float32]  # (18,): the share of an image's coefficients not below each of the SIZES
Significances = NDArray[np.float32]  # (N, 18), a row for each image

SIZES = (2.0 ** (np.arange(18) / 2)).astype(np.float32)  # 8-bit levels: 1 to 362, half an octave apart
LOG_SPACING = float(np.log(2.0) / 2)
LEAST_SHARE = 1e-7  # of the coefficients; keeps the logarithm finite
HEADERS = 465  # coefficients for the bytes of headers: some 310 of a .jp2 of a plain image, 1.5 coefficients a byte
ZERO_LEVEL = 128  # subtracted from each channel by codecs
# luma and colour differences of full-range RGB, ITU-T T.871 (JFIF); the irreversible transform of JPEG 2000 is the same
TO_PLANES = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)


def significance_of(image: Image) -> Significance:
    """Return the significance (18,) of a whole `image` (H, W, 3), mirrored at the bottom and right to whole bands.

    A wavelet coder with a byte budget ends with about the same number of significant coefficients for any image: bits
    grow linearly with the share of coefficients not rounded to 0 (He and Mitra, "A unified rate-distortion analysis
    framework for transform coding", IEEE TCSVT 11(12), 2001, where 1 minus this share is called ρ). An image's step is
    the magnitude reached by a share of its coefficients, and the share is the same for all images. The step belongs to
    the whole image; 18 numbers are small enough to accompany each tile.

    Headers have their share of the budget, large in a small image: they count as HEADERS coefficients of any magnitude.

    >>> plain = significance_of(np.full((40, 50, 3), 100, np.uint8))  # one value in 3 x 32 x 32 is not 0
    >>> [round(1 / (float(share) - HEADERS / 6000)) for share in plain[[0, -1]]]
    [3072, 3072]
    """
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)), "symmetric")
    planes = (padded.astype(np.float32) - ZERO_LEVEL) @ TO_PLANES.T
    sizes = np.abs(np.concatenate([band.ravel() for band in analysed(planes[None], np)]))
    shares = [np.count_nonzero(sizes >= least) / sizes.size for least in SIZES]
    return np.minimum(np.array(shares, np.float32) + np.float32(HEADERS / image.size), np.float32(1))


def log_sizes(significance: Any, log_shares: Any, xp: Any) -> Any:
    """Return the logarithms (N,) of the magnitudes, in 8-bit levels, reached by shares `log_shares` (N,).

    `significance` is (N, 18). Linear in logarithms between two of the SIZES; never beyond the outermost.
    """
    reached = xp.log(xp.maximum(significance, LEAST_SHARE))
    steps = xp.maximum(reached[:, :-1] - reached[:, 1:], LEAST_SHARE)
    passed = xp.clip((reached[:, :-1] - log_shares[:, None]) / steps, 0.0, 1.0)
    return LOG_SPACING * xp.sum(passed, axis=1)


PHASES = 4  # of an octave, each with learned curves: steps are known to about a fifth of an octave


def plane_shares(steps: Any, xp: Any) -> tuple[Any, Any]:
    """Return the bit plane (N, 1) below each of the `steps` (N, 1), both in 8-bit levels, and phase weights.

    JPEG 2000 codes coefficients bit plane by bit plane, most significant first, and drops the rest when the bytes are
    spent (Taubman, "High performance scalable image compression with EBCOT", IEEE TIP 9(7), 2000): coefficients are cut
    at powers of two, whatever step would be right for an image, and the pattern repeats from octave to octave of steps.
    Curves are therefore learned at a few phases of an octave, in units of the bit plane below the step.

    Of the weights (N, PHASES + 1) at most two are not 0, with sum 1; the last phase is the next plane.

    >>> plane, shares = plane_shares(np.array([[9.0]]), np)
    >>> plane.item(), shares.round(2).tolist()
    (8.0, [[0.32, 0.68, 0.0, 0.0, 0.0]])
    """
    octaves = xp.log2(steps)
    below = xp.floor(octaves)
    phases = PHASES * (octaves - below)
    return 2.0**below, xp.maximum(1 - xp.abs(phases - np.arange(PHASES + 1, dtype=np.float32)), 0.0)


def nearest_phases(steps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the bit plane (N,) in 8-bit levels and the phase, 0 to PHASES - 1, nearest to each of `steps`.

    >>> nearest_phases(np.array([9.0, 15.5], np.float32))
    (array([ 8., 16.], dtype=float32), array([1, 0]))
    """
    octaves, phases = np.divmod(np.rint(PHASES * np.log2(steps)).astype(np.int64), PHASES)
    return (2.0**octaves).astype(np.float32), phases
