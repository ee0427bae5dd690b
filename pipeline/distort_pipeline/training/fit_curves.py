"""Coefficient curves by least squares, and those of a codec with a quantisation step per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from distort_pipeline.networks.codec_prior import Curves, knot_indices
from distort_pipeline.networks.predictor import FittedCurves
from distort_pipeline.networks.wavelets import PHASES, log_sizes, nearest_phases
from distort_pipeline.records import Images, normalize

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


Solve = Callable[[float], list[Floats]]  # shrinkage gain → the curves of each band, see `CurveFit.with_gain`

GROUP = 16  # tiles in memory as bands at a time


def bands_of(curves: FittedCurves, tiles: Images) -> list[Floats]:
    """Return the bands of pristine `tiles` (N, H, W, 3)."""
    return [np.asarray(band) for band in curves.analyse(normalize(tiles))]


def distorted_bands_of(curves: FittedCurves, tiles: Images) -> list[Floats]:
    """Return the bands from which a decoder synthesised distorted `tiles`."""
    return [np.asarray(band) for band in curves.recover(normalize(tiles))]


def curve_fits(curves: FittedCurves) -> list[CurveFit]:
    """Return an empty fit for each band."""
    return [CurveFit(form.count, form.knots, form.spacing) for form in curves.codec_prior.curves]


def groups(count: int) -> Iterator[slice]:
    """Return slices of GROUP tiles over `count` tiles."""
    return (slice(start, start + GROUP) for start in range(0, count, GROUP))


LOG_SHARES = np.arange(np.log(0.5), np.log(0.001), -0.15)  # of significant coefficients, tried for each level
NEAR_SHARES = np.arange(-0.6, 0.61, 0.05)  # around the best: an octave of steps is near an octave of shares
SEARCH_TURNS = 3  # through all levels
SEARCH_BANDS = range(6, 15)  # details of the three coarser levels: some survive, some are cut
SEARCH_TILES = 128


def rate_scaled_curves(
    curves: FittedCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats
) -> Solve:
    """Return a function from shrinkage gain to the curves (PHASES + 1, count, knots) of each band.

    An image's step is the magnitude reached by a share of its coefficients, read off `image_significance` (N, 18), the
    significance of the tiles' images. `curves` get for each level the share with the best explained loss; shares do
    not rise from level to level. Curves are in units of the bit plane below the step, a set for each phase of an
    octave, shared by all levels.
    """
    log_shares = np.minimum.accumulate(_log_shares(curves, pristine, levels, image_significance))
    curves.log_shares[:] = log_shares[:, None]
    fits = [curve_fits(curves) for _ in range(PHASES)]
    for distorted, log_share in zip(levels, log_shares, strict=True):
        for phase, tiles, planes in _by_phase(_steps(image_significance, log_share)):
            for group in groups(len(tiles)):
                rows, unit = tiles[group], planes[group, None, None, None]
                bands = zip(bands_of(curves, pristine[rows]), distorted_bands_of(curves, distorted[rows]), strict=True)
                for fit, (before, after) in zip(fits[phase], bands, strict=True):
                    fit.add(before / unit, (after - before) / unit)
    *details, smooth = zip(*fits, strict=True)
    spacings = [band.spacing for band in curves.codec_prior.curves]

    def solve(shrinkage_gain: float) -> list[Floats]:
        bands = [
            np.stack([fit.with_gain(shrinkage_gain, sum(band_fits[1:], band_fits[0])) for fit in band_fits])
            for band_fits in details
        ]
        bands.append(np.stack([fit.solve() for fit in smooth]))  # the smooth band loses hardly anything
        bands = [monotone_near_zero(band, spacing) for band, spacing in zip(bands, spacings, strict=True)]
        return [monotone_over_levels(np.concatenate([band, in_half_units(band[:1])])) for band in bands]

    return solve


OFFSET_TILES = 96  # at most, to compare powers on
OFFSET_TURNS = 5
OFFSET_RATE = 0.184  # of a step's natural logarithm for a dB: power grows with about the first power of the step
POWER_FLOOR = 0.1  # squared 8-bit levels: as in the acceptance test, which compares the same mean of decibels


def fit_offsets(curves: FittedCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats) -> None:
    """Assign to `curves` the offsets of the steps by which each band loses as much power as truly, at each level.

    Power is in decibels, a mean over tiles, of each band and of luma and both colour differences. One set of curves for
    all levels gives luma too large a loss at small ratios and colour too small a loss at large ones.
    """
    rows = np.unique(np.linspace(0, len(pristine) - 1, min(OFFSET_TILES, len(pristine))).astype(int))
    parts = [rows[group] for group in groups(len(rows))]
    before = [bands_of(curves, pristine[part]) for part in parts]
    for level, distorted in enumerate(levels):
        shares = np.eye(len(levels), dtype=np.float32)[level : level + 1]
        scales = [curves.scale(image_significance[part], shares) for part in parts]
        after = (distorted_bands_of(curves, distorted[part]) for part in parts)
        true = _mean_powers([a - b for a, b in zip(*bands, strict=True)] for bands in zip(after, before, strict=True))
        for _ in range(OFFSET_TURNS):
            generated = _mean_powers(
                [curves.rate_scaled_gain(number, band, scale, shares) for number, band in enumerate(bands)]
                for bands, scale in zip(before, scales, strict=True)
            )
            # the smooth band loses no coefficient, only the rounding of all: a larger step would be no remedy
            for offsets, more, less in zip(curves.log_offsets[:-1], true, generated, strict=False):
                offsets[level] += OFFSET_RATE * (more - less)


def _mean_powers(losses: Iterable[Sequence[Floats]]) -> list[Floats]:
    """Return the power of each band's loss by coefficient in dB, (count,), the mean over tiles, a group at a time."""
    powers = [[10 * np.log10(POWER_FLOOR + np.square(loss).mean((1, 2))) for loss in bands] for bands in losses]
    return [np.concatenate(band).mean(0) for band in zip(*powers, strict=True)]


def _by_phase(steps: Floats) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Yield each phase of an octave, the tiles (n,) whose `steps` (N,) are nearest, and their bit planes (n,)."""
    planes, phases = nearest_phases(steps)
    for phase in range(PHASES):
        tiles = np.flatnonzero(phases == phase)
        yield phase, tiles, planes[tiles]


def _log_shares(
    curves: FittedCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats
) -> NDArray[np.float64]:
    """Return the logarithm of the share of coefficients of each level (levels,) with the best explained loss.

    First a search per level with a single curve for all its images finds the octave; then a search in turn over levels,
    with curves shared by all levels, finds the phase.
    """
    rows = np.unique(np.linspace(0, len(pristine) - 1, min(SEARCH_TILES, len(pristine))).astype(int))
    before = _search_coefficients(curves, pristine[rows])
    after = [_search_coefficients(curves, distorted[rows]) for distorted in levels]
    form = curves.codec_prior.curves[0]
    coarse = np.array([_log_share(form, before, level_after, image_significance[rows]) for level_after in after])
    tried = coarse[:, None] + NEAR_SHARES
    fits = [
        [_phased_fits(form, before, level_after, _steps(image_significance[rows], share)) for share in near]
        for level_after, near in zip(after, tried, strict=True)
    ]
    indices = [len(NEAR_SHARES) // 2] * len(levels)
    for _ in range(SEARCH_TURNS):
        for level, near in enumerate(fits):
            others = [
                level_after[index]
                for n, (level_after, index) in enumerate(zip(fits, indices, strict=True))
                if n != level
            ]
            indices[level] = int(np.argmin([_unexplained([*others, phase_fits]) for phase_fits in near]))
    return tried[range(len(levels)), indices]


def _log_share(form: Curves, before: Sequence[Floats], after: Sequence[Floats], image_significance: Floats) -> float:
    """Return the logarithm of the share with the best explained loss for a single curve per band.

    Losses are counted in steps, for equal weight of all images.
    """
    unexplained_shares = []
    for log_share in LOG_SHARES:
        step = _steps(image_significance, log_share)[:, None, None, None]
        unexplained = total = 0.0
        for b, a in zip(before, after, strict=True):
            fit = CurveFit(1, form.knots, form.spacing)
            fit.add(b / step, (a - b) / step)
            squares = float(np.square((a - b) / step).sum())
            unexplained += squares - fit.explained()
            total += squares
        unexplained_shares.append(unexplained / max(total, 1e-9))
    return float(LOG_SHARES[int(np.argmin(unexplained_shares))])


def _phased_fits(
    form: Curves, before: Sequence[Floats], after: Sequence[Floats], steps: Floats
) -> list[tuple[CurveFit, ...]]:
    """Return the fits to each band, for each phase of an octave, of tiles with these `steps` (N,)."""
    fits = [tuple(CurveFit(1, form.knots, form.spacing) for _ in before) for _ in range(PHASES)]
    for phase, tiles, planes in _by_phase(steps):
        unit = planes[:, None, None, None]
        for fit, b, a in zip(fits[phase], before, after, strict=True):
            fit.add(b[tiles] / unit, (a - b)[tiles] / unit)
    return fits


def _unexplained(levels: Sequence[Sequence[tuple[CurveFit, ...]]]) -> float:
    """Return the unexplained share of the losses with curves shared by all `levels`, counted in steps."""
    unexplained = total = 0.0
    for phase, fits in enumerate(zip(*levels, strict=True)):
        for level_fits in zip(*fits, strict=True):
            fit, steps = sum(level_fits[1:], level_fits[0]), 2.0 ** (-2 * phase / PHASES)
            unexplained += steps * (fit.energy() - fit.explained())
            total += steps * fit.energy()
    return unexplained / max(total, 1e-9)


def _steps(image_significance: Floats, log_share: float) -> Floats:
    """Return the step (N,) in 8-bit levels of tiles with the significance `image_significance` (N, 18)."""
    return np.asarray(np.exp(log_sizes(image_significance, np.full(1, log_share, np.float32), np)), np.float32)


def _search_coefficients(curves: FittedCurves, tiles: Images) -> list[Floats]:
    """Return the luma coefficients (N, h, w, 1) of each of the search bands."""
    parts = [bands_of(curves, tiles[group]) for group in groups(len(tiles))]
    return [np.concatenate([bands[index][..., :1] for bands in parts]) for index in SEARCH_BANDS]
