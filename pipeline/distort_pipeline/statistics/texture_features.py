"""Features of small tiles by which a linear classifier tells textures apart: of Y, Cb and Cr at two scales.

Local deviation, normalised (MSCN) coefficients and their products with neighbours as in Mittal et al. 2012 (BRISQUE),
flatness and size of differences, and how differences depend on the phase of an 8 px grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]  # (N, H, W), 8-bit levels
SIGMA_PX, WINDOW = 7 / 6, (7, 7)  # Mittal et al. 2012, section II
SMALL = 0.01  # levels, in front of a logarithm
MSCN_BOUNDS = (-0.8, -0.3, -0.1, 0.1, 0.3, 0.8)
FLAT_BOUNDS = (0.5, 1.5, 3.5, 8.5)  # levels
GRID_PX = 8


def texture_features(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features (N, F) of `tiles` (N, H, W, 3), sRGB; a tile begins at a multiple of 8 px of its image."""
    columns: list[NDArray[np.floating]] = []
    ycc = np.stack([cv2.cvtColor(tile, cv2.COLOR_RGB2YCrCb) for tile in tiles]).astype(np.float32)
    for channel in range(3):
        planes = np.ascontiguousarray(ycc[..., channel])
        columns += [planes.mean((1, 2)) / 128, *_normalised(planes), *_differences(planes), *_phases(planes)]
        columns += _normalised(_halved(planes))
    return np.column_stack(columns).astype(np.float32)


def _normalised(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield statistics of the local deviation, of MSCN coefficients and of products of neighbours, each (N,)."""
    mean, square = _smoothed(planes), _smoothed(planes * planes)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    mscn = (planes - mean) / (deviation + 1)
    flat = deviation.reshape(len(planes), -1)
    yield from np.log(SMALL + np.quantile(flat, (0.1, 0.5, 0.9), axis=1))
    yield np.log(SMALL + flat.mean(1))
    power = np.square(mscn).mean((1, 2))
    yield np.log(SMALL + power)
    yield np.log(SMALL + np.square(mscn * mscn).mean((1, 2)) / np.square(power + 1e-3))
    for bound in MSCN_BOUNDS:
        yield (mscn < bound).mean((1, 2))
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
        product = mscn * np.roll(mscn, (-rows, -columns), (1, 2))
        yield product.mean((1, 2)) / (power + 1e-3)
        yield np.log(SMALL + np.abs(product).mean((1, 2)))


def _differences(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield sizes and flatness of first and second differences, each (N,)."""
    for axis in (1, 2):
        for order in (1, 2):
            size = np.abs(np.diff(planes, n=order, axis=axis))
            yield np.log(SMALL + size.mean((1, 2)))
            for bound in FLAT_BOUNDS:
                yield (size < bound).mean((1, 2))


def _phases(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield the logarithm of second differences at each phase of the grid, relative to all phases, each (N,)."""
    for axis in (1, 2):
        size = np.abs(np.diff(planes, n=2, axis=axis)).mean(3 - axis)
        used = size.shape[1] // GRID_PX * GRID_PX
        phases = size[:, :used].reshape(len(planes), -1, GRID_PX).mean(1)
        yield from np.log((SMALL + phases) / (SMALL + phases.mean(1, keepdims=True))).T


def _smoothed(planes: Planes) -> Planes:
    return np.stack([cv2.GaussianBlur(plane, WINDOW, SIGMA_PX, borderType=cv2.BORDER_REFLECT_101) for plane in planes])


def _halved(planes: Planes) -> Planes:
    height, width = (side // 2 for side in planes.shape[1:])
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes])
