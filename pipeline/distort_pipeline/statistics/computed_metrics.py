"""The labels that a sample gets when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from distort_pipeline.labels import COMPUTED
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


def measured_labels(pristine: Image, distorted: Image, wanted: Collection[str]) -> dict[str, float | None]:
    """Return every label by name; None for one that is not `wanted`, or has no finite value for these images."""
    found: dict[str, float | None] = dict.fromkeys(COMPUTED)
    alone = set(wanted)
    if alone.issuperset(TOGETHER):
        alone.difference_update(TOGETHER)
        found.update(zip(TOGETHER, ssim_and_ms_ssim(pristine, distorted), strict=True))
    for name in alone:
        found[name] = MEASURES[name](pristine, distorted)
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON knows no infinity
