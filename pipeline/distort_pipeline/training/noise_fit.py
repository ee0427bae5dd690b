"""The colour matrices of a noise pyramid, read off pairs: power spectrum and colour covariance of what is left.

What is left is the difference y - x, without T(x) where responses were fitted. Its power spectrum is a sum of those of
the pyramid's levels, each times a power that cannot be negative: non-negative least squares over radial frequencies,
on relative errors. Clipped pixels say nothing of noise; tiles with many are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from distort_pipeline.networks.noise_pyramid import NoisePyramid
from distort_pipeline.ranges import GREYS_PER_UNIT, Pictures
from distort_pipeline.seeds import generator

Floats = NDArray[np.floating]

LEVELS = 7
FIELD_PX = 128  # the coarsest map of so small a field has 2 x 2 values
FIELDS = 64  # drawn of each level, for its spectrum: to within 2 %
RADII = np.geomspace(1.0, FIELD_PX / 2, 14)  # cycles a field, limits of the radial bins
MOST_CLIPPED = 0.02  # share of values at 0 or 255
LEAST_TILES = 8


def fit_noise(explained: Pictures, distorted: Pictures, *, channels: int) -> Floats:
    """Return matrices (7, channels, 3) of a `NoisePyramid`, coarsest first, for tiles (N, H, W, 3), sides from 128.

    `explained` is what noise is to be added to: x + T(x), or the pristine tiles alone. Without a difference all is 0.
    """
    clipped = ((distorted == 0) | (distorted == 255)).mean((1, 2, 3))
    order = np.argsort(clipped, kind="stable")
    chosen = order[: max(LEAST_TILES, int((clipped <= MOST_CLIPPED).sum()))]
    fields = np.concatenate([_fields(distorted[i].astype(np.float32) - explained[i]) for i in chosen]) / GREYS_PER_UNIT
    if not fields.any():
        return np.zeros((LEVELS, channels, 3), np.float32)
    wanted = _spectrum(fields)
    levels = np.stack([_spectrum(_drawn(level)) for level in range(LEVELS)], axis=1)
    powers, _ = nnls(levels / wanted[:, None], np.ones(len(wanted)))
    colours = _colours(fields, channels)
    return (np.sqrt(powers)[:, None, None] * colours).astype(np.float32)


def _fields(difference: Floats) -> Floats:
    """Return the square fields (n, 128, 128, 3) that fit into a difference (H, W, 3)."""
    rows, columns = (side // FIELD_PX for side in difference.shape[:2])
    cut = difference[: rows * FIELD_PX, : columns * FIELD_PX]
    return cut.reshape(rows, FIELD_PX, columns, FIELD_PX, 3).swapaxes(1, 2).reshape(-1, FIELD_PX, FIELD_PX, 3)


def _spectrum(fields: Floats) -> Floats:
    """Return the power of fields (n, 128, 128, c), mean over fields and channels, in each radial bin."""
    power = np.square(np.abs(np.fft.fft2(fields, axes=(1, 2), norm="ortho"))).mean((0, 3))
    cycles = np.fft.fftfreq(FIELD_PX, 1 / FIELD_PX)
    ring = np.digitize(np.hypot(cycles[:, None], cycles[None, :]), RADII)  # 0: brightness, the slowest waves
    sums, counts = (np.bincount(ring.ravel(), weights, len(RADII) + 1) for weights in (power.ravel(), None))
    return sums / counts


def _drawn(level: int) -> Floats:
    """Return fields of the pyramid with unit power at one level."""
    pyramid = NoisePyramid()
    sides = [FIELD_PX // 2**halvings for halvings in reversed(range(LEVELS))]
    pyramid.build([(None, side, side, 1) for side in sides])
    matrices = np.zeros((LEVELS, 1, 3), np.float32)
    matrices[level] = 1
    pyramid.matrices.assign(matrices)
    rng = generator(level)
    maps = [rng.standard_normal((FIELDS, side, side, 1), dtype=np.float32) for side in sides]
    return np.asarray(pyramid(maps))[..., :1]


def _colours(fields: Floats, channels: int) -> Floats:
    """Return a matrix (channels, 3) that colours independent unit noise like `fields`, scaled to a mean power of 1.

    With fewer channels than colours, the directions of most power are kept.
    """
    flat = fields.reshape(-1, 3).astype(np.float64)
    powers, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    root = (np.sqrt(np.maximum(powers, 0))[:, None] * directions.T)[::-1]  # rounding can leave -1e-12
    matrix = np.zeros((channels, 3))
    matrix[: min(channels, 3)] = root[:channels]
    return matrix / np.sqrt(np.square(matrix).sum() / 3)
