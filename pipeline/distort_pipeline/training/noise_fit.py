"""The colour matrices of a noise pyramid, read off pairs: power spectrum and colour covariance of what is left.

What is left is the difference y - x, without T(x) where responses were fitted. Its power spectrum is a sum of those of
the pyramid's scales, each times a power that cannot be negative: non-negative least squares over radial frequencies,
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

SCALES = 7
FIELD_PX = 128  # the coarsest map of so small a field has 2 x 2 values
FIELDS = 64  # drawn of each scale, for its spectrum: to within 2 %
RADII = np.geomspace(1.0, FIELD_PX / 2, 14)  # cycles a field, limits of the radial bins
MOST_CLIPPED = 0.02  # share of values at 0 or 255
LEAST_TILES = 8


def fit_noise(explained: Pictures, distorted: Pictures, *, channels: int) -> Floats:
    """Return matrices (7, channels, 3) of a `NoisePyramid`, coarsest first, for tiles (N, H, W, 3), sides from 128.

    `explained` is what noise is to be added to: x + T(x), or the pristine tiles alone. Without a difference all is 0.
    """
    clipped = np.array([((tile == 0) | (tile == 255)).mean() for tile in distorted])
    order = np.argsort(clipped, kind="stable")
    chosen = order[: max(LEAST_TILES, int((clipped <= MOST_CLIPPED).sum()))]
    power, covariance = np.zeros((FIELD_PX, FIELD_PX)), np.zeros((3, 3))
    for tile in chosen:  # one at a time: as numbers all tiles take gigabytes
        fields = _fields(distorted[tile].astype(np.float32) - explained[tile]) / GREYS_PER_UNIT
        flat = fields.reshape(-1, 3).astype(np.float64)
        power += _power(fields) / len(chosen)
        covariance += flat.T @ flat / len(flat) / len(chosen)
    if not covariance.any():
        return np.zeros((SCALES, channels, 3), np.float32)
    wanted = _radial(power)
    scales = np.stack([_radial(_power(_drawn(scale))) for scale in range(SCALES)], axis=1)
    powers, _ = nnls(scales / wanted[:, None], np.ones(len(wanted)))
    colours = _colours(covariance, channels)
    return (np.sqrt(powers)[:, None, None] * colours).astype(np.float32)


def _fields(difference: Floats) -> Floats:
    """Return the square fields (n, 128, 128, 3) that fit into a difference (H, W, 3)."""
    rows, columns = (side // FIELD_PX for side in difference.shape[:2])
    cut = difference[: rows * FIELD_PX, : columns * FIELD_PX]
    return cut.reshape(rows, FIELD_PX, columns, FIELD_PX, 3).swapaxes(1, 2).reshape(-1, FIELD_PX, FIELD_PX, 3)


def _power(fields: Floats) -> Floats:
    """Return the power spectrum of fields (n, 128, 128, c), mean over fields and channels, (128, 128)."""
    power: Floats = np.square(np.abs(np.fft.fft2(fields, axes=(1, 2), norm="ortho"))).mean((0, 3))
    return power


def _radial(power: Floats) -> Floats:
    """Return the mean of a power spectrum (128, 128) in each radial bin."""
    cycles = np.fft.fftfreq(FIELD_PX, 1 / FIELD_PX)
    ring = np.digitize(np.hypot(cycles[:, None], cycles[None, :]), RADII)  # 0: brightness, the slowest waves
    sums, counts = (np.bincount(ring.ravel(), weights, len(RADII) + 1) for weights in (power.ravel(), None))
    return sums / counts


def _drawn(scale: int) -> Floats:
    """Return fields of the pyramid with unit power at one scale."""
    pyramid = NoisePyramid()
    sides = [FIELD_PX // 2**halvings for halvings in reversed(range(SCALES))]
    pyramid.build([(None, side, side, 1) for side in sides])
    matrices = np.zeros((1, SCALES, 1, 3), np.float32)
    matrices[0, scale] = 1
    pyramid.matrices.assign(matrices)
    rng = generator(scale)
    maps = [rng.standard_normal((FIELDS, side, side, 1), dtype=np.float32) for side in sides]
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
