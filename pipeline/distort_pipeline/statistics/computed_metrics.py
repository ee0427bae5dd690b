"""Full-reference metrics of a sample, computed at generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from distort_pipeline.metric_names import COMPUTED
from distort_pipeline.pixels import Image
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.gmsd import gmsd
from distort_pipeline.statistics.ssim import ms_ssim, ssim, ssim_and_ms_ssim

MEASURES: Mapping[str, Callable[[Image, Image], float | None]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "gmsd": gmsd,
}
TOGETHER = ("ssim", "ms_ssim")  # share most of their work


def measured_labels(pristine: Image, distorted: Image, metrics: Collection[str]) -> dict[str, float | None]:
    """Return every computed metric by name; None where `metrics` lacks the name or the value is not finite."""
    values: dict[str, float | None] = dict.fromkeys(COMPUTED)
    alone = set(metrics)
    if alone.issuperset(TOGETHER):
        alone.difference_update(TOGETHER)
        values.update(zip(TOGETHER, ssim_and_ms_ssim(pristine, distorted), strict=True))
    for name in alone:
        values[name] = MEASURES[name](pristine, distorted)
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON knows no infinity
