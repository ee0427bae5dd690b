"""Response curves read off pairs: which transform explains a distortion, and what each coefficient becomes.

For each coefficient the curve is the least-squares one, E[y - x | x] with straight lines between knots: a tridiagonal
system over all places where the coefficient occurs, once for each level. Steps come first: each coefficient's from the
size below which it vanishes; where a codec chooses its coarseness for each picture, that is estimated beside the curves
in turns, and then predicted from the pristine picture alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.generator import NO_TRANSFORM
from distort_pipeline.networks.responses import (
    HIGHEST_SCALE,
    LOWEST_SCALE,
    Responses,
    scale_features,
)
from distort_pipeline.networks.transforms import TRANSFORMS
from distort_pipeline.ranges import Pictures, from_network, to_network
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import COUNTS, product_histogram
from distort_pipeline.training.curve_fit import CurveFit, losing_more
from distort_pipeline.training.step_fit import StepFit, in_whole_steps, settled_steps

Floats = NDArray[np.float32]

LEAST_EXPLAINED = 0.25  # of the squared difference on held-out pictures; white noise explains 0.02 by its clipping
HELD_OUT = 8  # one picture in so many judges the transforms
GROUP = 16  # tiles in memory as bands at a time
TURNS = 2  # of curves and coarseness; a third changed the error by 2 %
LADDER = np.exp(np.arange(np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE), 0.2)).astype(np.float32)
SEARCH_BANDS = range(6, 12)  # details of the third and fourth level: coarse enough to survive, fine enough to be cut
SCALE_RIDGE = 3.0


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
    curves = (_scaled_curves if layer.transform.scaled else _stepped_curves)(layer, pristine, levels)
    for variable, fitted in zip(layer.curves, curves, strict=True):
        variable.assign(fitted)
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


def _stepped_curves(layer: Responses, pristine: Pictures, levels: Sequence[Pictures]) -> list[Floats]:
    """Return the curves (levels, count, knots) of each band, where each coefficient has its own step; give it that.

    A band that is left with whole steps was rounded to 8-bit pixels afterwards, which is undone first.
    """
    whole = _fit_steps(layer, pristine, levels)
    fits = [_curve_fits(layer) for _ in levels]
    for group in _groups(len(pristine)):
        before = _bands(layer, pristine[group])
        for level, distorted in enumerate(levels):
            for band, after in enumerate(_left(layer, distorted[group])):
                step = np.exp(np.asarray(layer.log_steps[band])[level])
                left = after / step
                gains = (np.rint(left) if whole[band] else left) - before[band] / step
                fits[level][band].add(before[band] / step, gains)
    return [
        np.stack([fit.decided() if rounded else fit.solve() for fit in own])
        for own, rounded in zip(zip(*fits, strict=True), whole, strict=True)
    ]


def _scaled_curves(layer: Responses, pristine: Pictures, levels: Sequence[Pictures]) -> list[Floats]:
    """Return the curves (levels, count, knots) of each band, where all coefficients of a picture have one step.

    The layer gets what it needs to read that off a picture.
    """
    fits = [_curve_fits(layer) for _ in levels]
    readings = []
    for own, distorted in zip(fits, levels, strict=True):
        scales = _fitted_scales(layer, pristine, distorted)
        readings.append(_fitted_scale(layer, pristine, scales))
        for group in _groups(len(pristine)):
            step = scales[group, None, None, None]
            bands = zip(_bands(layer, pristine[group]), _left(layer, distorted[group]), strict=True)
            for fit, (before, after) in zip(own, bands, strict=True):
                fit.add(before / step, (after - before) / step)
    layer.scale_kernel.assign(np.stack([kernel for kernel, _ in readings]))
    layer.scale_bias.assign(np.stack([bias for _, bias in readings]))
    *details, smooth = zip(*fits, strict=True)
    curves = [np.stack([fit.bold() for fit in own]) for own in details]
    curves.append(np.stack([fit.solve() for fit in smooth]))  # of the smooth rest hardly anything is lost
    return [losing_more(band) for band in curves]


def _curve_fits(layer: Responses) -> list[CurveFit]:
    return [CurveFit(curves.count, curves.knots, curves.spacing) for curves in layer.transform.curves]


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


def _fit_steps(layer: Responses, pristine: Pictures, levels: Sequence[Pictures]) -> list[bool]:
    """Give `layer` the step of each coefficient at each level, and return which bands are left with whole steps."""
    tables = [[StepFit(curves.count) for curves in layer.transform.curves] for _ in levels]
    for group in _groups(len(pristine)):
        before = _bands(layer, pristine[group])
        for own, distorted in zip(tables, levels, strict=True):
            for table, b, a in zip(own, before, _left(layer, distorted[group]), strict=True):
                table.add(b, a)
    whole = []
    for band, log_steps in enumerate(layer.log_steps):
        steps = [own[band].steps() for own in tables]
        log_steps.assign(
            settled_steps(*(np.stack([getattr(one, part) for one in steps]) for part in ("log_steps", "seen")))
        )
        whole.append(in_whole_steps(steps))
    return whole


def _bands(layer: Responses, tiles: Pictures) -> list[Floats]:
    return [np.asarray(band) for band in layer.analyse(to_network(tiles))]


def _left(layer: Responses, tiles: Pictures) -> list[Floats]:
    """Return the bands that distorted `tiles` were made of."""
    return [np.asarray(band) for band in layer.recover(to_network(tiles))]


def _groups(count: int) -> Iterator[slice]:
    return (slice(start, start + GROUP) for start in range(0, count, GROUP))
