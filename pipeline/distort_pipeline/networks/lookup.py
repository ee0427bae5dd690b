"""A colour lookup table: red, green and blue together decide the colour, as in the .cube files of film and cameras.

Saturation, hue and brightness of HSV or HSL, colour grading, tone mapping of all channels by one, faded dyes: curves of
single channels and matrices are special cases. The table holds the change of the colour at NODES³ places, trilinear
between them: least squares with a smoothness term (second differences), so that colours which the pairs lack follow
their neighbours. Values that were clipped only have to lie beyond the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any, ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition
from distort_pipeline.records import make_rng

NODES = 17
SPACING = 255 / (NODES - 1)
PIXELS = 300_000  # of all patches together, at most
SMOOTHNESS = 0.005  # weight of a squared second difference, in pixels a node


@dataclass(frozen=True)
class ColourTable:
    """The change of a colour in levels at each node, (NODES, NODES, NODES, 3) by R, G and B."""

    changes: NDArray[np.float32]
    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through the table; beyond 0 and 255 the change is that of the end."""
        places = np.clip(np.moveaxis(image, -1, 0) / SPACING, 0, NODES - 1)
        changes = [
            scipy.ndimage.map_coordinates(self.changes[..., c], places, order=1, output=np.float32) for c in range(3)
        ]
        return np.asarray(image + np.stack(changes, axis=-1), np.float32)


def fit_colour_table(patches: Sequence[PairPatch], bases: Sequence[Levels]) -> ColourTable:
    """Return the table that brings `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    rng, share = make_rng(0), PIXELS // len(patches)
    rows = []
    for patch, base in zip(patches, bases, strict=True):
        chosen = rng.permutation(base.shape[0] * base.shape[1])[:share]
        rows.append([pixels.reshape(-1, 3)[chosen].astype(np.float32) for pixels in (base, patch.distorted)])
    x, y = (np.concatenate(side) for side in zip(*rows, strict=True))
    weights = _weights(x)
    smooth = SMOOTHNESS * len(x) / NODES**3 * _roughness()
    changes = []
    solve = _solver(weights, smooth, np.ones(len(x)))
    for c in range(3):
        target = (y[:, c] - x[:, c]).astype(np.float64)
        solved = solve(weights.T @ target)
        made = x[:, c] + weights @ solved
        beyond = ((y[:, c] > 254) & (made > 255)) | ((y[:, c] < 1) & (made < 0))
        if beyond.any():
            counted = (~beyond).astype(np.float64)
            solved = _solver(weights, smooth, counted)(weights.T @ (counted * target))
        changes.append(solved.reshape(NODES, NODES, NODES))
    return ColourTable(np.stack(changes, axis=-1).astype(np.float32))


def _solver(weights: Any, smooth: Any, counted: NDArray[np.float64]) -> Callable[..., Any]:
    """Return what solves the normal equations for a right-hand side, with pixels `counted` so many times."""
    normal = (weights.T @ scipy.sparse.diags_array(counted) @ weights + smooth).tocoo()
    above = normal.col - normal.row  # of the diagonal: nodes see no farther than two along R
    upper = above >= 0
    bands = np.zeros((above.max() + 1, NODES**3))
    bands[above.max() - above[upper], normal.col[upper]] = normal.data[upper]
    return partial(scipy.linalg.cho_solve_banded, (scipy.linalg.cholesky_banded(bands), False))


def _weights(x: NDArray[np.float32]) -> Any:
    """Return the sparse weights (pixels, NODES³) of the nodes around each colour of `x` (pixels, 3)."""
    places = np.clip(x / SPACING, 0, NODES - 1)
    low = np.minimum(places.astype(np.int64), NODES - 2)
    high_share = places - low
    columns, values = [], []
    for corner in product((0, 1), repeat=3):
        node = low + corner
        columns.append((node[:, 0] * NODES + node[:, 1]) * NODES + node[:, 2])
        values.append(np.prod(np.where(corner, high_share, 1 - high_share), axis=1))
    row = np.arange(len(x) + 1) * 8
    shape = (len(x), NODES**3)
    return scipy.sparse.csr_array((np.stack(values, 1).ravel(), np.stack(columns, 1).ravel(), row), shape=shape)


@cache
def _roughness() -> Any:
    """Return the matrix of the sum of squared second differences along R, G and B, and a little of the values."""
    line = scipy.sparse.eye_array(NODES)
    second = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(NODES - 2, NODES))
    total = 1e-4 * scipy.sparse.eye_array(NODES**3)
    for axis in range(3):
        factors = [second if axis == n else line for n in range(3)]
        along = scipy.sparse.kron(scipy.sparse.kron(factors[0], factors[1]), factors[2])
        total = total + along.T @ along
    return total
