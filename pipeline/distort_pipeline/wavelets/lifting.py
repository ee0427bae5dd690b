"""The 9/7 wavelet of Cohen, Daubechies and Feauveau, the lossy wavelet of JPEG 2000, by lifting.

By steps (Daubechies and Sweldens 1998, section 7.9), borders mirrored: in place, and exactly invertible for any
coefficients. The scale of the bands makes the transform nearly orthonormal. `xp` is `numpy` or `keras.ops`: workers
without networks need no backend.
"""

from __future__ import annotations

from typing import Any

LEVELS = 5
LIFTING = (-1.586134342, -0.052980118, 0.882911075, 0.443506852)  # predict, update, predict, update
LIFTING_SCALE = 1.230174105 / 2**0.5  # of the details; its inverse for the rest
MULTIPLE_PX = 2**LEVELS  # sides of the input are multiples of this


def analysed(planes: Any, xp: Any) -> list[Any]:
    """Return the 16 bands of `planes` (N, H, W, c): columns', rows' and both details of each level, finest first."""
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
