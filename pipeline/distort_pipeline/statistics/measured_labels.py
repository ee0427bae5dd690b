"""The labels that a sample gets when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from distort_pipeline.labels import COMPUTED
from distort_pipeline.ranges import Picture
from distort_pipeline.statistics.full_reference import psnr, ssim
from distort_pipeline.statistics.gmsd import gmsd
from distort_pipeline.statistics.ms_ssim import ms_ssim

MEASURES: Mapping[str, Callable[[Picture, Picture], float | None]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "gmsd": gmsd,
}


def measured_labels(pristine: Picture, distorted: Picture, wanted: Collection[str]) -> dict[str, float | None]:
    """Return every label by name; None for one that is not `wanted`, or has no finite value for these pictures."""
    return {name: _finite(MEASURES[name](pristine, distorted)) if name in wanted else None for name in COMPUTED}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON knows no infinity
