"""Filters that change over the image: vignetting, lateral colour, blur that grows off-centre.

y - x = Σ φ_b(u, v) (k_b * x), in linear light or on sRGB levels, with low polynomials φ of the position and a small
kernel for each and each channel; least squares over random pixels of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.filters import to_display, to_linear
from distort_pipeline.components.patches import Levels, PairPatch, TilePosition

RADIUS_PX = 3
PIXELS = 40_000  # of all images together
RIDGE = 1e-5


@dataclass(frozen=True)
class FieldFilters:
    """Kernels (BASES, 3, K, K) of what is added."""

    kernels: NDArray[np.float32]
    linear: bool
    reach_px: ClassVar[int] = RADIUS_PX
    sets: ClassVar[int] = 1  # to choose from: all images have the same

    def distort(self, image: Levels, _: int, position: TilePosition) -> Levels:
        """Return `image` (H, W, 3), a tile at `position`, filtered; borders are reflected."""
        values = to_linear(image) if self.linear else image
        rows = np.arange(position.y, position.y + image.shape[0])
        columns = np.arange(position.x, position.x + image.shape[1])
        bases = position_bases(rows[:, None], columns[None], position.height, position.width)
        out = values.copy()
        for basis, kernel in zip(bases, self.kernels, strict=True):
            for c in range(3):
                filtered = cv2.filter2D(values[..., c], cv2.CV_32F, kernel[c], borderType=cv2.BORDER_REFLECT_101)
                out[..., c] += basis * filtered
        return to_display(out) if self.linear else out


def position_bases(rows: NDArray[Any], columns: NDArray[Any], height: int, width: int) -> list[NDArray[np.float32]]:
    """Return the polynomials φ at `rows` and `columns`: of offsets from the centre in half diagonals."""
    half = np.hypot(height, width) / 2
    v = ((rows - (height - 1) / 2) / half).astype(np.float32)
    u = ((columns - (width - 1) / 2) / half).astype(np.float32)
    u, v = np.broadcast_arrays(u, v)
    square = u * u + v * v
    return [np.ones_like(u), u, v, square, u * square, v * square, u * u - v * v, u * v, square * square]


def fit_field_filters(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, linear: bool, seed: int = 0
) -> FieldFilters:
    """Return the filters that bring `bases`, one a patch, nearest to the distorted patches."""
    rng = np.random.Generator(np.random.PCG64(seed))
    r, side = RADIUS_PX, 2 * RADIUS_PX + 1
    each = max(PIXELS // len(patches), 16)
    gram = target = None
    for patch, base in zip(patches, bases, strict=True):
        x, y = base, patch.distorted.astype(np.float32)
        if linear:
            x, y = to_linear(x), to_linear(y)
        rows = rng.integers(r, x.shape[0] - r, each)
        columns = rng.integers(r, x.shape[1] - r, each)
        open_ = ((patch.distorted[rows, columns] > 2) & (patch.distorted[rows, columns] < 253)).all(-1)
        rows, columns = rows[open_], columns[open_]
        maps = np.stack(
            position_bases(rows + patch.y, columns + patch.x, patch.image_height, patch.image_width), axis=-1
        )
        lags = np.arange(-r, r + 1)
        own_gram, own_target = [], []
        for c in range(3):
            taps = x[rows[:, None, None] + lags[:, None], columns[:, None, None] + lags, c].reshape(len(rows), -1)
            design = (maps[:, :, None] * taps[:, None, :]).reshape(len(rows), -1)
            own_gram.append((design.T @ design).astype(np.float64))
            own_target.append((design.T @ (y - x)[rows, columns, c]).astype(np.float64))
        gram = np.stack(own_gram) if gram is None else gram + np.stack(own_gram)
        target = np.stack(own_target) if target is None else target + np.stack(own_target)
    assert gram is not None
    assert target is not None
    kernels = []
    for c in range(3):
        ridge = RIDGE * np.trace(gram[c]) / len(gram[c])
        solved = np.linalg.solve(gram[c] + ridge * np.eye(len(gram[c])), target[c])
        kernels.append(solved.reshape(-1, side, side))
    return FieldFilters(np.stack(kernels, axis=1).astype(np.float32), linear)
