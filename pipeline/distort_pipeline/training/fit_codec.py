"""The best codec prior for a distortion, and its coefficient curves, fitted to pairs.

For each coefficient the curve is the least-squares estimate, E[y - x | x] with straight lines between knots: a
tridiagonal system over all positions of the coefficient, for each level. Where a codec decides per block of
coefficients, this conditional mean loses less than either outcome and shows the loss everywhere: a shrinkage gain above
0 corrects this. The gain is chosen by the statistics of many images, the codec prior by held-out images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.jsd_nss import COUNTS, jsd_bits, product_histogram
from distort_pipeline.networks.codec_prior import CODEC_PRIORS, NO_PRIOR, shares_in
from distort_pipeline.networks.predictor import COEFFICIENT_CURVES, FittedCurves
from distort_pipeline.process import track
from distort_pipeline.records import Images, denormalize, normalize
from distort_pipeline.training.fit_curves import (
    Floats,
    Solve,
    bands_of,
    curve_fits,
    distorted_bands_of,
    fit_offsets,
    groups,
    rate_scaled_curves,
)

MAGNITUDE_STEP, MAGNITUDES = 0.25, 4096  # bin width in 8-bit levels and number of bins, up to 1024
FIRST_BIN = 4  # magnitude 1: smaller coefficients are the rounding of 8-bit pixels
LEAST_KEPT = 50  # coefficients not zeroed; with fewer the step is unknown
NEAR_LEVELS, NEAR_SHARE = 1.0, 0.3  # search range of the lattice: 8-bit levels, or share of the step if more
TRIES = 161  # steps tried in the range, and again around the best
SHARPNESS = 20.0  # only magnitudes within a twentieth of a step of multiples count: clipping shrinks many a little
WHOLE = 0.5  # mean cosine of the phase of kept magnitudes in a step: 1 on the lattice, 0 for any others


@dataclass(frozen=True)
class QuantizerSteps:
    """The quantisation steps of a band's coefficients, (count,): logarithms in 8-bit levels, and the evidence."""

    log_steps: Floats
    seen: NDArray[np.bool_]  # False: the step is a lower limit only
    closeness: Floats  # of kept magnitudes to the lattice, see WHOLE; 0 where not seen


class LatticeFit:
    """Counts of zeroed and kept coefficients by magnitude, summed group by group."""

    def __init__(self, count: int) -> None:
        self.zeroed, self.kept, self.decoded = (np.zeros((count, MAGNITUDES), np.int64) for _ in range(3))

    def add(self, before: Floats, after: Floats) -> None:
        """Add coefficients (N, h, w, count) before and after the codec, in 8-bit levels."""
        magnitude, decoded = np.abs(before), np.abs(after)
        zeroed = decoded < magnitude / 2
        for table, magnitudes, chosen in (
            (self.zeroed, magnitude, zeroed),
            (self.kept, magnitude, ~zeroed),
            (self.decoded, decoded, ~zeroed & (decoded >= FIRST_BIN * MAGNITUDE_STEP)),
        ):
            bins = np.minimum(
                np.rint(magnitudes / MAGNITUDE_STEP).astype(np.int64), MAGNITUDES - 1
            ) + MAGNITUDES * np.arange(len(self.zeroed))
            table += np.bincount(bins[chosen], minlength=table.size).reshape(table.shape)

    def steps(self) -> QuantizerSteps:
        """Return the steps: half a step is the magnitude that best separates zeroed from kept coefficients.

        Then the nearby step whose multiples are closest to the decoded magnitudes.
        """
        zeroed, kept = self.zeroed[:, FIRST_BIN:], self.kept[:, FIRST_BIN:]
        errors = np.cumsum(kept, 1) - np.cumsum(zeroed, 1)  # kept minus zeroed below the split
        split = errors.argmin(1) + 1
        largest = MAGNITUDES - FIRST_BIN - (np.cumsum((zeroed + kept)[:, ::-1], 1) == 0).sum(1)
        kept_above = kept.sum(1) - np.take_along_axis(np.cumsum(kept, 1), split[:, None] - 1, 1)[:, 0]
        seen = kept_above >= LEAST_KEPT
        steps = 2 * MAGNITUDE_STEP * (FIRST_BIN + np.where(seen, split, np.maximum(largest, 1))).astype(np.float64)
        closeness = np.zeros(len(steps))
        for index in np.flatnonzero(seen):
            step, closeness[index] = nearest_lattice(self.decoded[index], steps[index])
            if closeness[index] >= WHOLE:
                steps[index] = step
        return QuantizerSteps(np.log(steps).astype(np.float32), seen, closeness.astype(np.float32))


def nearest_lattice(counts: NDArray[np.int64], about: float) -> tuple[float, float]:
    """Return the step near `about` whose multiples fit magnitudes with `counts` (MAGNITUDES,) best, and the closeness.

    >>> counts = np.bincount([400, 800, 1200], minlength=MAGNITUDES)  # magnitudes 100, 200 and 300
    >>> round(nearest_lattice(counts, 98.0)[0])
    100
    """
    bins = np.flatnonzero(counts[:-1])  # the last bin is open-ended
    bins = bins[MAGNITUDE_STEP * bins > about / 2]  # noise around 0 is near a multiple of any step
    if not len(bins):
        return about, 0.0
    best, width = about, max(NEAR_LEVELS, NEAR_SHARE * about)
    for _ in range(2):
        tried = best + np.linspace(-width, width, TRIES)
        cosines = np.cos(2 * np.pi * MAGNITUDE_STEP * bins / tried[:, None])
        index = int((np.exp(SHARPNESS * (cosines - 1)) @ counts[bins]).argmax())
        best, width = float(tried[index]), 2 * width / (TRIES - 1)
    return best, float(cosines[index] @ counts[bins] / counts[bins].sum())


def resolve_lattice(log_steps: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return log steps (levels, count), unseen steps filled in from the other levels.

    A coefficient zeroed at a coarse level has the step of the finer level, times the median ratio of both levels'
    steps. A coefficient zeroed at every level keeps the lower limit of its step at the finest.
    """
    resolved = log_steps.copy()
    for level in range(1, len(resolved)):
        both = seen[level] & seen[level - 1]
        ratio = np.median(log_steps[level][both] - log_steps[level - 1][both]) if both.any() else 0.0
        resolved[level] = np.where(seen[level], log_steps[level], resolved[level - 1] + ratio)
    return resolved


def in_whole_steps(levels: list[QuantizerSteps]) -> bool:
    """Return whether a band is decoded to whole steps, by the median over all levels."""
    closeness = np.concatenate([steps.closeness[steps.seen] for steps in levels])
    return bool(len(closeness)) and float(np.median(closeness)) >= WHOLE


def fixed_step_curves(curves: FittedCurves, pristine: Images, levels: Sequence[Images]) -> Solve:
    """Return a function from shrinkage gain to the curves (levels, count, knots) of each band.

    `curves` get the quantisation steps. In a band of whole steps, the rounding to 8-bit pixels is undone first.
    """
    is_whole = _fit_steps(curves, pristine, levels)
    fits = [curve_fits(curves) for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(curves, pristine[group])
        for level, distorted in enumerate(levels):
            for band, decoded in enumerate(distorted_bands_of(curves, distorted[group])):
                step = np.exp(curves.log_steps[band][level])
                steps_out = decoded / step
                gains = (np.rint(steps_out) if is_whole[band] else steps_out) - before[band] / step
                fits[level][band].add(before[band] / step, gains)
    return lambda shrinkage_gain: [
        np.stack([fit.hard_quantiser() if rounded else fit.with_gain(shrinkage_gain) for fit in level_fits])
        for level_fits, rounded in zip(zip(*fits, strict=True), is_whole, strict=True)
    ]


def _fit_steps(curves: FittedCurves, pristine: Images, levels: Sequence[Images]) -> list[bool]:
    """Assign the step of each coefficient and level to `curves`; return for each band if decoded to whole steps."""
    tables = [[LatticeFit(form.count) for form in curves.codec_prior.curves] for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(curves, pristine[group])
        for level_tables, distorted in zip(tables, levels, strict=True):
            for table, b, a in zip(level_tables, before, distorted_bands_of(curves, distorted[group]), strict=True):
                table.add(b, a)
    is_whole = []
    for band, log_steps in enumerate(curves.log_steps):
        steps = [level_tables[band].steps() for level_tables in tables]
        log_steps[:] = resolve_lattice(
            *(np.stack([getattr(level, field) for level in steps]) for field in ("log_steps", "seen"))
        )
        is_whole.append(in_whole_steps(steps))
    return is_whole


Rows = slice | NDArray[np.bool_] | NDArray[np.intp]

LEAST_EXPLAINED = 0.25  # of the squared difference on held-out images; for white noise 0.02, by clipping
HELD_OUT = 8  # every 8th image is held out, to choose the codec prior
CONDITIONAL_MEAN = 0.0  # shrinkage gain
SHRINKAGE_GAINS = (CONDITIONAL_MEAN, 0.5, 1.3)  # see `CurveFit.with_gain`; above 1: curves know less than a codec
CLEAR_IMPROVEMENT = 0.95  # factor on the bits: a larger shrinkage gain has to be better than luck
GAIN_IMAGES, GAIN_TILES = 24, 2  # to choose the gain, tiles per image: with seven images, a single odd image decided


@dataclass(frozen=True)
class Fitted:
    """The best codec prior for a distortion, its weights, and the explained share of the difference."""

    codec_prior: str
    weights: Mapping[str, Floats]
    explained: Mapping[str, float]  # by the conditional mean, of each codec prior tried, on held-out images
    shrinkage_gain: float = CONDITIONAL_MEAN


def fit_best(
    pristine: Images,
    levels: Sequence[Images],
    images: Sequence[str],
    codec_prior: str | None,
    shrinkage_gains: Sequence[float] = SHRINKAGE_GAINS,
) -> Fitted:
    """Return the fit of the given codec prior, or of the best (None), to tiles (N, H, W, 3) of the named images.

    `levels` are the same tiles distorted, weakest level first. Sides are multiples of 128. The shrinkage gain is chosen
    from `shrinkage_gains` by the lowest JSD_NSS. The best codec prior has the lowest JSD_NSS on held-out images; with
    None, the prior must also explain a quarter of the squared difference there and beat the identity baseline.
    Otherwise the result is "none", without weights. The middle of several levels chooses both. A single image is its
    own held-out image.
    """
    if codec_prior == NO_PRIOR:
        return Fitted(NO_PRIOR, {}, {})
    if len(levels) > 1 and codec_prior is None:
        middle = fit_best(pristine, [levels[len(levels) // 2]], images, None, shrinkage_gains)
        if middle.codec_prior == NO_PRIOR:
            return middle
        fit = fit_best(pristine, levels, images, middle.codec_prior, shrinkage_gains)
        return replace(fit, explained={**middle.explained, **fit.explained})
    names = sorted(set(images))
    held_out_names = set(names[HELD_OUT // 2 :: HELD_OUT]) or set(names[-1:])
    held_out = np.array([image in held_out_names for image in images])
    fitted_to = ~held_out if (~held_out).any() else held_out
    best, least_bits = Fitted(NO_PRIOR, {}, {}), math.inf
    explained: dict[str, float] = {}
    tried = CODEC_PRIORS if codec_prior is None else (codec_prior,)
    several = f" at {len(levels)} levels" if len(levels) > 1 else ""
    for name in track(tried, total=len(tried), label=f"coefficient curves{several}", unit="codec priors"):
        curves = FittedCurves(name, len(levels))
        image_significance = _significance(curves, pristine, images)
        seen = _subset(fitted_to, pristine, levels, image_significance)
        curves_at = _curves(curves, *seen)
        shrinkage_gain = _shrinkage_gain(
            curves, curves_at, shrinkage_gains, pristine, levels, images, image_significance
        )
        if image_significance is not None:
            fit_offsets(curves, *seen[:2], image_significance[fitted_to])
        score = _evaluate(
            curves, *_subset(held_out, pristine, levels, image_significance), np.asarray(images)[held_out]
        )
        explained[name] = score.explained
        useful = score.explained >= LEAST_EXPLAINED and score.bits < score.identity_bits
        if (codec_prior == name or useful) and score.bits < least_bits:
            best, least_bits = Fitted(name, curves.weights(), {}, shrinkage_gain), score.bits
    return replace(best, explained=explained)


def _shrinkage_gain(
    curves: FittedCurves,
    curves_at: Solve,
    shrinkage_gains: Sequence[float],
    pristine: Images,
    levels: Sequence[Images],
    images: Sequence[str],
    image_significance: Floats | None,
) -> float:
    """Assign the curves of the best of `shrinkage_gains`, least first, by JSD_NSS to `curves`; return the gain."""
    rows = _spread_tiles(images)
    middle = len(levels) // 2
    subset = (*_subset(rows, pristine, [levels[middle]], image_significance), np.asarray(images)[rows])
    best, least_bits = shrinkage_gains[0], math.inf
    for shrinkage_gain in shrinkage_gains if len(shrinkage_gains) > 1 else ():
        curves.curves = curves_at(shrinkage_gain)
        bits = _evaluate(curves, *subset, first=middle + 1).bits
        if bits < CLEAR_IMPROVEMENT * least_bits:
            best, least_bits = shrinkage_gain, bits
    curves.curves = curves_at(best)
    return best


def explained_by(fitted: Fitted, pristine: Images, images: Sequence[str], *, level: int = 1, levels: int = 1) -> Images:
    """Return x + T(x) of tiles `pristine` (N, H, W, 3) of the named images, in 8 bits, at `level` of `levels`.

    Without a codec prior the result is `pristine`.
    """
    if fitted.codec_prior == NO_PRIOR:
        return pristine
    weights = {f"{COEFFICIENT_CURVES}/{name}": values for name, values in fitted.weights.items()}
    curves = FittedCurves(fitted.codec_prior, levels, weights)
    image_significance = _significance(curves, pristine, images)
    explained = np.empty_like(pristine)
    for group in groups(len(pristine)):
        explained[group] = denormalize(_apply_curves(curves, pristine[group], _rows(image_significance, group), level))
    return explained


def _subset(
    rows: Rows, pristine: Images, levels: Sequence[Images], image_significance: Floats | None
) -> tuple[Images, list[Images], Floats | None]:
    return pristine[rows], [distorted[rows] for distorted in levels], _rows(image_significance, rows)


def _spread_tiles(images: Sequence[str]) -> NDArray[np.intp]:
    """Return the indices of GAIN_TILES tiles of each of GAIN_IMAGES images, spread over all images."""
    names = np.array(sorted(set(images)))
    return np.concatenate(
        [_spread(np.flatnonzero(np.asarray(images) == n), GAIN_TILES) for n in _spread(names, GAIN_IMAGES)]
    )


def _spread(values: NDArray[Any], limit: int) -> NDArray[Any]:
    return values[np.unique(np.linspace(0, len(values) - 1, min(limit, len(values))).astype(int))]


def _rows(image_significance: Floats | None, rows: Rows) -> Floats | None:
    return None if image_significance is None else image_significance[rows]


def _significance(curves: FittedCurves, pristine: Images, images: Sequence[str]) -> Floats | None:
    """Return the significance (N, 18) of each tile's image, a mean over its tiles; None if the prior needs none.

    Headers are left out, as the image's size is unknown: 1 to 4 % of the budget of a megapixel.
    """
    if not curves.codec_prior.scaled:
        return None
    shares = np.concatenate(
        [np.asarray(shares_in(curves.analyse(normalize(pristine[group])))) for group in groups(len(pristine))]
    )
    _, image_index = np.unique(np.asarray(images), return_inverse=True)
    sums = np.zeros((image_index.max() + 1, shares.shape[1]))
    np.add.at(sums, image_index, shares)
    return np.asarray(sums[image_index] / np.bincount(image_index)[image_index, None], np.float32)


def _apply_curves(curves: FittedCurves, pristine: Images, image_significance: Floats | None, level: int) -> Floats:
    """Return x + T(x) at `level`, from 1."""
    x = normalize(pristine)
    severity = np.full((len(x), 1), level / curves.levels, np.float32) if curves.levels > 1 else None
    return np.asarray(x + curves.change(x, severity, image_significance), np.float32)


def _curves(
    curves: FittedCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats | None
) -> Solve:
    if image_significance is None:
        return fixed_step_curves(curves, pristine, levels)
    return rate_scaled_curves(curves, pristine, levels, image_significance)


@dataclass(frozen=True)
class _Score:
    explained: float  # share of the squared difference
    bits: float  # JSD_NSS of x + T(x)
    identity_bits: float  # of x


def _evaluate(
    curves: FittedCurves,
    pristine: Images,
    levels: Sequence[Images],
    image_significance: Floats | None,
    images: NDArray[np.str_],
    *,
    first: int = 1,
) -> _Score:
    """Return the scores of T on tiles of the named `images`: means over images and over levels from `first` on."""
    shares, bits, identity_bits = [], [], []
    for level, distorted in enumerate(levels, start=first):
        residual = total = 0.0
        for name in dict.fromkeys(images):
            rows = images == name
            x, y = normalize(pristine[rows]), normalize(distorted[rows])
            explained = _apply_curves(curves, pristine[rows], _rows(image_significance, rows), level)
            residual += float(np.square(y - explained).sum())
            total += float(np.square(y - x).sum())
            true, generated, identity = map(_histogram, (distorted[rows], denormalize(explained), pristine[rows]))
            bits.append(jsd_bits(true, generated))
            identity_bits.append(jsd_bits(true, identity))
        shares.append(1 - residual / total if total else 0.0)
    return _Score(*(float(np.mean(values)) for values in (shares, bits, identity_bits)))


def _histogram(tiles: Images) -> NDArray[np.int64]:
    """Return the product histogram of all `tiles` together."""
    return sum((product_histogram(tile) for tile in tiles), np.zeros(COUNTS, np.int64))
