"""Curves of a band by least squares: tables of coefficients and their changes, summed group by group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from distort_pipeline.networks.coefficient_curves import knot_indices

Floats = NDArray[np.float32]

KNOT_RIDGE = 0.3  # prior at each knot, in observations of no change; a knot without observations stays at 0
POOLED_RIDGE = 10.0  # prior at each knot, in observations of the pooled coefficients


class CurveFit:
    """The normal equations of the curves of a band: piecewise linear, hence a tridiagonal system for each curve."""

    def __init__(self, count: int, knots: int, spacing: float) -> None:
        self.knots, self.spacing = knots, spacing
        self.diagonal, self.off_diagonal, self.right, self.squares = (np.zeros((count, knots)) for _ in range(4))

    def __add__(self, other: CurveFit) -> CurveFit:
        """Return the fit to the observations of both."""
        total = CurveFit(len(self.diagonal), self.knots, self.spacing)
        for name in ("diagonal", "off_diagonal", "right", "squares"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def add(self, values: Floats, gains: Floats) -> None:
        """Add coefficients (N, h, w, count) and their gains, both in quantisation steps."""
        index, fraction = (np.asarray(array) for array in knot_indices(values, self.spacing, self.knots))
        count = len(self.diagonal)
        flat = (index + self.knots * np.arange(count, dtype=np.int32)).ravel()
        right = fraction.ravel()
        left, gain = 1 - right, gains.ravel()
        for table, left_sums, right_sums in (
            (self.diagonal, left * left, right * right),
            (self.right, left * gain, right * gain),
            (self.squares, left * np.square(gain), right * np.square(gain)),
        ):
            sums = np.bincount(flat, left_sums, table.size) + np.bincount(flat + 1, right_sums, table.size)
            table += sums.reshape(table.shape)
        self.off_diagonal += np.bincount(flat, left * right, self.off_diagonal.size).reshape(self.off_diagonal.shape)

    def solve(self) -> Floats:
        """Return the curves (count, knots) of the conditional mean: E[gain | value]."""
        return _solved(self.diagonal, self.off_diagonal, self.right, KNOT_RIDGE)

    def energy(self) -> float:
        """Return the sum of squared gains."""
        return float(self.squares.sum())

    def explained(self) -> float:
        """Return the part of the sum of squared gains explained by the conditional mean."""
        return float((self.solve() * self.right).sum())

    def hard_quantiser(self) -> Floats:
        """Return the staircases (count, knots): the most frequent output of each value, a whole number of steps.

        Knots with few observations follow the pooled coefficients. A mean would lie between two steps where the
        rounding of pixels decides between both, and leave a trace where the codec leaves none.
        """
        diagonal, off_diagonal, right = (
            table.sum(0, keepdims=True) for table in (self.diagonal, self.off_diagonal, self.right)
        )
        pooled = _solved(diagonal, off_diagonal, right, KNOT_RIDGE)
        mean = _solved(self.diagonal, self.off_diagonal, self.right + POOLED_RIDGE * pooled, POOLED_RIDGE)
        return (np.rint(self._values() + mean) - self._values()).astype(np.float32)

    def with_gain(self, shrinkage_gain: float, pooled: CurveFit | None = None) -> Floats:
        """Return the curves at a `shrinkage_gain` from the conditional mean of the gain, 0, to its root mean square, 1.

        The mean over blocks with and without a loss is smaller than either. No coefficient loses more than itself.
        Knots with few observations follow `pooled`, if given.
        """
        mean = self._solve_with_prior(pooled, "right")
        if not shrinkage_gain:
            return mean
        squares = self._solve_with_prior(pooled, "squares")
        limit = np.abs(self._values())
        rms = np.minimum(np.sqrt(np.maximum(squares, 0)), limit)
        sign = np.where(mean == 0, -np.sign(self._values()), np.sign(mean))
        return np.clip(mean + shrinkage_gain * (sign * rms - mean), -limit, limit).astype(np.float32)

    def _solve_with_prior(self, pooled: CurveFit | None, name: str) -> Floats:
        """Return the solution for the right side `name`; knots with few observations follow `pooled`, if given."""
        if pooled is None:
            return _solved(self.diagonal, self.off_diagonal, getattr(self, name), KNOT_RIDGE)
        prior = pooled._solve_with_prior(None, name)
        return _solved(self.diagonal, self.off_diagonal, getattr(self, name) + POOLED_RIDGE * prior, POOLED_RIDGE)

    def _values(self) -> NDArray[np.floating]:
        return np.asarray(self.spacing * (np.arange(self.knots) - (self.knots - 1) / 2))


def in_half_units(curves: Floats) -> Floats:
    """Return `curves` (..., knots), values and gains in units, converted to half units.

    >>> in_half_units(np.array([2.0, 0.0, -1.0, -2.0, 0.0, 2.0, 1.0, 0.0, -2.0]))
    array([-2., -3., -4., -2.,  0.,  2.,  4.,  3.,  2.])
    """
    knots = curves.shape[-1]
    positions = (np.arange(knots) + (knots - 1) / 2) / 2
    left, right = (indices.astype(int) for indices in (np.floor(positions), np.ceil(positions)))
    return curves[..., left] + curves[..., right]  # twice the knot's value, or the sum of both neighbours


def monotone_near_zero(curves: Floats, spacing: float) -> Floats:
    """Return curves (..., knots) whose relative loss does not fall towards 0, within a step of 0.

    The rest of a coefficient near 0 is the rounding of pixels. Relative to the coefficient this rest is large, and a
    coarser level would find more coefficients there.
    """
    middle = curves.shape[-1] // 2
    reach = round(1 / spacing)
    monotone = curves.copy()
    for side in (slice(middle + 1, middle + reach + 1), slice(middle - 1, middle - reach - 1, -1)):
        values = (np.arange(curves.shape[-1])[side] - middle) * spacing
        shares = np.maximum.accumulate((-curves[..., side] / values)[..., ::-1], -1)[..., ::-1]
        monotone[..., side] = -values * shares
    return monotone


def monotone_over_levels(curves: Floats) -> Floats:
    """Return curves (levels, count, knots) whose loss at each value does not fall from level to level.

    The result is half-way between the least such curves above and the greatest below; curves already monotone stay.
    """
    sides = np.sign(np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2).astype(np.float32)
    losses = -sides * curves
    envelopes = np.maximum.accumulate(losses, 0), np.minimum.accumulate(losses[::-1], 0)[::-1]
    return np.where(sides == 0, curves, -sides * (envelopes[0] + envelopes[1]) / 2)


def _solved(
    diagonals: NDArray[np.float64], off_diagonals: NDArray[np.float64], right_sides: NDArray[np.float64], ridge: float
) -> Floats:
    curves = np.empty(diagonals.shape, np.float32)
    for row, (diagonal, off_diagonal, right) in enumerate(zip(diagonals, off_diagonals, right_sides, strict=True)):
        upper = np.concatenate([[0.0], off_diagonal[:-1]])
        curves[row] = solveh_banded(np.stack([upper, diagonal + ridge]), right)
    return curves
