"""The calibration of a multi-level generator: quality by severity, and severity by quality.

The `calibration` of a model card has "severity" from 0 to 1, and the means of "psnr", "ssim" and "gmsd" over
validation tiles at each severity, measured by `training/calibration.py`. Values between the points are interpolated
linearly. A calibration holds on average; a single image may differ widely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metric_names import LOWER_IS_BETTER

Calibration: TypeAlias = Mapping[str, Sequence[float]]

CALIBRATED = ("psnr", "ssim", "gmsd")
SEVERITY = "severity"
HIGHEST_PSNR_DB = 60.0  # of a tile in a mean: identical tiles have an infinite PSNR


def expected(calibration: Calibration, measure: str, severity: float) -> float:
    """Return the expected mean of `measure` ("psnr" in dB, "ssim" or "gmsd") at a `severity` in [0, 1].

    >>> expected({"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}, "ssim", 0.75)
    0.7
    """
    _require(calibration, measure)
    return float(np.interp(severity, calibration[SEVERITY], calibration[measure]))


def severity_for(calibration: Calibration, measure: str, target: float) -> float:
    """Return the lowest severity in [0, 1] at which the mean of `measure` is `target`.

    Clipped to 0 or 1 for a target outside the range of the calibration, see `reach`.

    >>> calibration = {"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}
    >>> severity_for(calibration, "ssim", 0.7), severity_for(calibration, "ssim", 0.1)
    (0.75, 1.0)
    """
    _require(calibration, measure)
    severities = calibration[SEVERITY]
    worse = -1 if not LOWER_IS_BETTER[measure] else 1
    badness, target_badness = worse * np.asarray(calibration[measure], np.float64), worse * target
    above = int(np.searchsorted(badness, target_badness))
    if above in (0, len(badness)):
        return float(severities[0 if above == 0 else -1])
    low, high = badness[above - 1], badness[above]
    share = (target_badness - low) / (high - low)
    return float(severities[above - 1] + share * (severities[above] - severities[above - 1]))


def reach(calibration: Calibration, measure: str) -> tuple[float, float]:
    """Return the best and the worst mean of `measure`: at severity 0 and at severity 1.

    >>> reach({"severity": [0, 1], "gmsd": [0.001, 0.2]}, "gmsd")
    (0.001, 0.2)
    """
    _require(calibration, measure)
    return float(calibration[measure][0]), float(calibration[measure][-1])


def monotone(measure: str, means: Sequence[float]) -> list[float]:
    """Return the isotonic regression of `means` by severity: quality never improves (pool adjacent violators).

    >>> monotone("psnr", [40, 30, 32, 20]), monotone("gmsd", [0, 0.2, 0.1])
    ([40.0, 31.0, 31.0, 20.0], [0.0, 0.15, 0.15])
    """
    fitted = isotonic_regression(means, increasing=LOWER_IS_BETTER[measure])
    return [round(value, 6) for value in fitted.x.tolist()]


def _require(calibration: Calibration, measure: str) -> None:
    if measure not in CALIBRATED or measure not in calibration:
        raise PipelineError(f"the model is not calibrated in {measure!r}{did_you_mean(measure, CALIBRATED)}")
