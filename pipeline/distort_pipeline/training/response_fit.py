"""Response curves read off pairs: which transform explains a distortion, and what each coefficient becomes.

For each coefficient the curve is the least-squares one, E[y - x | x] with straight lines between knots: a tridiagonal
system over all places where the coefficient occurs, once for each level. Steps come first: each coefficient's from the
size below which it vanishes; where a codec chooses its coarseness for each picture, that is estimated beside the curves
in turns, and then predicted from the pristine picture alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from distort_pipeline.networks.generator import NO_TRANSFORM
from distort_pipeline.networks.responses import (
    HIGHEST_SCALE,
    LOWEST_SCALE,
    Responses,
    curve_places,
    scale_features,
)
from distort_pipeline.networks.transforms import TRANSFORMS
from distort_pipeline.ranges import Pictures, from_network, to_network
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import COUNTS, product_histogram

Floats = NDArray[np.float32]

LEAST_EXPLAINED = 0.25  # of the squared difference on held-out pictures; white noise explains 0.02 by its clipping
HELD_OUT = 8  # one picture in so many judges the transforms
GROUP = 16  # tiles in memory as bands at a time
TURNS = 2  # of curves and coarseness; a third changed the error by 2 %
LADDER = np.exp(np.arange(np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE), 0.2)).astype(np.float32)
SEARCH_BANDS = range(6, 12)  # details of the third and fourth level: coarse enough to survive, fine enough to be cut
# Of the way from the mean of what a coefficient loses to its root mean square, where a codec decides anew for every
# block and picture: means alone are 1.25 dB too weak at JPEG 2000's 150, the whole way costs a tenth of JSD_NSS.
BOLDNESS = 0.75
KNOT_RIDGE = 0.3  # observations' worth of "nothing changes" at each knot; a knot without any stays at 0
REPEAT_RIDGE = 10.0  # observations' worth of "as in the other steps"
OFTEN = 20.0  # observations at a knot
DISAGREEING = 0.25  # share of a curve's square that its steps may differ from their median by
SCALE_RIDGE = 3.0
SIZE_GREY, SIZES = 0.25, 4096  # sizes of coefficients are told apart so finely, up to 1024 greys
FIRST_SIZE = 4  # a grey: smaller coefficients are the rounding of 8-bit pixels
LEAST_SEEN = 50  # coefficients that did not vanish; with fewer the size where they do is not known


@dataclass(frozen=True)
class Fitted:
    """The transform that explains a distortion best, its weights, and which share of the difference is explained."""

    transform: str
    weights: Mapping[str, Floats]
    explained: Mapping[str, float]  # of each transform that was tried, on held-out pictures


def fit_best(pristine: Pictures, levels: Sequence[Pictures], pictures: Sequence[str], wanted: str | None) -> Fitted:
    """Return the fit of the `wanted` transform, or of the best (None), to tiles (N, H, W, 3) of the named pictures.

    `levels` are the same tiles distorted, weakest level first. Sides are multiples of 128. Without a wish, a transform
    has to explain a quarter of the squared difference on pictures that it was not fitted to, and to lower their
    JSD_NSS; otherwise the answer is "none", without weights. The middle one of several levels chooses the transform. A
    single picture judges what was fitted to it.
    """
    if wanted == NO_TRANSFORM:
        return Fitted(NO_TRANSFORM, {}, {})
    if wanted is None and len(levels) > 1:
        middle = fit_best(pristine, [levels[len(levels) // 2]], pictures, None)
        if middle.transform == NO_TRANSFORM:
            return middle
        whole = fit_best(pristine, levels, pictures, middle.transform)
        return Fitted(whole.transform, whole.weights, {**middle.explained, **whole.explained})
    names = sorted(set(pictures))
    held_names = set(names[HELD_OUT // 2 :: HELD_OUT]) or set(names[-1:])
    held = np.array([picture in held_names for picture in pictures])
    fitted_to = ~held if (~held).any() else held
    layers = {
        name: _fit(name, pristine[fitted_to], [distorted[fitted_to] for distorted in levels])
        for name in TRANSFORMS
        if wanted in (None, name)
    }
    judged = {
        name: _judged(layer, pristine[held], [distorted[held] for distorted in levels])
        for name, layer in layers.items()
    }
    explained = {name: share for name, (share, _) in judged.items()}
    useful = [
        name for name, (share, nearer) in judged.items() if wanted == name or (share >= LEAST_EXPLAINED and nearer)
    ]
    if not useful:
        return Fitted(NO_TRANSFORM, {}, explained)
    best = max(useful, key=lambda name: explained[name])
    weights = {variable.name: np.asarray(variable) for variable in layers[best].variables}
    return Fitted(best, weights, explained)


def explained_by(fitted: Fitted, pristine: Pictures, *, level: int = 1, levels: int = 1) -> Pictures:
    """Return x + T(x) of `pristine` (N, H, W, 3) in 8 bits at one of the fitted `levels`, or `pristine` without a T."""
    if fitted.transform == NO_TRANSFORM:
        return pristine
    layer = Responses(fitted.transform, levels)
    layer.build((None, None, None, 3))
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    made = np.empty_like(pristine)
    for group in _groups(len(pristine)):
        made[group] = from_network(_made(layer, pristine[group], level))
    return made


def _made(layer: Responses, pristine: Pictures, level: int) -> Floats:
    """Return x + T(x) at `level`, from 1."""
    x = to_network(pristine)
    severity = np.full((len(x), 1), level / layer.levels, np.float32)
    return x + np.asarray(layer([x, severity] if layer.levels > 1 else x))


def _fit(transform: str, pristine: Pictures, levels: Sequence[Pictures]) -> Responses:
    layer = Responses(transform, len(levels))
    layer.build((None, None, None, 3))
    if not layer.transform.scaled:
        _fit_steps(layer, pristine, levels)
    curves: list[list[Floats]] = []
    readings = []
    for place, distorted in enumerate(levels):
        scales = np.ones(len(pristine), np.float32)
        if layer.transform.scaled:
            scales = _fitted_scales(layer, pristine, distorted)
            readings.append(_fitted_scale(layer, pristine, scales))
            curves.append(_fitted_curves(layer, pristine, distorted, scales=scales))
        else:
            steps = [np.exp(np.asarray(log_steps)[place]) for log_steps in layer.log_steps]
            curves.append(_fitted_curves(layer, pristine, distorted, scales=scales, steps=steps))
    for band, variable in enumerate(layer.curves):
        variable.assign(np.stack([own[band] for own in curves]))
    if layer.transform.scaled:
        layer.scale_kernel.assign(np.stack([kernel for kernel, _ in readings]))
        layer.scale_bias.assign(np.stack([bias for _, bias in readings]))
    return layer


def _judged(layer: Responses, pristine: Pictures, levels: Sequence[Pictures]) -> tuple[float, bool]:
    """Return the share of the squared difference that T explains, and whether it brings the statistics nearer.

    Both are means over levels, of each level's share and divergence.
    """
    shares, made_bits, nothing_bits = [], [], []
    for level, distorted in enumerate(levels, start=1):
        left = there = 0.0
        histograms = [np.zeros(COUNTS, np.int64) for _ in range(3)]  # true, made, pristine
        for group in _groups(len(pristine)):
            x, y = to_network(pristine[group]), to_network(distorted[group])
            made = _made(layer, pristine[group], level)
            left += float(np.square(y - made).sum())
            there += float(np.square(y - x).sum())
            for histogram, tiles in zip(
                histograms, (distorted[group], from_network(made), pristine[group]), strict=True
            ):
                histogram += sum(product_histogram(tile) for tile in tiles)
        shares.append(1 - left / there if there else 0.0)
        true, generated, nothing = histograms
        made_bits.append(jsd_bits(true, generated))
        nothing_bits.append(jsd_bits(true, nothing))
    return float(np.mean(shares)), float(np.mean(made_bits)) < float(np.mean(nothing_bits))


class CurveFit:
    """The normal equations of a band's curves, added up group by group."""

    def __init__(self, count: int, knots: int, spacing: float) -> None:
        self.knots, self.spacing = knots, spacing
        self.diagonal, self.beside, self.right, self.squares = (np.zeros((count, knots)) for _ in range(4))

    def add(self, values: Floats, gains: Floats) -> None:
        """Take in coefficients (N, h, w, count) and what they gained."""
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
        return self._solved(self.right)

    def repeated(self) -> Floats:
        """Return the curves of the mean, where what was hardly seen is as it is in the other steps.

        That is the median over all steps in which a place between two whole steps was seen often enough; where the
        steps do not agree, as the estimate of a step was off and they are out of phase, the mean alone.
        """
        mean = self.solve()
        each = round(1 / self.spacing)
        seen = np.where(self.diagonal[:, :-1] >= OFTEN, mean[:, :-1], np.nan).reshape(len(mean), -1, each)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a place that was seen in no step stays unknown
            usual = np.nan_to_num(np.nanmedian(seen, axis=1))
        everywhere = np.take(usual, np.arange(self.knots) % each, axis=1)
        left, there = ((self.diagonal * np.square(part)).sum(1) for part in (mean - everywhere, mean))
        agree = left < DISAGREEING * there
        return np.where(agree[:, None], self._solved(self.right + REPEAT_RIDGE * everywhere, REPEAT_RIDGE), mean)

    def bold(self) -> Floats:
        """Return the curves between the mean and the root mean square of the gain, by `BOLDNESS`.

        The mean of what sometimes happens and sometimes does not is less than either. A coefficient does not lose more
        than itself.
        """
        mean = self.solve()
        values = self.spacing * (np.arange(self.knots) - (self.knots - 1) / 2)
        size = np.minimum(np.sqrt(np.maximum(self._solved(self.squares), 0)), np.abs(values))
        towards = np.where(mean == 0, -np.sign(values), np.sign(mean))
        return (mean + BOLDNESS * (towards * size - mean)).astype(np.float32)

    def _solved(self, right_sides: NDArray[np.float64], ridge: float = KNOT_RIDGE) -> Floats:
        curves = np.empty(self.diagonal.shape, np.float32)
        for row, (diagonal, beside, right) in enumerate(zip(self.diagonal, self.beside, right_sides, strict=True)):
            upper = np.concatenate([[0.0], beside[:-1]])
            curves[row] = solveh_banded(np.stack([upper, diagonal + ridge]), right)
        return curves


def _fitted_curves(
    layer: Responses,
    pristine: Pictures,
    distorted: Pictures,
    *,
    scales: Floats,
    steps: Sequence[Floats] | None = None,
) -> list[Floats]:
    """Return the curves (count, knots) of each band at one level.

    A coefficient's step is that of its tile, `scales` (N,), or its own where there are `steps`, (count,) for each band.
    """
    fits = [CurveFit(curves.count, curves.knots, curves.spacing) for curves in layer.transform.curves]
    for group in _groups(len(pristine)):
        bands = zip(_bands(layer, pristine[group]), _bands(layer, distorted[group]), strict=True)
        for band, (before, after) in enumerate(bands):
            step = steps[band] if steps is not None else scales[group, None, None, None]
            fits[band].add(before / step, (after - before) / step)
    if not layer.transform.scaled:  # only the mean of a block has many steps with a few blocks in each
        return [fits[0].repeated(), *(fit.solve() for fit in fits[1:])]
    return [*(fit.bold() for fit in fits[:-1]), fits[-1].solve()]  # of the smooth rest hardly anything is lost


def _fitted_scales(layer: Responses, pristine: Pictures, distorted: Pictures) -> Floats:
    """Return the coarseness (N,) at which common curves explain each tile best."""
    before, after = (_search_coefficients(layer, tiles) for tiles in (pristine, distorted))
    curves = layer.transform.curves[0]
    scales = np.array([_vanishing(b, a) for b, a in zip(before, after, strict=True)], np.float32)
    for _ in range(TURNS):
        fits = [CurveFit(1, curves.knots, curves.spacing) for _ in SEARCH_BANDS]
        for tile, scale in enumerate(scales):
            for fit, b, a in zip(fits, before[tile], after[tile], strict=True):
                fit.add(b[None, :, None, None] / scale, (a - b)[None, :, None, None] / scale)
        solved = [fit.solve()[0] for fit in fits]
        knots = curves.spacing * (np.arange(curves.knots, dtype=np.float32) - (curves.knots - 1) / 2)
        errors = np.zeros((len(LADDER), len(scales)))
        for tile in range(len(scales)):
            for curve, b, a in zip(solved, before[tile], after[tile], strict=True):
                for rung, scale in enumerate(LADDER):
                    gained = scale * np.interp(b / scale, knots, curve)
                    errors[rung, tile] += np.square(a - b - gained).sum()
        scales = LADDER[errors.argmin(0)]
    return scales


def _search_coefficients(layer: Responses, tiles: Pictures) -> list[list[Floats]]:
    """Return the luma coefficients of the search bands, for each tile a flat array a band."""
    found: list[list[Floats]] = []
    for group in _groups(len(tiles)):
        bands = _bands(layer, tiles[group])
        found += [[bands[band][tile, ..., 0].ravel() for band in SEARCH_BANDS] for tile in range(len(bands[0]))]
    return found


def _vanishing(before: Sequence[Floats], after: Sequence[Floats]) -> float:
    """Return the size below which coefficients lose more than half of themselves: a first guess of the coarseness."""
    b, a = np.abs(np.concatenate(before)), np.abs(np.concatenate(after))
    lost = b[a < b / 2]
    return float(np.clip(np.percentile(lost, 97), LOWEST_SCALE, HIGHEST_SCALE)) if len(lost) else LOWEST_SCALE


def _fitted_scale(layer: Responses, pristine: Pictures, scales: Floats) -> tuple[Floats, Floats]:
    """Return kernel and bias of the ridge regression of log `scales` on the features of the pristine tiles."""
    features = np.concatenate(
        [np.asarray(scale_features(_bands(layer, pristine[group]))) for group in _groups(len(pristine))]
    ).astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-3  # a feature that never varies is not to be divided by 0
    standard, wanted = (features - mean) / deviation, np.log(scales.astype(np.float64))
    normal = standard.T @ standard + SCALE_RIDGE * np.eye(features.shape[1])
    kernel = np.linalg.solve(normal, standard.T @ (wanted - wanted.mean())) / deviation
    return kernel.astype(np.float32), np.array([wanted.mean() - mean @ kernel], np.float32)


def _fit_steps(layer: Responses, pristine: Pictures, levels: Sequence[Pictures]) -> None:
    """Give `layer` the step of each coefficient at each level: twice the size below which it vanishes."""
    tables = [[VanishingFit(curves.count) for curves in layer.transform.curves] for _ in levels]
    for group in _groups(len(pristine)):
        before = _bands(layer, pristine[group])
        for own, distorted in zip(tables, levels, strict=True):
            for table, b, a in zip(own, before, _bands(layer, distorted[group]), strict=True):
                table.add(b, a)
    for band, log_steps in enumerate(layer.log_steps):
        log_steps.assign(
            settled_steps(*(np.stack(part) for part in zip(*(own[band].steps() for own in tables), strict=True)))
        )


class VanishingFit:
    """Counts of what became of coefficients of each size, added up group by group."""

    def __init__(self, count: int) -> None:
        self.gone, self.there = (np.zeros((count, SIZES), np.int64) for _ in range(2))

    def add(self, before: Floats, after: Floats) -> None:
        """Take in coefficients (N, h, w, count) and what became of them, in greys."""
        count = len(self.gone)
        size = np.abs(before)
        gone = np.abs(after) < size / 2
        place = np.minimum((size / SIZE_GREY).astype(np.int64), SIZES - 1) + SIZES * np.arange(count)
        for table, chosen in ((self.gone, gone), (self.there, ~gone)):
            table += np.bincount(place[chosen], minlength=table.size).reshape(table.shape)

    def steps(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the logarithm of each step in greys, and whether it was seen or is only the least that it can be.

        The size that splits those that vanish from those that stay with the fewest errors is half a step.
        """
        gone, there = self.gone[:, FIRST_SIZE:], self.there[:, FIRST_SIZE:]  # the smallest are rounding of 8-bit pixels
        errors = np.cumsum(there, 1) - np.cumsum(gone, 1)  # below the split those that stay, less those that vanish
        split = errors.argmin(1) + 1
        largest = SIZES - FIRST_SIZE - (np.cumsum((gone + there)[:, ::-1], 1) == 0).sum(1)
        stayed = there.sum(1) - np.take_along_axis(np.cumsum(there, 1), split[:, None] - 1, 1)[:, 0]
        seen = stayed >= LEAST_SEEN
        half = FIRST_SIZE + np.where(seen, split, np.maximum(largest, 1))
        return np.log(2 * SIZE_GREY * half).astype(np.float32), seen


def settled_steps(log_steps: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return log steps (levels, count) with those that were not seen filled in from the other levels.

    A coefficient that is gone at a coarse level has the step that it has at a finer one, times the mean ratio of both
    levels' steps. One that no level ever let pass keeps the least that its step can be at the finest.
    """
    settled = log_steps.copy()
    for level in range(1, len(settled)):
        both = seen[level] & seen[level - 1]
        ratio = np.median(log_steps[level][both] - log_steps[level - 1][both]) if both.any() else 0.0
        settled[level] = np.where(seen[level], log_steps[level], settled[level - 1] + ratio)
    return settled


def _bands(layer: Responses, tiles: Pictures) -> list[Floats]:
    return [np.asarray(band) for band in layer.analyse(to_network(tiles))]


def _groups(count: int) -> Iterator[slice]:
    return (slice(start, start + GROUP) for start in range(0, count, GROUP))
