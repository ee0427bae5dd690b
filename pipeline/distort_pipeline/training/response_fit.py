"""Response curves read off pairs: which transform explains a distortion, and what each coefficient becomes.

For each coefficient the curve is the least-squares one, E[y - x | x] with straight lines between knots: a tridiagonal
system over all places where the coefficient occurs. Where a codec chooses its coarseness for each picture, that is
estimated beside the curves in turns, and then predicted from the pristine picture alone.
"""

from __future__ import annotations

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
KNOT_RIDGE = 0.3  # observations' worth of "nothing changes" at each knot; a knot without any stays at 0
SCALE_RIDGE = 3.0


@dataclass(frozen=True)
class Fitted:
    """The transform that explains a distortion best, its weights, and which share of the difference is explained."""

    transform: str
    weights: Mapping[str, Floats]
    explained: Mapping[str, float]  # of each transform that was tried, on held-out pictures


def fit_best(pristine: Pictures, distorted: Pictures, pictures: Sequence[str], wanted: str | None) -> Fitted:
    """Return the fit of the `wanted` transform, or of the best (None), to tiles (N, H, W, 3) of the named pictures.

    Sides are multiples of 128. Without a wish, a transform has to explain a quarter of the squared difference on
    pictures that it was not fitted to, and to lower their JSD_NSS; otherwise the answer is "none", without weights.
    A single picture judges what was fitted to it.
    """
    if wanted == NO_TRANSFORM:
        return Fitted(NO_TRANSFORM, {}, {})
    names = sorted(set(pictures))
    held_names = set(names[HELD_OUT // 2 :: HELD_OUT]) or set(names[-1:])
    held = np.array([picture in held_names for picture in pictures])
    fitted_to = ~held if (~held).any() else held
    layers = {
        name: _fit(name, pristine[fitted_to], distorted[fitted_to]) for name in TRANSFORMS if wanted in (None, name)
    }
    judged = {name: _judged(layer, pristine[held], distorted[held]) for name, layer in layers.items()}
    explained = {name: share for name, (share, _) in judged.items()}
    useful = [
        name for name, (share, nearer) in judged.items() if wanted == name or (share >= LEAST_EXPLAINED and nearer)
    ]
    if not useful:
        return Fitted(NO_TRANSFORM, {}, explained)
    best = max(useful, key=lambda name: explained[name])
    weights = {variable.name: np.asarray(variable) for variable in layers[best].variables}
    return Fitted(best, weights, explained)


def explained_by(fitted: Fitted, pristine: Pictures) -> Pictures:
    """Return x + T(x) of `pristine` (N, H, W, 3) in 8 bits, or `pristine` itself if no transform was fitted."""
    if fitted.transform == NO_TRANSFORM:
        return pristine
    layer = Responses(fitted.transform)
    layer.build((None, None, None, 3))
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    made = np.empty_like(pristine)
    for group in _groups(len(pristine)):
        x = to_network(pristine[group])
        made[group] = from_network(x + np.asarray(layer(x)))
    return made


def _fit(transform: str, pristine: Pictures, distorted: Pictures) -> Responses:
    layer = Responses(transform)
    layer.build((None, None, None, 3))
    scales = np.ones(len(pristine), np.float32)
    if layer.transform.scaled:
        scales = _fitted_scales(layer, pristine, distorted)
        _fit_scale(layer, pristine, scales)
    _fit_curves(layer, pristine, distorted, scales)
    return layer


def _judged(layer: Responses, pristine: Pictures, distorted: Pictures) -> tuple[float, bool]:
    """Return the share of the squared difference that T explains, and whether it brings the statistics nearer."""
    left = there = 0.0
    histograms = [np.zeros(COUNTS, np.int64) for _ in range(3)]  # true, made, pristine
    for group in _groups(len(pristine)):
        x, y = to_network(pristine[group]), to_network(distorted[group])
        made = x + np.asarray(layer(x))
        left += float(np.square(y - made).sum())
        there += float(np.square(y - x).sum())
        for histogram, tiles in zip(histograms, (distorted[group], from_network(made), pristine[group]), strict=True):
            histogram += sum(product_histogram(tile) for tile in tiles)
    true, generated, nothing = histograms
    return 1 - left / there if there else 0.0, jsd_bits(true, generated) < jsd_bits(true, nothing)


class CurveFit:
    """The normal equations of a band's curves, added up group by group."""

    def __init__(self, count: int, knots: int, spacing: float) -> None:
        self.knots, self.spacing = knots, spacing
        self.diagonal, self.beside, self.right = (np.zeros((count, knots)) for _ in range(3))

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
        ):
            sums = np.bincount(flat, at_left, table.size) + np.bincount(flat + 1, at_right, table.size)
            table += sums.reshape(table.shape)
        self.beside += np.bincount(flat, here * after, self.beside.size).reshape(self.beside.shape)

    def solve(self) -> Floats:
        """Return the curves (count, knots)."""
        curves = np.empty(self.diagonal.shape, np.float32)
        for row, (diagonal, beside, right) in enumerate(zip(self.diagonal, self.beside, self.right, strict=True)):
            upper = np.concatenate([[0.0], beside[:-1]])
            curves[row] = solveh_banded(np.stack([upper, diagonal + KNOT_RIDGE]), right)
        return curves


def _fit_curves(layer: Responses, pristine: Pictures, distorted: Pictures, scales: Floats) -> None:
    fits = [CurveFit(curves.count, curves.knots, curves.spacing) for curves in layer.transform.curves]
    for group in _groups(len(pristine)):
        scale = scales[group, None, None, None]
        for fit, before, after in zip(
            fits, _bands(layer, pristine[group]), _bands(layer, distorted[group]), strict=True
        ):
            fit.add(before / scale, (after - before) / scale)
    for variable, fit in zip(layer.curves, fits, strict=True):
        variable.assign(fit.solve())


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


def _fit_scale(layer: Responses, pristine: Pictures, scales: Floats) -> None:
    """Give `layer` the ridge regression of log `scales` on the features of the pristine tiles."""
    features = np.concatenate(
        [np.asarray(scale_features(_bands(layer, pristine[group]))) for group in _groups(len(pristine))]
    ).astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-3  # a feature that never varies is not to be divided by 0
    standard, wanted = (features - mean) / deviation, np.log(scales.astype(np.float64))
    normal = standard.T @ standard + SCALE_RIDGE * np.eye(features.shape[1])
    kernel = np.linalg.solve(normal, standard.T @ (wanted - wanted.mean())) / deviation
    layer.scale_kernel.assign(kernel[:, None].astype(np.float32))
    layer.scale_bias.assign(np.array([wanted.mean() - mean @ kernel], np.float32))


def _bands(layer: Responses, tiles: Pictures) -> list[Floats]:
    return [np.asarray(band) for band in layer.analyse(to_network(tiles))]


def _groups(count: int) -> Iterator[slice]:
    return (slice(start, start + GROUP) for start in range(0, count, GROUP))
