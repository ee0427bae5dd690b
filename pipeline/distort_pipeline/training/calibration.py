"""The quality of a multi-level generator at each severity: measured once on validation tiles, kept in its card."""

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

STEPS = 20  # of severity from 0 to 1: four between two levels of five


def calibrate(
    predictor: Predictor, pristine: Images, seeds: Sequence[int], significances: Significances | None = None
) -> dict[str, list[float]]:
    """Return the calibration of a multi-level generator, as read by `statistics/calibration.py`.

    `pristine` are validation tiles (N, H, W, 3), each distorted with its own of N `seeds`, the same at every severity;
    `significances` (N, 18) are the statistics of their whole images. PSNR counts up to 60 dB a tile. Means improving
    with severity are pooled with their neighbours.
    """
    severities = [step / STEPS for step in range(STEPS + 1)]
    means = [_means(predictor, pristine, seeds, severity, significances) for severity in severities]
    curves = {measure: monotone(measure, [row[measure] for row in means]) for measure in CALIBRATED}
    return {SEVERITY: severities, **curves}


def _means(
    predictor: Predictor,
    pristine: Images,
    seeds: Sequence[int],
    severity: float,
    significances: Significances | None,
) -> dict[str, float]:
    """Return the means of each measure over the tiles at this severity."""
    generated = predictor.distort(pristine, seeds, [severity] * len(pristine), significances)
    rows = [_measured(clean, bad) for clean, bad in zip(pristine, generated, strict=True)]
    return {measure: fmean(row[measure] for row in rows) for measure in CALIBRATED}


def _measured(pristine: Image, distorted: Image) -> dict[str, float]:
    return {
        "psnr": min(psnr(pristine, distorted), HIGHEST_PSNR_DB),
        "ssim": ssim(pristine, distorted),
        "gmsd": gmsd(pristine, distorted),
    }
