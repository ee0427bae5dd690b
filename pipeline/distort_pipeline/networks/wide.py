"""What the light far around a pixel decides: large blurs, glow and diffused colour; local tone mapping.

Blurs are linear: y - x = Σ_b (d_b * x) A_b + b, with the bands d_b between Gaussian blurs of doubling width, the widest
for the last, and matrices of all three channels: few numbers, where a kernel of that size would have thousands.

Local tone mapping is a curve that depends on where the pixel is: with Y its luma, M the mean and S the log of the
deviation of luma in a wide window, Y' = Y + t(Y, M, S), and Cb and Cr are multiplied by 1 + g(Y, M, S). Tables t and g
are linear between knots, as in the bilateral grid of Chen, Paris and Durand, "Real-time edge-aware image processing
with the bilateral grid", ACM TOG 2007. Equalised, compressed and sharpened at a large radius are tables.

Both are least squares over random pixels of all images.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import scipy  # its sparse matrices load at their first use, in a fit
from numpy.typing import NDArray

from distort_pipeline.networks.filters import to_display, to_linear, to_rgb, to_ycc
from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition
from distort_pipeline.records import make_rng

SIGMAS_PX = (1.0, 2.0, 4.0, 8.0, 16.0)
REACH = 3  # in sigmas
PIXELS = 200_000  # of all images together
RIDGE = 1e-6  # of the power of a feature, towards no change
KNOTS = (17, 9, 5)  # of Y, M and S
SMOOTH = 2e-4  # of the number of pixels: how far a cell of a table follows its neighbours
LEAST_DEVIATION = 1.0  # levels, added before logarithms
LOG_DEVIATIONS = (0.0, 4.5)  # of luma in a window, at least and at most: 1 to 90 levels


@dataclass(frozen=True)
class Blurs:
    """Weights (3 (1 + sigmas) + 1, 3) of the bands of R, G and B, finest first, and of an offset; in `linear` light."""

    weights: NDArray[np.float32]
    linear: bool = False
    reach_px: ClassVar[int] = round(REACH * SIGMAS_PX[-1])
    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) with weighted bands of itself added; borders are reflected."""
        values = to_linear(image) if self.linear else image
        changed = values + _bands(values) @ self.weights[:-1] + self.weights[-1]
        return to_display(changed) if self.linear else np.asarray(changed, np.float32)


def fit_blurs(patches: Sequence[PairPatch], bases: Sequence[Levels], *, linear: bool = False) -> Blurs:
    """Return the blurs that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    rows, targets = [], []
    for patch, base in zip(patches, bases, strict=True):
        chosen = _pixels(base, Blurs.reach_px, PIXELS // len(patches))
        x, y = base, patch.distorted.astype(np.float32)
        unclipped = ((y[chosen] > 1) & (y[chosen] < 254)).all(1)
        if linear:
            x, y = to_linear(x), to_linear(y)
        rows.append(_bands(x)[chosen][unclipped])
        targets.append((y - x)[chosen][unclipped])
    design = np.insert(np.concatenate(rows), 3 * (1 + len(SIGMAS_PX)), 1.0, axis=1).astype(np.float64)
    gram = design.T @ design
    gram[np.diag_indices_from(gram)] *= 1 + RIDGE
    gram[np.diag_indices_from(gram)] += RIDGE
    return Blurs(np.linalg.solve(gram, design.T @ np.concatenate(targets)).astype(np.float32), linear)


def _bands(values: Levels) -> Levels:
    """Return the bands of `values` (H, W, 3), finest first and the widest blur last, (H, W, 3 (1 + sigmas))."""
    blurs = [values, *(_blurred(values, sigma) for sigma in SIGMAS_PX)]
    return np.concatenate([*(finer - coarser for finer, coarser in itertools.pairwise(blurs)), blurs[-1]], axis=-1)


@dataclass(frozen=True)
class LocalTone:
    """Tables (3, knots): t, and g of Cb and of Cr, at `KNOTS` of Y, M and S in windows of deviation `sigma_px`."""

    tables: NDArray[np.float32]
    sigma_px: float
    sets: ClassVar[int] = 1

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel."""
        return round(REACH * self.sigma_px)

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through its places' curves; borders are reflected."""
        ycc = to_ycc(image)
        table = self.tables.T
        moved = np.zeros((*image.shape[:2], 3), np.float32)
        for cell, share in _cells(_coordinates(ycc[..., 0], self.sigma_px)):
            moved += share[..., None] * table[cell]
        factors = np.concatenate([np.ones_like(ycc[..., :1]), ycc[..., 1:] - 128], axis=-1)
        return to_rgb(ycc + moved * factors)


def fit_local_tone(patches: Sequence[PairPatch], bases: Sequence[Levels], *, sigma_px: float) -> LocalTone:
    """Return the tables that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    cells, shares, factors, targets = [], [], [], []
    for patch, base in zip(patches, bases, strict=True):
        chosen = _pixels(base, round(REACH * sigma_px), PIXELS // len(patches))
        x, y = to_ycc(base), to_ycc(patch.distorted)
        corners = list(_cells([values[chosen] for values in _coordinates(x[..., 0], sigma_px)]))
        cells.append(np.stack([cell for cell, _ in corners], axis=-1))
        shares.append(np.stack([share for _, share in corners], axis=-1))
        factors.append(x[chosen] - [0, 128, 128])
        targets.append((y - x)[chosen])
    cell, share, factor, target = (np.concatenate(rows) for rows in (cells, shares, factors, targets))
    factor[:, 0] = 1
    count, corners_each = cell.shape
    pixel = np.repeat(np.arange(count), corners_each)
    smooth = SMOOTH * count * _differences()
    tables = []
    for c in range(3):
        weights = (share * factor[:, c : c + 1]).ravel()
        design = scipy.sparse.csr_matrix((weights, (pixel, cell.ravel())), shape=(count, np.prod(KNOTS)))
        power = float(np.square(factor[:, c]).mean())
        gram = (design.T @ design).toarray() + power * (smooth + 1e-3 * np.eye(len(smooth)))
        tables.append(scipy.linalg.solve(gram, design.T @ target[:, c], assume_a="pos"))
    return LocalTone(np.array(tables, np.float32), sigma_px)


def _coordinates(luma: Levels, sigma_px: float) -> list[Levels]:
    """Return where Y, M and S lie between their knots, each as (H, W)."""
    mean = _blurred(luma, sigma_px)
    power = _blurred(np.square(luma - mean), sigma_px)
    log_deviation = np.log(np.sqrt(power) + LEAST_DEVIATION)
    low, high = LOG_DEVIATIONS
    unit = (luma / 255, mean / 255, (log_deviation - low) / (high - low))
    return [
        np.asarray(np.clip(values, 0, 1) * (knots - 1), np.float32) for values, knots in zip(unit, KNOTS, strict=True)
    ]


def _cells(coordinates: Sequence[Levels]) -> list[tuple[NDArray[np.intp], Levels]]:
    """Return the eight corners about each pixel: their index in a table, and their share."""
    lower = [np.minimum(values.astype(np.intp), knots - 2) for values, knots in zip(coordinates, KNOTS, strict=True)]
    upper_shares = [values - low for values, low in zip(coordinates, lower, strict=True)]
    corners = []
    for corner in itertools.product((0, 1), repeat=len(KNOTS)):
        index = np.ravel_multi_index(tuple(low + step for low, step in zip(lower, corner, strict=True)), KNOTS)
        share = np.ones_like(coordinates[0])
        for step, upper in zip(corner, upper_shares, strict=True):
            share = share * (upper if step else 1 - upper)
        corners.append((index, np.asarray(share, np.float32)))
    return corners


def _differences() -> NDArray[np.float64]:
    """Return the quadratic form of the differences of neighbouring cells of a table."""
    index = np.arange(np.prod(KNOTS)).reshape(KNOTS)
    form = np.zeros((index.size, index.size))
    for axis in range(len(KNOTS)):
        one, other = (np.take(index, range(*ends), axis).ravel() for ends in ((0, KNOTS[axis] - 1), (1, KNOTS[axis])))
        for first, second in ((one, other), (other, one)):
            form[first, first] += 1
            form[first, second] -= 1
    return form / index.size


def _pixels(image: Levels, reach_px: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of `count` random pixels of `image`, no nearer to its borders than can be."""
    margins = [min(reach_px, side // 4) for side in image.shape[:2]]
    rng = make_rng(count)
    rows, columns = (
        rng.integers(margin, side - margin, count) for margin, side in zip(margins, image.shape[:2], strict=True)
    )
    return rows, columns


def _blurred(values: Levels, sigma_px: float) -> Levels:
    side = 2 * round(REACH * sigma_px) + 1
    border = cv2.BORDER_REFLECT_101
    blurred = cv2.GaussianBlur(np.ascontiguousarray(values, np.float32), (side, side), sigma_px, borderType=border)
    return np.asarray(blurred, np.float32)
