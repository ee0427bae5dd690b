"""Curves where a codec chooses one step for each image, as JPEG 2000 does to a rate.

The step is the size that a share of the image's coefficients reaches, and the share with which curves explain most is
the level's. Curves are in units of the bit plane below the step, for places in an octave, and all levels share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_priors import Curves
from distort_pipeline.networks.coefficient_curves import CoefficientCurves
from distort_pipeline.pixels import Images
from distort_pipeline.training.coefficients import Floats, Solve, bands_of, curve_fits, groups, left_in
from distort_pipeline.training.curve_fit import CurveFit, in_half_units, losing_more, vanishing
from distort_pipeline.wavelets.planes import PHASES, nearest_phases
from distort_pipeline.wavelets.significance import log_sizes

LOG_SHARES = np.arange(np.log(0.5), np.log(0.001), -0.15)  # of significant coefficients, tried for each level
NEAR_SHARES = np.arange(-0.6, 0.61, 0.05)  # about what was found: an octave of steps is near an octave of shares
SEARCH_TURNS = 3  # through all levels
SEARCH_BANDS = range(6, 15)  # details of the three coarser levels: some survive, some are cut
SEARCH_TILES = 128


def rate_scaled_curves(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images], told: Floats) -> Solve:
    """Return what gives the curves (PHASES + 1, count, knots) of each band; an image has one step.

    The layer gets the shares that those are read off `told` with, the significance (N, 18) of the tiles' images. No
    level's is larger than that of the level before.
    """
    log_shares = np.minimum.accumulate(_log_shares(layer, pristine, levels, told))
    layer.log_shares.assign(log_shares[:, None])
    fits = [curve_fits(layer) for _ in range(PHASES)]
    for distorted, log_share in zip(levels, log_shares, strict=True):
        for phase, tiles, planes in _by_phase(_steps(told, log_share)):
            for group in groups(len(tiles)):
                own, unit = tiles[group], planes[group, None, None, None]
                bands = zip(bands_of(layer, pristine[own]), left_in(layer, distorted[own]), strict=True)
                for fit, (before, after) in zip(fits[phase], bands, strict=True):
                    fit.add(before / unit, (after - before) / unit)
    *details, smooth = zip(*fits, strict=True)
    spacings = [band.spacing for band in layer.codec_prior.curves]

    def solve(shrinkage_gain: float) -> list[Floats]:
        curves = [np.stack([fit.bold(shrinkage_gain, sum(own[1:], own[0])) for fit in own]) for own in details]
        curves.append(np.stack([fit.solve() for fit in smooth]))  # of the smooth rest hardly anything is lost
        whole = [vanishing(band, spacing) for band, spacing in zip(curves, spacings, strict=True)]
        return [losing_more(np.concatenate([band, in_half_units(band[:1])])) for band in whole]

    return solve


def _by_phase(steps: Floats) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Yield each place in an octave, the tiles (n,) whose `steps` (N,) are next to it, and their planes (n,)."""
    planes, phases = nearest_phases(steps)
    for phase in range(PHASES):
        tiles = np.flatnonzero(phases == phase)
        yield phase, tiles, planes[tiles]


def _log_shares(
    layer: CoefficientCurves, pristine: Images, levels: Sequence[Images], told: Floats
) -> NDArray[np.float64]:
    """Return the logarithms of the shares of coefficients (levels,) with whose sizes as steps curves explain most.

    First of each level with one curve for all its images, which finds the octave; then of each in turn with the
    curves that all levels share, which finds the place in it.
    """
    few = np.unique(np.linspace(0, len(pristine) - 1, min(SEARCH_TILES, len(pristine))).astype(int))
    before = _search_coefficients(layer, pristine[few])
    after = [_search_coefficients(layer, distorted[few]) for distorted in levels]
    form = layer.codec_prior.curves[0]
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

    Losses are counted in steps, so that every image has its say.
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
    """Return the step (N,) in greys of tiles whose images have the significance `told` (N, 18)."""
    return np.asarray(np.exp(log_sizes(told, np.full(1, log_share, np.float32), np)), np.float32)


def _search_coefficients(layer: CoefficientCurves, tiles: Images) -> list[Floats]:
    """Return the luma coefficients (N, h, w, 1) of each of the search bands."""
    parts = [bands_of(layer, tiles[group]) for group in groups(len(tiles))]
    return [np.concatenate([bands[place][..., :1] for bands in parts]) for place in SEARCH_BANDS]
