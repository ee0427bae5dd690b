"""Which transform explains a distortion, and what each of its coefficients becomes, read off pairs.

For each coefficient the curve is the least-squares one, E[y - x | x] with straight lines between knots: a tridiagonal
system over all places where the coefficient occurs, once for each level. Where a codec decides anew for every block of
coefficients, that mean loses less than either of what may happen, and shows it everywhere: curves may be bolder.
How bold is told by the statistics of many images, which transform by those of images that were not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_priors import CODEC_PRIORS
from distort_pipeline.networks.coefficient_curves import CoefficientCurves, significance_in
from distort_pipeline.networks.generator import NO_PRIOR
from distort_pipeline.pixels import Images, denormalize, normalize
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import COUNTS, product_histogram
from distort_pipeline.training.coefficients import Floats, Solve, groups
from distort_pipeline.training.fixed_step_curves import fixed_step_curves
from distort_pipeline.training.rate_scaled_curves import rate_scaled_curves

Places = slice | NDArray[np.bool_] | NDArray[np.intp]

LEAST_EXPLAINED = 0.25  # of the squared difference on held-out images; white noise explains 0.02 by its clipping
HELD_OUT = 8  # one image in so many judges transforms
MEAN = 0.0
SHRINKAGE_GAINS = (MEAN, 0.5, 1.3)  # tried, see `CurveFit.bold`; beyond 1 as curves know less than a codec (studies/)
CLEAR_GAIN = 0.95  # of the bits that there were: what is bolder has to be better than luck
JUDGES, JUDGES_EACH = 24, 2  # images that tell how bold, and tiles of each: with seven, one odd image decided


@dataclass(frozen=True)
class Fitted:
    """The transform that explains a distortion best, its weights, and which share of the difference is explained."""

    codec_prior: str
    weights: Mapping[str, Floats]
    explained: Mapping[str, float]  # by the mean in each transform that was tried, on held-out images
    shrinkage_gain: float = MEAN


def fit_best(
    pristine: Images,
    levels: Sequence[Images],
    images: Sequence[str],
    wanted: str | None,
    shrinkage_gains: Sequence[float] = SHRINKAGE_GAINS,
) -> Fitted:
    """Return the fit of the `wanted` transform, or of the best (None), to tiles (N, H, W, 3) of the named images.

    `levels` are the same tiles distorted, weakest level first. Sides are multiples of 128. Curves are as bold, of the
    `boldnesses`, as brings JSD_NSS down. The best transform has the least on images that it was not fitted to;
    without a wish it has to explain a quarter of the squared difference there, and to come nearer than pristine
    images are: otherwise the answer is "none", without weights. The middle one of several levels chooses both. A
    single image judges what was fitted to it.
    """
    if wanted == NO_PRIOR:
        return Fitted(NO_PRIOR, {}, {})
    if len(levels) > 1 and wanted is None:
        middle = fit_best(pristine, [levels[len(levels) // 2]], images, None, shrinkage_gains)
        if middle.codec_prior == NO_PRIOR:
            return middle
        whole = fit_best(pristine, levels, images, middle.codec_prior, shrinkage_gains)
        return replace(whole, explained={**middle.explained, **whole.explained})
    names = sorted(set(images))
    held_names = set(names[HELD_OUT // 2 :: HELD_OUT]) or set(names[-1:])
    held = np.array([image in held_names for image in images])
    fitted_to = ~held if (~held).any() else held
    best, least_bits = Fitted(NO_PRIOR, {}, {}), math.inf
    explained: dict[str, float] = {}
    for name in CODEC_PRIORS:
        if wanted not in (None, name):
            continue
        layer = CoefficientCurves(name, len(levels), whole=CODEC_PRIORS[name].scaled)
        layer.build((None, None, None, 3))
        told = _significance(layer, pristine, images)
        curves_at = _curves(layer, *_chosen(fitted_to, pristine, levels, told))
        shrinkage_gain = _shrinkage_gain(layer, curves_at, shrinkage_gains, pristine, levels, images, told)
        judged = _judged(layer, *_chosen(held, pristine, levels, told), np.asarray(images)[held])
        explained[name] = judged.explained
        useful = judged.explained >= LEAST_EXPLAINED and judged.bits < judged.identity_bits
        if (wanted == name or useful) and judged.bits < least_bits:
            weights = {variable.name: np.asarray(variable) for variable in layer.variables}
            best, least_bits = Fitted(name, weights, {}, shrinkage_gain), judged.bits
    return replace(best, explained=explained)


def _shrinkage_gain(
    layer: CoefficientCurves,
    curves_at: Solve,
    shrinkage_gains: Sequence[float],
    pristine: Images,
    levels: Sequence[Images],
    images: Sequence[str],
    told: Floats | None,
) -> float:
    """Give `layer` the curves of that of the `boldnesses`, least first, that brings JSD_NSS down; return which."""
    few = _few_of_each(images)
    middle = len(levels) // 2
    asked = (*_chosen(few, pristine, [levels[middle]], told), np.asarray(images)[few])
    best, least_bits = shrinkage_gains[0], math.inf
    for shrinkage_gain in shrinkage_gains if len(shrinkage_gains) > 1 else ():
        _give(layer, curves_at(shrinkage_gain))
        bits = _judged(layer, *asked, first=middle + 1).bits
        if bits < CLEAR_GAIN * least_bits:
            best, least_bits = shrinkage_gain, bits
    _give(layer, curves_at(best))
    return best


def explained_by(fitted: Fitted, pristine: Images, images: Sequence[str], *, level: int = 1, levels: int = 1) -> Images:
    """Return x + T(x) of tiles `pristine` (N, H, W, 3) of the named images, in 8 bits, at one of the fitted `levels`.

    They are `pristine` without a T.
    """
    if fitted.codec_prior == NO_PRIOR:
        return pristine
    layer = CoefficientCurves(fitted.codec_prior, levels, whole=CODEC_PRIORS[fitted.codec_prior].scaled)
    layer.build((None, None, None, 3))
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    told = _significance(layer, pristine, images)
    made = np.empty_like(pristine)
    for group in groups(len(pristine)):
        made[group] = denormalize(_made(layer, pristine[group], _rows(told, group), level))
    return made


def _chosen(
    tiles: Places, pristine: Images, levels: Sequence[Images], told: Floats | None
) -> tuple[Images, list[Images], Floats | None]:
    return pristine[tiles], [distorted[tiles] for distorted in levels], _rows(told, tiles)


def _few_of_each(images: Sequence[str]) -> NDArray[np.intp]:
    """Return the places of some tiles of some images, spread over all that there are."""
    names = np.array(sorted(set(images)))
    return np.concatenate(
        [_spread(np.flatnonzero(np.asarray(images) == n), JUDGES_EACH) for n in _spread(names, JUDGES)]
    )


def _spread(values: NDArray[Any], most: int) -> NDArray[Any]:
    return values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))]


def _rows(told: Floats | None, rows: Places) -> Floats | None:
    return None if told is None else told[rows]


def _significance(layer: CoefficientCurves, pristine: Images, images: Sequence[str]) -> Floats | None:
    """Return what all tiles of a tile's image together say of its significance, (N, 18), if the layer wants that."""
    if not layer.codec_prior.scaled:
        return None
    own = np.concatenate(
        [np.asarray(significance_in(layer.analyse(normalize(pristine[group])))) for group in groups(len(pristine))]
    )
    _, places = np.unique(np.asarray(images), return_inverse=True)
    sums = np.zeros((places.max() + 1, own.shape[1]))
    np.add.at(sums, places, own)
    return np.asarray(sums[places] / np.bincount(places)[places, None], np.float32)


def _made(layer: CoefficientCurves, pristine: Images, told: Floats | None, level: int) -> Floats:
    """Return x + T(x) at `level`, from 1."""
    x = normalize(pristine)
    severity = [np.full((len(x), 1), level / layer.levels, np.float32)] if layer.levels > 1 else []
    inputs = [x, *severity, *([] if told is None else [told])]
    return x + np.asarray(layer(inputs if len(inputs) > 1 else x))


def _curves(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images], told: Floats | None) -> Solve:
    if told is None:
        return fixed_step_curves(layer, pristine, levels)
    return rate_scaled_curves(layer, pristine, levels, told)


def _give(layer: CoefficientCurves, curves: Sequence[Floats]) -> None:
    for variable, fitted in zip(layer.curves, curves, strict=True):
        variable.assign(fitted)


@dataclass(frozen=True)
class _Judged:
    explained: float  # share of the squared difference
    bits: float  # JSD_NSS of x + T(x)
    identity_bits: float  # of x


def _judged(
    layer: CoefficientCurves,
    pristine: Images,
    levels: Sequence[Images],
    told: Floats | None,
    images: NDArray[np.str_],
    *,
    first: int = 1,
) -> _Judged:
    """Return what T makes of tiles of the named `images`: means over levels from the `first` on, and images."""
    shares, made_bits, identity_bits = [], [], []
    for level, distorted in enumerate(levels, start=first):
        left = there = 0.0
        for name in dict.fromkeys(images):
            own = images == name
            x, y = normalize(pristine[own]), normalize(distorted[own])
            made = _made(layer, pristine[own], _rows(told, own), level)
            left += float(np.square(y - made).sum())
            there += float(np.square(y - x).sum())
            true, generated, nothing = map(_histogram, (distorted[own], denormalize(made), pristine[own]))
            made_bits.append(jsd_bits(true, generated))
            identity_bits.append(jsd_bits(true, nothing))
        shares.append(1 - left / there if there else 0.0)
    return _Judged(*(float(np.mean(part)) for part in (shares, made_bits, identity_bits)))


def _histogram(tiles: Images) -> NDArray[np.int64]:
    """Return the product histogram of all `tiles` together."""
    return sum((product_histogram(tile) for tile in tiles), np.zeros(COUNTS, np.int64))
