"""Curves of a band by least squares: tables of coefficients before and after, added up group by group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from distort_pipeline.networks.responses import curve_places

Floats = NDArray[np.float32]

# Of the way from the mean of what a coefficient loses to its root mean square, where a codec decides anew for every
# block: with 0.75 JPEG 2000 is 0.2 to 0.5 dB too weak, the whole way costs a quarter to a half of JSD_NSS (studies/).
BOLDNESS = 0.9
KNOT_RIDGE = 0.3  # observations' worth of "nothing changes" at each knot; a knot without any stays at 0
ALIKE_RIDGE = 10.0  # observations' worth of "as the other coefficients do"


class CurveFit:
    """The normal equations of the curves of a band: straight lines between knots, so a tridiagonal system for each."""

    def __init__(self, count: int, knots: int, spacing: float) -> None:
        self.knots, self.spacing = knots, spacing
        self.diagonal, self.beside, self.right, self.squares = (np.zeros((count, knots)) for _ in range(4))

    def add(self, values: Floats, gains: Floats) -> None:
        """Take in coefficients (N, h, w, count) and what they gained, both in steps."""
        index, rest = (np.asarray(part) for part in curve_places(values, self.spacing, self.knots))
        count = len(self.diagonal)
        flat = (index + self.knots * np.arange(count, dtype=np.int32)).ravel()
        after = rest.ravel()
        here, gained = 1 - after, gains.ravel()
        for table, at_left, at_right in (
            (self.diagonal, here * here, after * after),
            (self.right, here * gained, after * gained),
            (self.squares, here * np.square(gained), after * np.square(gained)),
        ):
            sums = np.bincount(flat, at_left, table.size) + np.bincount(flat + 1, at_right, table.size)
            table += sums.reshape(table.shape)
        self.beside += np.bincount(flat, here * after, self.beside.size).reshape(self.beside.shape)

    def solve(self) -> Floats:
        """Return the curves (count, knots) of the mean: E[gain | value]."""
        return _solved(self.diagonal, self.beside, self.right, KNOT_RIDGE)

    def explained(self) -> float:
        """Return how much of the squares of what was gained the curves of the mean explain."""
        return float((self.solve() * self.right).sum())

    def decided(self) -> Floats:
        """Return the staircases (count, knots): what each value mostly becomes, which is a number of whole steps.

        What was hardly seen of one coefficient is as in all of them together. A mean would lie between two steps where
        the rounding of pixels decides which of them it is, and leave a trace where the codec leaves none.
        """
        diagonal, beside, right = (table.sum(0, keepdims=True) for table in (self.diagonal, self.beside, self.right))
        everyone = _solved(diagonal, beside, right, KNOT_RIDGE)
        mean = _solved(self.diagonal, self.beside, self.right + ALIKE_RIDGE * everyone, ALIKE_RIDGE)
        return (np.rint(self._values() + mean) - self._values()).astype(np.float32)

    def bold(self) -> Floats:
        """Return the curves between the mean and the root mean square of the gain, by `BOLDNESS`.

        The mean of what sometimes happens and sometimes does not is less than either. A coefficient does not lose more
        than itself.
        """
        mean = self.solve()
        squares = _solved(self.diagonal, self.beside, self.squares, KNOT_RIDGE)
        size = np.minimum(np.sqrt(np.maximum(squares, 0)), np.abs(self._values()))
        towards = np.where(mean == 0, -np.sign(self._values()), np.sign(mean))
        return (mean + BOLDNESS * (towards * size - mean)).astype(np.float32)

    def _values(self) -> NDArray[np.floating]:
        return np.asarray(self.spacing * (np.arange(self.knots) - (self.knots - 1) / 2))


def vanishing(curves: Floats, spacing: float) -> Floats:
    """Return curves (..., knots) of which a smaller coefficient loses no smaller share of itself, within a step of 0.

    What is left of next to nothing is the rounding of pixels. As a share it is large, and a coarser level would find
    more coefficients there.
    """
    middle = curves.shape[-1] // 2
    reach = round(1 / spacing)
    made = curves.copy()
    for side in (slice(middle + 1, middle + reach + 1), slice(middle - 1, middle - reach - 1, -1)):
        values = (np.arange(curves.shape[-1])[side] - middle) * spacing
        shares = np.maximum.accumulate((-curves[..., side] / values)[..., ::-1], -1)[..., ::-1]
        made[..., side] = -values * shares
    return made


def losing_more(curves: Floats) -> Floats:
    """Return curves (levels, count, knots) of which each level takes at least as much off a value as the one before.

    Half-way between the least such curves that are above and the greatest that are below; of curves that are so
    already nothing changes.
    """
    sides = np.sign(np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2).astype(np.float32)
    taken = -sides * curves
    rising = np.maximum.accumulate(taken, 0), np.minimum.accumulate(taken[::-1], 0)[::-1]
    return np.where(sides == 0, curves, -sides * (rising[0] + rising[1]) / 2)


def _solved(
    diagonals: NDArray[np.float64], besides: NDArray[np.float64], right_sides: NDArray[np.float64], ridge: float
) -> Floats:
    curves = np.empty(diagonals.shape, np.float32)
    for row, (diagonal, beside, right) in enumerate(zip(diagonals, besides, right_sides, strict=True)):
        upper = np.concatenate([[0.0], beside[:-1]])
        curves[row] = solveh_banded(np.stack([upper, diagonal + ridge]), right)
    return curves
