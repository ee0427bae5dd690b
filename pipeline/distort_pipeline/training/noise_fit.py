"""The colour matrices of a noise pyramid, read off pairs: power spectrum and colour covariance of what is left.

What is left is the difference y - x, without T(x) where responses were fitted. Its power spectrum is a sum of those of
the pyramid's octaves, each times a power that cannot be negative: non-negative least squares over radial frequencies,
on relative errors. Clipped pixels say nothing of noise; tiles with many are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from distort_pipeline.networks.noise_pyramid import SLOWER, NoisePyramid
from distort_pipeline.ranges import GREYS_PER_UNIT, Pictures
from distort_pipeline.seeds import generator

Floats = NDArray[np.floating]

MAPS = 7
OCTAVES = SLOWER + MAPS
STRIDE_PX = 128  # between fields, which overlap
MOST_FIELD_PX = 256  # the side of a field, or 128 where tiles are smaller: the slowest octave is one value of it
FIELDS = 64  # drawn of each octave, for its spectrum
RINGS = 14  # radial bins, apart from the mean of a field
MOST_CLIPPED = 0.02  # share of values at 0 or 255
LEAST_TILES = 8


def fit_noise(explained: Pictures, distorted: Pictures, *, channels: int) -> Floats:
    """Return matrices (9, channels, 3) of a `NoisePyramid`, slowest octave first; tiles are (N, H, W, 3), from 128 px.

    `explained` is what noise is to be added to: x + T(x), or the pristine tiles alone. Without a difference all is 0.
    """
    clipped = np.array([((tile == 0) | (tile == 255)).mean() for tile in distorted])
    order = np.argsort(clipped, kind="stable")
    chosen = order[: max(LEAST_TILES, int((clipped <= MOST_CLIPPED).sum()))]
    side = min(MOST_FIELD_PX, *explained.shape[1:3])
    power, covariance = np.zeros((side, side)), np.zeros((3, 3))
    for tile in chosen:  # one at a time: as numbers all tiles take gigabytes
        difference = (distorted[tile].astype(np.float32) - explained[tile]) / GREYS_PER_UNIT
        flat = difference.reshape(-1, 3).astype(np.float64)
        power += _power(_fields(difference, side)) / len(chosen)
        covariance += flat.T @ flat / len(flat) / len(chosen)
    if not covariance.any():
        return np.zeros((OCTAVES, channels, 3), np.float32)
    wanted = _radial(power)
    octaves = np.stack([_radial(_power(_drawn(octave, side))) for octave in range(OCTAVES)], axis=1)
    powers, _ = nnls(octaves / wanted[:, None], np.ones(len(wanted)))
    colours = _colours(covariance, channels)
    return (np.sqrt(powers)[:, None, None] * colours).astype(np.float32)


def _fields(difference: Floats, side: int) -> Floats:
    """Return the square fields (n, side, side, 3) that a difference (H, W, 3) has at each stride."""
    windows = np.lib.stride_tricks.sliding_window_view(difference, (side, side), axis=(0, 1))[::STRIDE_PX, ::STRIDE_PX]
    return np.moveaxis(windows, 2, -1).reshape(-1, side, side, 3)


def _power(fields: Floats) -> Floats:
    """Return the power spectrum of fields (n, side, side, c), mean over fields and channels, (side, side)."""
    power: Floats = np.square(np.abs(np.fft.fft2(fields, axes=(1, 2), norm="ortho"))).mean((0, 3))
    return power


def _radial(power: Floats) -> Floats:
    """Return the mean of a power spectrum (side, side) in each radial bin, that of the mean of a field first."""
    side = len(power)
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.digitize(np.hypot(cycles[:, None], cycles[None, :]), np.geomspace(1.0, side / 2, RINGS))
    sums, counts = (np.bincount(ring.ravel(), weights, RINGS + 1) for weights in (power.ravel(), None))
    return sums / counts


def _drawn(octave: int, side: int) -> Floats:
    """Return fields of the pyramid with unit power in one octave."""
    pyramid = NoisePyramid()
    sides = [side // 2**halvings for halvings in reversed(range(MAPS))]
    pyramid.build([(None, size, size, 1) for size in sides])
    matrices = np.zeros((1, OCTAVES, 1, 3), np.float32)
    matrices[0, octave] = 1
    pyramid.matrices.assign(matrices)
    rng = generator(octave)
    maps = [rng.standard_normal((FIELDS, size, size, 1), dtype=np.float32) for size in sides]
    return np.asarray(pyramid(maps))[..., :1]


def _colours(covariance: Floats, channels: int) -> Floats:
    """Return a matrix (channels, 3) that colours independent unit noise with `covariance`, scaled to a mean power of 1.

    With three channels or more it is the symmetric root, which changes smoothly from level to level; with fewer the
    directions of most power are kept.
    """
    powers, directions = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(powers, 0))  # rounding can leave -1e-12
    matrix = np.zeros((channels, 3))
    if channels >= len(roots):
        matrix[: len(roots)] = directions * roots @ directions.T
    else:
        matrix[:] = (roots[:, None] * directions.T)[::-1][:channels]
    return matrix / np.sqrt(np.square(matrix).sum() / 3)
