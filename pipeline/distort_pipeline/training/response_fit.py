"""Response curves read off pairs: which transform explains a distortion, and what each coefficient becomes.

For each coefficient the curve is the least-squares one, E[y - x | x] with straight lines between knots: a tridiagonal
system over all places where the coefficient occurs, once for each level. Steps come first: each coefficient's from the
size below which it vanishes; where a codec chooses its coarseness for each picture, the step is the size that a share
of the picture's coefficients reaches, and the share with which curves explain most is the level's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.generator import NO_TRANSFORM
from distort_pipeline.networks.responses import Responses, significance_in
from distort_pipeline.networks.transforms import TRANSFORMS, Curves
from distort_pipeline.ranges import Pictures, from_network, to_network
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import COUNTS, product_histogram
from distort_pipeline.training.curve_fit import CurveFit, in_half_units, losing_more, vanishing
from distort_pipeline.training.step_fit import StepFit, in_whole_steps, settled_steps
from distort_pipeline.wavelets.planes import PHASES, nearest_phases
from distort_pipeline.wavelets.significance import log_sizes

Floats = NDArray[np.float32]

LEAST_EXPLAINED = 0.25  # of the squared difference on held-out pictures; white noise explains 0.02 by its clipping
HELD_OUT = 8  # one picture in so many judges the transforms
GROUP = 16  # tiles in memory as bands at a time
LOG_SHARES = np.arange(np.log(0.5), np.log(0.001), -0.15)  # of significant coefficients, tried for each level
NEAR_SHARES = np.arange(-0.6, 0.61, 0.05)  # about what was found: an octave of steps is near an octave of shares
SEARCH_TURNS = 3  # through all levels
SEARCH_BANDS = range(6, 15)  # details of the three coarser levels: some survive, some are cut
SEARCH_TILES = 128


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
    layers, explained, useful = {}, {}, []
    for name in TRANSFORMS:
        if wanted not in (None, name):
            continue
        layers[name] = layer = Responses(name, len(levels), whole=TRANSFORMS[name].scaled)
        layer.build((None, None, None, 3))
        told = _significance(layer, pristine, pictures)
        _fit(layer, *_chosen(fitted_to, pristine, levels, told))
        explained[name], nearer = _judged(layer, *_chosen(held, pristine, levels, told))
        if wanted == name or (explained[name] >= LEAST_EXPLAINED and nearer):
            useful.append(name)
    if not useful:
        return Fitted(NO_TRANSFORM, {}, explained)
    best = max(useful, key=lambda name: explained[name])
    weights = {variable.name: np.asarray(variable) for variable in layers[best].variables}
    return Fitted(best, weights, explained)


def explained_by(
    fitted: Fitted, pristine: Pictures, pictures: Sequence[str], *, level: int = 1, levels: int = 1
) -> Pictures:
    """Return x + T(x) of tiles `pristine` (N, H, W, 3) of the named pictures, in 8 bits, at one of the fitted `levels`.

    They are `pristine` without a T.
    """
    if fitted.transform == NO_TRANSFORM:
        return pristine
    layer = Responses(fitted.transform, levels, whole=TRANSFORMS[fitted.transform].scaled)
    layer.build((None, None, None, 3))
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    told = _significance(layer, pristine, pictures)
    made = np.empty_like(pristine)
    for group in _groups(len(pristine)):
        made[group] = from_network(_made(layer, pristine[group], _rows(told, group), level))
    return made


def _chosen(
    tiles: NDArray[np.bool_], pristine: Pictures, levels: Sequence[Pictures], told: Floats | None
) -> tuple[Pictures, list[Pictures], Floats | None]:
    return pristine[tiles], [distorted[tiles] for distorted in levels], _rows(told, tiles)


def _rows(told: Floats | None, rows: slice | NDArray[np.bool_]) -> Floats | None:
    return None if told is None else told[rows]


def _significance(layer: Responses, pristine: Pictures, pictures: Sequence[str]) -> Floats | None:
    """Return what all tiles of a tile's picture together say of its significance, (N, 18), if the layer wants that."""
    if not layer.transform.scaled:
        return None
    own = np.concatenate(
        [np.asarray(significance_in(layer.analyse(to_network(pristine[group])))) for group in _groups(len(pristine))]
    )
    _, places = np.unique(np.asarray(pictures), return_inverse=True)
    sums = np.zeros((places.max() + 1, own.shape[1]))
    np.add.at(sums, places, own)
    return np.asarray(sums[places] / np.bincount(places)[places, None], np.float32)


def _made(layer: Responses, pristine: Pictures, told: Floats | None, level: int) -> Floats:
    """Return x + T(x) at `level`, from 1."""
    x = to_network(pristine)
    severity = [np.full((len(x), 1), level / layer.levels, np.float32)] if layer.levels > 1 else []
    inputs = [x, *severity, *([] if told is None else [told])]
    return x + np.asarray(layer(inputs if len(inputs) > 1 else x))


def _fit(layer: Responses, pristine: Pictures, levels: Sequence[Pictures], told: Floats | None) -> None:
    curves = _stepped_curves(layer, pristine, levels) if told is None else _scaled_curves(layer, pristine, levels, told)
    for variable, fitted in zip(layer.curves, curves, strict=True):
        variable.assign(fitted)


def _judged(
    layer: Responses, pristine: Pictures, levels: Sequence[Pictures], told: Floats | None
) -> tuple[float, bool]:
    """Return the share of the squared difference that T explains, and whether it brings the statistics nearer.

    Both are means over levels, of each level's share and divergence.
    """
    shares, made_bits, nothing_bits = [], [], []
    for level, distorted in enumerate(levels, start=1):
        left = there = 0.0
        histograms = [np.zeros(COUNTS, np.int64) for _ in range(3)]  # true, made, pristine
        for group in _groups(len(pristine)):
            x, y = to_network(pristine[group]), to_network(distorted[group])
            made = _made(layer, pristine[group], _rows(told, group), level)
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


def _scaled_curves(layer: Responses, pristine: Pictures, levels: Sequence[Pictures], told: Floats) -> list[Floats]:
    """Return the curves (PHASES + 1, count, knots) of each band, where all coefficients of a picture have one step.

    The layer gets the shares that those are read off `told` with, the significance (N, 18) of the tiles' pictures. No
    level's is larger than that of the level before.
    """
    log_shares = np.minimum.accumulate(_log_shares(layer, pristine, levels, told))
    layer.log_shares.assign(log_shares[:, None])
    fits = [_curve_fits(layer) for _ in range(PHASES)]
    for distorted, log_share in zip(levels, log_shares, strict=True):
        for phase, tiles, planes in _by_phase(_steps(told, log_share)):
            for group in _groups(len(tiles)):
                own, unit = tiles[group], planes[group, None, None, None]
                bands = zip(_bands(layer, pristine[own]), _left(layer, distorted[own]), strict=True)
                for fit, (before, after) in zip(fits[phase], bands, strict=True):
                    fit.add(before / unit, (after - before) / unit)
    *details, smooth = zip(*fits, strict=True)
    curves = [np.stack([fit.bold(sum(own[1:], own[0])) for fit in own]) for own in details]
    curves.append(np.stack([fit.solve() for fit in smooth]))  # of the smooth rest hardly anything is lost
    spacings = [band.spacing for band in layer.transform.curves]
    whole = [vanishing(band, spacing) for band, spacing in zip(curves, spacings, strict=True)]
    return [losing_more(np.concatenate([band, in_half_units(band[:1])])) for band in whole]


def _by_phase(steps: Floats) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Yield each place in an octave, the tiles (n,) whose `steps` (N,) are next to it, and their planes (n,)."""
    planes, phases = nearest_phases(steps)
    for phase in range(PHASES):
        tiles = np.flatnonzero(phases == phase)
        yield phase, tiles, planes[tiles]


def _log_shares(layer: Responses, pristine: Pictures, levels: Sequence[Pictures], told: Floats) -> NDArray[np.float64]:
    """Return the logarithms of the shares of coefficients (levels,) with whose sizes as steps curves explain most.

    First of each level with one curve for all its pictures, which finds the octave; then of each in turn with the
    curves that all levels share, which finds the place in it.
    """
    few = np.unique(np.linspace(0, len(pristine) - 1, min(SEARCH_TILES, len(pristine))).astype(int))
    before = _search_coefficients(layer, pristine[few])
    after = [_search_coefficients(layer, distorted[few]) for distorted in levels]
    form = layer.transform.curves[0]
    found = np.array([_log_share(form, before, own, told[few]) for own in after])
    tried = found[:, None] + NEAR_SHARES
    fits = [
        [_phased_fits(form, before, own, _steps(told[few], share)) for share in near]
        for own, near in zip(after, tried, strict=True)
    ]
    places = [len(NEAR_SHARES) // 2] * len(levels)
    for _ in range(SEARCH_TURNS):
        for level, near in enumerate(fits):
            others = [own[place] for n, (own, place) in enumerate(zip(fits, places, strict=True)) if n != level]
            places[level] = int(np.argmin([_unexplained([*others, one]) for one in near]))
    return tried[range(len(levels)), places]


def _log_share(form: Curves, before: Sequence[Floats], after: Sequence[Floats], told: Floats) -> float:
    """Return the logarithm of the share with which one curve for each band explains most.

    Losses are counted in steps, so that every picture has its say.
    """
    left = []
    for log_share in LOG_SHARES:
        step = _steps(told, log_share)[:, None, None, None]
        unexplained = there = 0.0
        for b, a in zip(before, after, strict=True):
            fit = CurveFit(1, form.knots, form.spacing)
            fit.add(b / step, (a - b) / step)
            squares = float(np.square((a - b) / step).sum())
            unexplained += squares - fit.explained()
            there += squares
        left.append(unexplained / max(there, 1e-9))
    return float(LOG_SHARES[int(np.argmin(left))])


def _phased_fits(
    form: Curves, before: Sequence[Floats], after: Sequence[Floats], steps: Floats
) -> list[tuple[CurveFit, ...]]:
    """Return the fits to each band, for each place in an octave, of tiles with these `steps` (N,)."""
    fits = [tuple(CurveFit(1, form.knots, form.spacing) for _ in before) for _ in range(PHASES)]
    for phase, tiles, planes in _by_phase(steps):
        unit = planes[:, None, None, None]
        for fit, b, a in zip(fits[phase], before, after, strict=True):
            fit.add(b[tiles] / unit, (a - b)[tiles] / unit)
    return fits


def _unexplained(levels: Sequence[Sequence[tuple[CurveFit, ...]]]) -> float:
    """Return which share of what was lost the curves that all `levels` share leave, counted in steps."""
    left = there = 0.0
    for phase, fits in enumerate(zip(*levels, strict=True)):
        for own in zip(*fits, strict=True):
            fit, steps = sum(own[1:], own[0]), 2.0 ** (-2 * phase / PHASES)
            left += steps * (fit.seen() - fit.explained())
            there += steps * fit.seen()
    return left / max(there, 1e-9)


def _steps(told: Floats, log_share: float) -> Floats:
    """Return the step (N,) in greys of tiles whose pictures have the significance `told` (N, 18)."""
    return np.asarray(np.exp(log_sizes(told, np.full(1, log_share, np.float32), np)), np.float32)


def _search_coefficients(layer: Responses, tiles: Pictures) -> list[Floats]:
    """Return the luma coefficients (N, h, w, 1) of each of the search bands."""
    groups = [_bands(layer, tiles[group]) for group in _groups(len(tiles))]
    return [np.concatenate([bands[place][..., :1] for bands in groups]) for place in SEARCH_BANDS]


def _curve_fits(layer: Responses) -> list[CurveFit]:
    return [CurveFit(curves.count, curves.knots, curves.spacing) for curves in layer.transform.curves]


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
