"""What a batch was asked for in a quality measure, beside what it reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import SampleRecord
from distort_pipeline.statistics.calibration import HIGHEST_PSNR_DB
from distort_pipeline.statistics.ranks import spearman


def target_report(records: Sequence[SampleRecord], measure: str, moved: int) -> dict[str, Any]:
    """Return how near the samples came to their targets in `measure`, a label that all of them have.

    `spearman` is the rank correlation of asked and reached, None where one value was asked of all. `at_limit` is the
    share of samples at an end of the dial: their targets lie beyond it, or just there. `within` is the same as both of
    the others, of the samples that are not. `moved` is the share whose targets no tile could have and were drawn anew.
    """
    requested = np.array([record.target for record in records], np.float64)
    values = [getattr(record, measure) for record in records]
    reached = np.array([HIGHEST_PSNR_DB if value is None else value for value in values])  # none: identical images
    if measure == "psnr":
        reached = np.minimum(reached, HIGHEST_PSNR_DB)
    inside = np.array([record.severity not in (0.0, 1.0) for record in records])
    return {
        "measure": measure,
        "least": float(requested.min()),
        "most": float(requested.max()),
        "reached_mean": float(reached.mean()),
        **_agreement(requested, reached),
        "at_limit": float(1 - inside.mean()),
        "moved": moved / len(records),
        "within": _agreement(requested[inside], reached[inside]) if inside.any() else None,
    }


def _agreement(requested: NDArray[np.float64], reached: NDArray[np.float64]) -> dict[str, float | None]:
    return {
        "mean_abs_error": float(np.abs(requested - reached).mean()),
        "spearman": spearman(requested.tolist(), reached.tolist()) if np.ptp(requested) > 0 else None,
    }
