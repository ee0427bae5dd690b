"""Curves for a codec with a quantisation step per image, as JPEG 2000 with rate control.

The step is the magnitude reached by a share of the image's coefficients; each level has the share with the best
explained loss. Curves are in units of the bit plane below the step, a set for each phase of an octave, shared by all
levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_priors import Curves
from distort_pipeline.networks.coefficient_curves import CoefficientCurves
from distort_pipeline.pixels import Images
from distort_pipeline.training.coefficients import Floats, Solve, bands_of, curve_fits, distorted_bands_of, groups
from distort_pipeline.training.curve_fit import CurveFit, in_half_units, monotone_near_zero, monotone_over_levels
from distort_pipeline.wavelets.planes import PHASES, nearest_phases
from distort_pipeline.wavelets.significance import log_sizes

LOG_SHARES = np.arange(np.log(0.5), np.log(0.001), -0.15)  # of significant coefficients, tried for each level
NEAR_SHARES = np.arange(-0.6, 0.61, 0.05)  # around the best: an octave of steps is near an octave of shares
SEARCH_TURNS = 3  # through all levels
SEARCH_BANDS = range(6, 15)  # details of the three coarser levels: some survive, some are cut
SEARCH_TILES = 128


def rate_scaled_curves(
    layer: CoefficientCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats
) -> Solve:
    """Return a function from shrinkage gain to the curves (PHASES + 1, count, knots) of each band.

    The layer gets the share of each level, for reading an image's step off `image_significance`, the significance (N,
    18) of the tiles' images. Shares do not rise from level to level.
    """
    log_shares = np.minimum.accumulate(_log_shares(layer, pristine, levels, image_significance))
    layer.log_shares.assign(log_shares[:, None])
    fits = [curve_fits(layer) for _ in range(PHASES)]
    for distorted, log_share in zip(levels, log_shares, strict=True):
        for phase, tiles, planes in _by_phase(_steps(image_significance, log_share)):
            for group in groups(len(tiles)):
                rows, unit = tiles[group], planes[group, None, None, None]
                bands = zip(bands_of(layer, pristine[rows]), distorted_bands_of(layer, distorted[rows]), strict=True)
                for fit, (before, after) in zip(fits[phase], bands, strict=True):
                    fit.add(before / unit, (after - before) / unit)
    *details, smooth = zip(*fits, strict=True)
    spacings = [band.spacing for band in layer.codec_prior.curves]

    def solve(shrinkage_gain: float) -> list[Floats]:
        curves = [
            np.stack([fit.with_gain(shrinkage_gain, sum(band_fits[1:], band_fits[0])) for fit in band_fits])
            for band_fits in details
        ]
        curves.append(np.stack([fit.solve() for fit in smooth]))  # the smooth band loses hardly anything
        curves = [monotone_near_zero(band, spacing) for band, spacing in zip(curves, spacings, strict=True)]
        return [monotone_over_levels(np.concatenate([band, in_half_units(band[:1])])) for band in curves]

    return solve


def _by_phase(steps: Floats) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Yield each phase of an octave, the tiles (n,) whose `steps` (N,) are nearest, and their bit planes (n,)."""
    planes, phases = nearest_phases(steps)
    for phase in range(PHASES):
        tiles = np.flatnonzero(phases == phase)
        yield phase, tiles, planes[tiles]


def _log_shares(
    layer: CoefficientCurves, pristine: Images, levels: Sequence[Images], image_significance: Floats
) -> NDArray[np.float64]:
    """Return the logarithm of the share of coefficients of each level (levels,) with the best explained loss.

    First a search per level with a single curve for all its images finds the octave; then a search in turn over levels,
    with curves shared by all levels, finds the phase.
    """
    rows = np.unique(np.linspace(0, len(pristine) - 1, min(SEARCH_TILES, len(pristine))).astype(int))
    before = _search_coefficients(layer, pristine[rows])
    after = [_search_coefficients(layer, distorted[rows]) for distorted in levels]
    form = layer.codec_prior.curves[0]
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


def _search_coefficients(layer: CoefficientCurves, tiles: Images) -> list[Floats]:
    """Return the luma coefficients (N, h, w, 1) of each of the search bands."""
    parts = [bands_of(layer, tiles[group]) for group in groups(len(tiles))]
    return [np.concatenate([bands[index][..., :1] for bands in parts]) for index in SEARCH_BANDS]
