"""Downsampling and upsampling by 2 of images and maps (N, h, w, c) on keras.ops."""

from __future__ import annotations

from typing import Any

from keras import ops

INVERSION_ITERATIONS = 16
SMOOTH = (
    1 / 64,
    21 / 64,
    35 / 64,
    7 / 64,
)  # weights of four parents, from two before on, for the first of two children


def downsample2x(values: Any) -> Any:
    """Return (N, h, w, c) at half the size: the means of squares of four pixels. Sides are even."""
    _, height, width, channels = ops.shape(values)
    squares = ops.reshape(values, (-1, height // 2, 2, width // 2, 2, channels))
    return ops.mean(squares, axis=(2, 4))


def upsample2x(values: Any) -> Any:
    """Return (N, h, w, c) at twice the size: each pixel three quarters its parent, one quarter the parent's neighbour.

    This is bilinear interpolation with repeated borders; all new pixels of white noise have the same variance.
    """
    for axis in (1, 2):
        before = ops.concatenate([_end(values, axis, first=True), _all_but(values, axis, last=True)], axis=axis)
        after = ops.concatenate([_all_but(values, axis, last=False), _end(values, axis, first=False)], axis=axis)
        pair = ops.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=axis + 1)
        shape = list(ops.shape(values))
        shape[axis] = 2 * shape[axis]
        values = ops.reshape(pair, shape)
    return values


def upsample_bspline(values: Any) -> Any:
    """Return (N, h, w, c) at twice the size by a B-spline of degree 6, with repeated borders.

    For white noise, the differences of neighbours have equal variance within 15 %. With `upsample2x` the variance is
    four times larger between children of two parents than between children of the same parent.
    """
    for axis in (1, 2):
        side = ops.shape(values)[axis]
        ends = [_end(values, axis, first=first) for first in (True, False)]
        padded = ops.concatenate([ends[0], ends[0], values, ends[1], ends[1]], axis=axis)
        near = [padded[:, i : i + side] if axis == 1 else padded[:, :, i : i + side] for i in range(5)]
        pair = ops.stack(
            [sum(w * values for w, values in zip(SMOOTH, taps, strict=True)) for taps in (near[:4], near[:0:-1])],
            axis=axis + 1,
        )
        shape = list(ops.shape(values))
        shape[axis] = 2 * side
        values = ops.reshape(pair, shape)
    return values


def invert_upsample2x(values: Any) -> Any:
    """Return (N, h, w, c) at half the size whose `upsample2x` is nearest to `values`.

    >>> import numpy as np
    >>> low = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    >>> bool(np.abs(np.asarray(invert_upsample2x(upsample2x(low))) - low).max() < 0.05)
    True
    """
    target = downsample2x(values)
    low = target
    for _ in range(INVERSION_ITERATIONS):  # each keeps at most three quarters of the error, of smooth images much less
        low = low + target - downsample2x(upsample2x(low))
    return low


def _end(values: Any, axis: int, *, first: bool) -> Any:
    rows = slice(None, 1) if first else slice(-1, None)
    return values[:, rows] if axis == 1 else values[:, :, rows]


def _all_but(values: Any, axis: int, *, last: bool) -> Any:
    rows = slice(None, -1) if last else slice(1, None)
    return values[:, rows] if axis == 1 else values[:, :, rows]
