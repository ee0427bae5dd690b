"""Linear filters that repeat every two pixels: what images that were once half as large have in common.

Scaling down and up again treats even and odd rows and columns differently; so do mosaics and chroma subsampling. There
is a kernel for each of the four phases and each channel, for all images or drawn per image: least squares over random
pixels of the phase, y - x on the neighbourhood, so that the ridge pulls towards the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from distort_pipeline.components.filters import Filters, to_display, to_linear
from distort_pipeline.components.patches import Levels, PairPatch, TilePosition

RADIUS_PX = 5
PHASES = tuple((row, column) for row in range(2) for column in range(2))
PIXELS = 12_000  # of an image's phase, or of each patch where all images share a kernel
PATCHES = 24  # at most
RIDGE = 1e-4  # of the mean power of the neighbourhood


class PhaseFilters(Filters):
    """Kernels (images, 4, 3, K, K) of what is added at each phase, and offsets (images, 4, 3) in levels."""

    def distort(self, image: Levels, choice: int, _: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3), which begins at an even row and column, filtered; borders are reflected."""
        number = choice % len(self.kernels)
        values = to_linear(image) if self.linear else image
        filtered = np.empty_like(values)
        for (row, column), kernels, offsets in zip(PHASES, self.kernels[number], self.offsets[number], strict=True):
            for c in range(3):
                change = cv2.filter2D(values[..., c], cv2.CV_32F, kernels[c], borderType=cv2.BORDER_REFLECT_101)
                inside = (slice(row, None, 2), slice(column, None, 2), c)
                filtered[inside] = values[inside] + change[row::2, column::2] + offsets[c]
        return to_display(filtered) if self.linear else filtered


def fit_phase_filters(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, per_image: bool, linear: bool = False
) -> PhaseFilters:
    """Return the kernels that bring `bases`, one a patch, nearest to the distorted ones; one set, or one an image."""
    rng = np.random.Generator(np.random.PCG64(0))
    images = sorted({patch.image for patch in patches}) if per_image else [-1]
    side = 2 * RADIUS_PX + 1
    kernels = np.zeros((len(images), len(PHASES), 3, side, side), np.float32)
    offsets = np.zeros((len(images), len(PHASES), 3), np.float32)
    for number, image in enumerate(images):
        chosen = [(p, b) for p, b in zip(patches, bases, strict=True) if image in (-1, p.image)]
        spread = np.unique(np.linspace(0, len(chosen) - 1, min(PATCHES, len(chosen))).astype(int))
        pairs = [(chosen[n][1], chosen[n][0].distorted.astype(np.float32)) for n in spread]
        if linear:
            pairs = [(to_linear(base), to_linear(distorted)) for base, distorted in pairs]
        for phase, (row, column) in enumerate(PHASES):
            for c in range(3):
                kernels[number, phase, c], offsets[number, phase, c] = _solved(
                    [(base[..., c], distorted[..., c]) for base, distorted in pairs], row, column, rng
                )
    return PhaseFilters(kernels, offsets, linear)


def _solved(
    planes: Sequence[tuple[Levels, Levels]], row: int, column: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Return the kernel (K, K) and the offset that bring x nearest to y at one phase of `planes` (x, y)."""
    r, side = RADIUS_PX, 2 * RADIUS_PX + 1
    lags = np.arange(-r, r + 1)
    gram, cross = np.zeros((side * side + 1,) * 2), np.zeros(side * side + 1)
    for x, y in planes:
        count = PIXELS // len(planes)
        rows = row + 2 * rng.integers((r + 1) // 2, (x.shape[0] - r - 1) // 2, count)
        columns = column + 2 * rng.integers((r + 1) // 2, (x.shape[1] - r - 1) // 2, count)
        unclipped = (y[rows, columns] > 1) & (y[rows, columns] < 254)
        rows, columns = rows[unclipped], columns[unclipped]
        taps = x[rows[:, None, None] + lags[:, None], columns[:, None, None] + lags].reshape(len(rows), -1)
        design = np.concatenate([taps, np.ones((len(rows), 1), np.float32)], axis=1)
        gram += design.T @ design
        cross += design.T @ (y - x)[rows, columns]
    ridge = RIDGE * np.trace(gram[:-1, :-1]) / (side * side)
    gram[np.diag_indices(side * side)] += ridge
    gram[-1, -1] += 1e-6
    solution = solve(gram, cross, assume_a="pos")
    return solution[:-1].reshape(side, side), float(solution[-1])
