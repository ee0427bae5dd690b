"""What quality a multi-level generator gives at each severity: measured once on validation tiles, kept in its card."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from distort_pipeline.pixels import Image, Images
from distort_pipeline.statistics.calibration import CALIBRATED, HIGHEST_PSNR_DB, SEVERITY, monotone
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.gmsd import gmsd
from distort_pipeline.statistics.ssim import ssim
from distort_pipeline.wavelets.significance import Significances

if TYPE_CHECKING:
    from distort_pipeline.networks.predictor import Predictor

STEPS = 20  # of severity from 0 to 1; five levels have four between each two


def calibrate(
    predictor: Predictor, pristine: Images, seeds: Sequence[int], significances: Significances | None = None
) -> dict[str, list[float]]:
    """Return the calibration of a multi-level generator, as `statistics/calibrated.py` reads it.

    `pristine` are validation tiles (N, H, W, 3), each distorted with its own one of N `seeds`, the same at every
    severity; `wholes` (N, 18) is the significance of the images that they are tiles of. PSNR counts up to 60 dB a
    tile. Means that would get better with severity are pooled with their neighbours.
    """
    severities = [step / STEPS for step in range(STEPS + 1)]
    means = [_means(predictor, pristine, seeds, severity, significances) for severity in severities]
    curves = {measure: monotone(measure, [one[measure] for one in means]) for measure in CALIBRATED}
    return {SEVERITY: severities, **curves}


def _means(
    predictor: Predictor,
    pristine: Images,
    seeds: Sequence[int],
    severity: float,
    significances: Significances | None,
) -> dict[str, float]:
    """Return the means over the tiles at one severity, of each measure."""
    made = predictor.distort(pristine, seeds, [severity] * len(pristine), significances)
    each = [_measured(clean, bad) for clean, bad in zip(pristine, made, strict=True)]
    return {measure: fmean(one[measure] for one in each) for measure in CALIBRATED}


def _measured(pristine: Image, distorted: Image) -> dict[str, float]:
    return {
        "psnr": min(psnr(pristine, distorted), HIGHEST_PSNR_DB),
        "ssim": ssim(pristine, distorted),
        "gmsd": gmsd(pristine, distorted),
    }
