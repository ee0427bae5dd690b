"""Severity and quality in terms of each other: a multi-level generator's calibration, read both ways.

A calibration is what a model card holds under that name: "severity" from 0 to 1, and beside it "psnr", "ssim" and
"gmsd", the means of validation tiles at that severity; `training/calibration.py` measures it. Between its points it is
straight. It says what to expect on average; a single image may lie well off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.labels import LOWER_IS_BETTER

Calibration: TypeAlias = Mapping[str, Sequence[float]]

CALIBRATED = ("psnr", "ssim", "gmsd")
SEVERITY = "severity"
HIGHEST_PSNR_DB = 60.0  # of a tile in a mean: identical ones would have infinitely many, and hide all others


def expected(calibration: Calibration, measure: str, severity: float) -> float:
    """Return the mean of `measure` ("psnr" in dB, "ssim" or "gmsd") to expect at a `severity` in [0, 1].

    >>> expected({"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}, "ssim", 0.75)
    0.7
    """
    _require(calibration, measure)
    return float(np.interp(severity, calibration[SEVERITY], calibration[measure]))


def severity_for(calibration: Calibration, measure: str, wanted: float) -> float:
    """Return the severity in [0, 1] at which the mean of `measure` is what is `wanted`, the mildest of several.

    0 where better is wanted than the dial has, 1 where worse: `reach` says what it has.

    >>> dial = {"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}
    >>> severity_for(dial, "ssim", 0.7), severity_for(dial, "ssim", 0.1)
    (0.75, 1.0)
    """
    _require(calibration, measure)
    severities = calibration[SEVERITY]
    worse = -1 if not LOWER_IS_BETTER[measure] else 1
    badness, wanted_badness = worse * np.asarray(calibration[measure], np.float64), worse * wanted
    above = int(np.searchsorted(badness, wanted_badness))
    if above in (0, len(badness)):
        return float(severities[0 if above == 0 else -1])
    low, high = badness[above - 1], badness[above]
    share = (wanted_badness - low) / (high - low)
    return float(severities[above - 1] + share * (severities[above] - severities[above - 1]))


def reach(calibration: Calibration, measure: str) -> tuple[float, float]:
    """Return the best and the worst mean of `measure` that the dial has, at severity 0 and at 1.

    >>> reach({"severity": [0, 1], "gmsd": [0.001, 0.2]}, "gmsd")
    (0.001, 0.2)
    """
    _require(calibration, measure)
    return float(calibration[measure][0]), float(calibration[measure][-1])


def monotone(measure: str, means: Sequence[float]) -> list[float]:
    """Return the nearest values to `means`, by increasing severity, that nowhere get better (pools adjacent violators).

    >>> monotone("psnr", [40, 30, 32, 20]), monotone("gmsd", [0, 0.2, 0.1])
    ([40.0, 31.0, 31.0, 20.0], [0.0, 0.15, 0.15])
    """
    fitted = isotonic_regression(means, increasing=LOWER_IS_BETTER[measure])
    return [round(value, 6) for value in fitted.x.tolist()]


def _require(calibration: Calibration, measure: str) -> None:
    if measure not in CALIBRATED or measure not in calibration:
        raise PipelineError(f"the dial is not calibrated in {measure!r}{did_you_mean(measure, CALIBRATED)}")
