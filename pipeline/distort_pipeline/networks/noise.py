"""A pyramid of noise: the second-order statistics of a random distortion as a colour matrix per octave.

White, pink or coarse-grained noise is a sum of octaves. The decoder's noise maps are drawn at seven resolutions
anyway; here each is coloured and upsampled to the image's resolution, and the sum is added to the image. Two slower
octaves are made of the same numbers: a tile of pink noise is brighter or darker as a whole. A kernel of 3 x 3 pixels
on the sum corrects the remaining error of octaves: steps where 1/f is smooth, and too much power along diagonals, as
octaves are squares and not rings.
Matrices and kernels are fitted to pairs (`training/fit_noise.py`). Not in the paper, whose G is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distort_pipeline.networks.inputs import NumpyOps, fade, interpolate, interpolation_weights

INVERSION_ITERATIONS = 16
# weights of four parents, from two before on, for the first of two children
SMOOTH = (1 / 64, 21 / 64, 35 / 64, 7 / 64)


def downsample2x(values: Any, xp: Any = NumpyOps) -> Any:
    """Return (N, h, w, c) at half the size: the means of squares of four pixels. Sides are even."""
    _, height, width, channels = xp.shape(values)
    squares = xp.reshape(values, (-1, height // 2, 2, width // 2, 2, channels))
    return xp.mean(squares, axis=(2, 4))


def upsample2x(values: Any, xp: Any = NumpyOps) -> Any:
    """Return (N, h, w, c) at twice the size: each pixel three quarters its parent, one quarter the parent's neighbour.

    This is bilinear interpolation with repeated borders; all new pixels of white noise have the same variance.
    """
    for axis in (1, 2):
        before = xp.concatenate([_end(values, axis, first=True), _all_but(values, axis, last=True)], axis=axis)
        after = xp.concatenate([_all_but(values, axis, last=False), _end(values, axis, first=False)], axis=axis)
        pair = xp.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=axis + 1)
        shape = list(xp.shape(values))
        shape[axis] = 2 * shape[axis]
        values = xp.reshape(pair, shape)
    return values


def upsample_bspline(values: Any, xp: Any = NumpyOps) -> Any:
    """Return (N, h, w, c) at twice the size by a B-spline of degree 6, with repeated borders.

    For white noise, the differences of neighbours have equal variance within 15 %. With `upsample2x` the variance is
    four times larger between children of two parents than between children of the same parent.
    """
    for axis in (1, 2):
        side = xp.shape(values)[axis]
        ends = [_end(values, axis, first=first) for first in (True, False)]
        padded = xp.concatenate([ends[0], ends[0], values, ends[1], ends[1]], axis=axis)
        near = [padded[:, i : i + side] if axis == 1 else padded[:, :, i : i + side] for i in range(5)]
        pair = xp.stack(
            [sum(w * values for w, values in zip(SMOOTH, taps, strict=True)) for taps in (near[:4], near[:0:-1])],
            axis=axis + 1,
        )
        shape = list(xp.shape(values))
        shape[axis] = 2 * side
        values = xp.reshape(pair, shape)
    return values


def invert_upsample2x(values: Any, xp: Any = NumpyOps) -> Any:
    """Return (N, h, w, c) at half the size whose `upsample2x` is nearest to `values`.

    >>> import numpy as np
    >>> low = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    >>> bool(np.abs(np.asarray(invert_upsample2x(upsample2x(low))) - low).max() < 0.05)
    True
    """
    target = downsample2x(values, xp)
    low = target
    for _ in range(INVERSION_ITERATIONS):  # each keeps at most three quarters of the error, of smooth images much less
        low = low + target - downsample2x(upsample2x(low, xp), xp)
    return low


def _end(values: Any, axis: int, *, first: bool) -> Any:
    rows = slice(None, 1) if first else slice(-1, None)
    return values[:, rows] if axis == 1 else values[:, :, rows]


def _all_but(values: Any, axis: int, *, last: bool) -> Any:
    rows = slice(None, -1) if last else slice(1, None)
    return values[:, rows] if axis == 1 else values[:, :, rows]


SLOWER = 2  # octaves below that of the coarsest map
MARGIN = 2  # cells of each octave beyond each side of the image: the reach of upsampling
SLOW_SOURCE = 3  # index of the map that slower octaves reuse: large enough for them and their margins


class ColouredNoise:
    """Noise maps (N, h, w, c), coarsest first, each twice as large as its predecessor, → noise (N, H, W, 3)."""

    xp: Any = NumpyOps
    octaves: Any  # (levels, SLOWER + 7, c, 3): a colour matrix for each level and octave, slowest first
    kernels: Any  # (levels, 2, 2), see `convolved`
    levels: int = 1

    def noise(self, maps: Sequence[Any], severity: Any | None = None) -> Any:
        """Return the coloured sum of the `maps`, with several levels at `severity` (N, 1)."""
        xp = self.xp
        if severity is None:
            matrices, kernels = self.octaves, self.kernels
        else:
            shares = interpolation_weights(severity, self.levels, xp)
            matrices = interpolate(fade(severity, self.levels, xp) * shares, self.octaves, xp)
            kernels = interpolate(shares, self.kernels, xp)
        _, height, width, _ = xp.shape(maps[0])
        sides = [(height, width)]
        for _ in range(SLOWER):
            sides.insert(0, tuple((side + 1) // 2 for side in sides[0]))
        slow = slow_octaves(maps[SLOW_SOURCE], sides[:SLOWER], xp)
        total = xp.matmul(slow[0], matrices[:, None, 0])
        for octave, noise in enumerate([*slow[1:], *(with_margin(noise, xp) for noise in maps)], start=1):
            # upsampling doubles the margin; half of it is cut
            _, height, width, _ = xp.shape(noise)
            total = upsample_bspline(total, xp)[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
            total = total + xp.matmul(noise, matrices[:, None, octave])
        return convolved(total, kernels, xp)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def convolved(values: Any, kernels: Any, xp: Any = NumpyOps) -> Any:
    """Return `values` (N, H, W, c) convolved with symmetric 3 x 3 kernels, given as (N or 1, 2, 2), borders mirrored.

    A kernel is [[centre, left and right], [above and below, corners]].
    """
    weights = xp.reshape(kernels, (-1, 2, 2, 1, 1))
    count, height, width, channels = xp.shape(values)
    padded = xp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    flat = xp.reshape(padded, (count, height + 2, -1))  # three axes take two thirds of the time of four
    inner, before, after = slice(channels, -channels), slice(-2 * channels), slice(2 * channels, None)
    rows, outer_rows = flat[:, 1:-1], flat[:, :-2] + flat[:, 2:]
    centre_columns = weights[:, 0, 0] * rows[:, :, inner] + weights[:, 1, 0] * outer_rows[:, :, inner]
    side_columns = weights[:, 0, 1] * rows + weights[:, 1, 1] * outer_rows
    return xp.reshape(
        centre_columns + side_columns[:, :, before] + side_columns[:, :, after], (count, height, width, channels)
    )


def slow_octaves(noise: Any, sides: Sequence[tuple[Any, Any]], xp: Any = NumpyOps) -> list[Any]:
    """Return maps of these `sides` plus `MARGIN` cells all around, with numbers of the finer map `noise` (N, h, w, c).

    The margin gives a small image the slow waves of a window of a large image. Each channel takes the numbers of
    another channel and corner: no octave repeats the numbers of a finer octave at the same position.
    """
    maps = []
    for octave, (height, width) in enumerate(sides, start=1):
        corner = noise[:, :: (-1) ** octave, :: (-1) ** octave][:, : height + 2 * MARGIN, : width + 2 * MARGIN]
        maps.append(xp.roll(corner, octave, axis=-1))
    return maps


def with_margin(noise: Any, xp: Any = NumpyOps) -> Any:
    """Return the map `noise` (N, h, w, c) with a margin of `MARGIN` cells, (N, h + 4, w + 4, c).

    The margin repeats the border of other channels: with the same channel, upsampling would amplify the noise there.
    On one of two opposite sides its sign is turned: the channels' correlations cancel over the image.
    """
    for axis in (1, 2):
        for ring in range(MARGIN):
            first, last = (
                xp.roll(noise[:, end] if axis == 1 else noise[:, :, end], 1, axis=-1)
                for end in (slice(None, 1), slice(-1, None))
            )
            noise = xp.concatenate([-first if ring == 0 else first, noise, last], axis=axis)
    return noise
