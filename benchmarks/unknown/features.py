"""Features of tiles for the classifiers: natural-scene statistics, gradients, phases of the grid; of Y, Cb and Cr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Tiles = NDArray[np.uint8]  # (N, TILE_PX, TILE_PX, 3), sRGB
Features = NDArray[np.float32]  # (N, features)
Planes = NDArray[np.float32]  # (N, H, W), 8-bit levels

TILE_PX = 96
ALIGN_PX = 16  # tiles begin at multiples of it, so that the phases of blocks up to 16 px are the same in all
TINY = 1e-2  # added before logarithms: 8-bit levels
MSCN_SIGMA_PX, MSCN_WINDOW_PX = 7 / 6, 7  # as JSD_NSS has it (Mittal et al. 2012)
QUANTISED = 0.75  # 8-bit levels: below it a coefficient of an 8-point DCT counts as quantised to zero


def tile_features(tiles: Tiles) -> Features:
    """Return all features of `tiles`, (N, about 350); those with heavy tails as logarithms."""
    ycc = np.stack([cv2.cvtColor(tile, cv2.COLOR_RGB2YCrCb) for tile in tiles]).astype(np.float32)
    features = [_levels(tiles)]
    for channel in range(3):
        plane = np.ascontiguousarray(ycc[..., channel])
        features += [*_scene_statistics(plane), *_scene_statistics(_halved(plane)), *_gradients(plane), *_grid(plane)]
    return np.concatenate([column.reshape(len(tiles), -1) for column in features], axis=1).astype(np.float32)


def _levels(tiles: Tiles) -> NDArray[np.float32]:
    """Return mean, deviation, share of black and of white, and the number of levels, by channel (N, 15)."""
    flat = tiles.reshape(len(tiles), -1, 3)
    used = np.array([[len(np.unique(channel)) for channel in tile.T] for tile in flat])
    ends = [np.log(TINY + 100 * (flat == level).mean(axis=1)) for level in (0, 255)]
    return np.concatenate([flat.mean(axis=1) / 255, np.log(1 + flat.std(axis=1)), *ends, np.log(used)], axis=1)


def _scene_statistics(planes: Planes) -> Iterator[NDArray[np.float32]]:
    """Yield moments of MSCN coefficients and of their products with four neighbours, each (N,) or (N, M)."""
    mean = _blurred(planes)
    sigma = np.sqrt(np.maximum(_blurred(planes * planes) - mean * mean, 0))
    field = (planes - mean) / (sigma + 1)
    yield np.log(TINY + sigma.mean(axis=(1, 2)))
    yield np.log(TINY + np.quantile(sigma.reshape(len(planes), -1), (0.1, 0.5, 0.9), axis=1).T)
    yield from _moments(field)
    limits = (-1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0)
    yield np.stack([(field < limit).mean(axis=(1, 2)) for limit in limits], axis=1)
    for first, second in (
        (field[:, :, :-1], field[:, :, 1:]),
        (field[:, :-1], field[:, 1:]),
        (field[:, :-1, :-1], field[:, 1:, 1:]),
        (field[:, :-1, 1:], field[:, 1:, :-1]),
    ):
        product = first * second
        yield product.mean(axis=(1, 2))
        yield np.log(1e-3 + np.abs(product).mean(axis=(1, 2)))
        yield product.mean(axis=(1, 2)) / (1e-3 + (field * field).mean(axis=(1, 2)))


def _moments(field: Planes) -> Iterator[NDArray[np.float32]]:
    """Yield variance, skewness and kurtosis of each field (N,)."""
    centred = field - field.mean(axis=(1, 2), keepdims=True)
    squares = centred * centred  # products: NumPy's ** is twenty times slower
    variance = squares.mean(axis=(1, 2))
    yield np.log(1e-3 + variance)
    yield (squares * centred).mean(axis=(1, 2)) / (variance + 1e-3) ** 1.5
    yield np.log((squares * squares).mean(axis=(1, 2)) / (variance + 1e-3) ** 2 + TINY)


def _gradients(planes: Planes) -> Iterator[NDArray[np.float32]]:
    """Yield strength and flatness of first and second differences, and power by octave, each (N,) or (N, M)."""
    energies = []
    for axis in (1, 2):
        first, second = np.abs(np.diff(planes, axis=axis)), np.abs(np.diff(planes, n=2, axis=axis))
        energies += [first.mean(axis=(1, 2)), second.mean(axis=(1, 2))]
        yield np.stack([(first <= limit).mean(axis=(1, 2)) for limit in (0, 1, 2, 4, 8, 16)], axis=1)
        yield np.stack([(second <= limit).mean(axis=(1, 2)) for limit in (0, 1, 2, 4)], axis=1)
    bands, rest = [], planes
    for _ in range(4):
        smooth = _blurred(rest)
        bands.append(np.square(rest - smooth).mean(axis=(1, 2)))
        rest = _halved(smooth)
    logs = np.log(TINY + np.stack([*energies, *bands], axis=1))
    yield logs
    yield np.diff(logs, axis=1)


def _grid(planes: Planes) -> Iterator[NDArray[np.float32]]:
    """Yield how differences depend on the column and the row modulo 16, and how quantised the DCT of 8 px blocks is."""
    for axis in (1, 2):
        jumps = np.abs(np.diff(planes, n=2, axis=axis)).mean(axis=3 - axis)  # (N, side - 2)
        aligned_px = jumps.shape[1] // ALIGN_PX * ALIGN_PX
        profile = jumps[:, :aligned_px].reshape(len(planes), -1, ALIGN_PX).mean(axis=1)
        yield np.log((TINY + profile) / (TINY + profile.mean(axis=1, keepdims=True)))
    aligned, shifted = _quantised(planes), _quantised(planes[:, 4:-4, 4:-4])
    yield aligned
    yield aligned - shifted


def _quantised(planes: Planes) -> NDArray[np.floating[Any]]:
    """Return the share of coefficients near zero among six groups of an 8 × 8 DCT of whole blocks, (N, 6)."""
    count, height, width = planes.shape
    basis = cv2.dct(np.eye(8, dtype=np.float32))
    blocks = planes.reshape(count, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    small = (np.abs(basis @ blocks @ basis.T) < QUANTISED).mean(axis=(1, 2))
    order = np.add.outer(np.arange(8), np.arange(8))
    groups = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 14))
    return np.stack([small[:, (order >= low) & (order <= high)].mean(axis=1) for low, high in groups], axis=1)


def _blurred(planes: Planes) -> Planes:
    """Return the Gaussian-weighted means of the MSCN window, borders replicated."""
    size = (MSCN_WINDOW_PX, MSCN_WINDOW_PX)
    border = cv2.BORDER_REPLICATE
    return np.stack([cv2.GaussianBlur(plane, size, MSCN_SIGMA_PX, borderType=border) for plane in planes])


def _halved(planes: Planes) -> Planes:
    """Return the means of 2 × 2 boxes; the sides are even."""
    sums = planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2]
    return sums * np.float32(0.25)
