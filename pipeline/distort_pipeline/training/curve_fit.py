"""Curves of a band by least squares: tables of coefficients before and after, added up group by group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from distort_pipeline.networks.coefficient_curves import curve_places

Floats = NDArray[np.float32]

KNOT_RIDGE = 0.3  # observations' worth of "nothing changes" at each knot; a knot without any stays at 0
ALIKE_RIDGE = 10.0  # observations' worth of "as the other coefficients do"


class CurveFit:
    """The normal equations of the curves of a band: straight lines between knots, so a tridiagonal system for each."""

    def __init__(self, count: int, knots: int, spacing: float) -> None:
        self.knots, self.spacing = knots, spacing
        self.diagonal, self.beside, self.right, self.squares = (np.zeros((count, knots)) for _ in range(4))

    def __add__(self, other: CurveFit) -> CurveFit:
        """Return the fit to what both have taken in."""
        both = CurveFit(len(self.diagonal), self.knots, self.spacing)
        for name in ("diagonal", "beside", "right", "squares"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

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

    def seen(self) -> float:
        """Return the sum of the squares of what was gained."""
        return float(self.squares.sum())

    def explained(self) -> float:
        """Return how much of the squares of what was gained the curves of the mean explain."""
        return float((self.solve() * self.right).sum())

    def hard_quantiser(self) -> Floats:
        """Return the staircases (count, knots): what each value mostly becomes, which is a number of whole steps.

        What was hardly seen of one coefficient is as in all of them together. A mean would lie between two steps where
        the rounding of pixels decides which of them it is, and leave a trace where the codec leaves none.
        """
        diagonal, beside, right = (table.sum(0, keepdims=True) for table in (self.diagonal, self.beside, self.right))
        everyone = _solved(diagonal, beside, right, KNOT_RIDGE)
        mean = _solved(self.diagonal, self.beside, self.right + ALIKE_RIDGE * everyone, ALIKE_RIDGE)
        return (np.rint(self._values() + mean) - self._values()).astype(np.float32)

    def bold(self, shrinkage_gain: float, everyone: CurveFit | None = None) -> Floats:
        """Return the curves at `boldness` of the way from the mean of the gain, 0, to its root mean square, 1.

        The mean of what sometimes happens and sometimes does not is less than either. Where it is left, a coefficient
        does not lose more than itself. What was hardly seen is as in `everyone`, if that is given.
        """
        mean = self._as_in(everyone, "right")
        if not shrinkage_gain:
            return mean
        squares = self._as_in(everyone, "squares")
        all_of_it = np.abs(self._values())
        size = np.minimum(np.sqrt(np.maximum(squares, 0)), all_of_it)
        towards = np.where(mean == 0, -np.sign(self._values()), np.sign(mean))
        return np.clip(mean + shrinkage_gain * (towards * size - mean), -all_of_it, all_of_it).astype(np.float32)

    def _as_in(self, everyone: CurveFit | None, name: str) -> Floats:
        """Return what the right side `name` comes to; what was hardly seen is as in `everyone`, if that is given."""
        if everyone is None:
            return _solved(self.diagonal, self.beside, getattr(self, name), KNOT_RIDGE)
        usual = everyone._as_in(None, name)
        return _solved(self.diagonal, self.beside, getattr(self, name) + ALIKE_RIDGE * usual, ALIKE_RIDGE)

    def _values(self) -> NDArray[np.floating]:
        return np.asarray(self.spacing * (np.arange(self.knots) - (self.knots - 1) / 2))


def in_half_units(curves: Floats) -> Floats:
    """Return `curves` (..., knots), whose values and gains are in units, in units of half the size.

    >>> in_half_units(np.array([2.0, 0.0, -1.0, -2.0, 0.0, 2.0, 1.0, 0.0, -2.0]))
    array([-2., -3., -4., -2.,  0.,  2.,  4.,  3.,  2.])
    """
    knots = curves.shape[-1]
    places = (np.arange(knots) + (knots - 1) / 2) / 2
    left, right = (part.astype(int) for part in (np.floor(places), np.ceil(places)))
    return curves[..., left] + curves[..., right]  # twice what is there, or half-way between two knots


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
