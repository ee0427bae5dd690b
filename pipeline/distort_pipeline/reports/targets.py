"""Requested against reached quality of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distort_pipeline.records import SampleRecord
from distort_pipeline.statistics.calibration import HIGHEST_PSNR_DB


def target_report(records: Sequence[SampleRecord], measure: str, resampled: int) -> dict[str, Any]:
    """Return the agreement of requested and reached quality in `measure`, a metric of all samples.

    `spearman` is the rank correlation (SRCC) of requested and reached, None for a single requested value.
    `severity_clipped` is the share of samples clipped at severity 0 or 1; `unclipped` has the agreement of the other
    samples. `resampled` is the share of targets drawn again because the tile could not reach the first.
    """
    requested = np.array([record.target for record in records], np.float64)
    values = [getattr(record, measure) for record in records]
    reached = np.array([HIGHEST_PSNR_DB if value is None else value for value in values])  # None: identical images
    if measure == "psnr":
        reached = np.minimum(reached, HIGHEST_PSNR_DB)
    unclipped = np.array([record.severity not in (0.0, 1.0) for record in records])
    return {
        "measure": measure,
        "least": float(requested.min()),
        "most": float(requested.max()),
        "reached_mean": float(reached.mean()),
        **_agreement(requested, reached),
        "severity_clipped": float(1 - unclipped.mean()),
        "resampled": resampled / len(records),
        "unclipped": _agreement(requested[unclipped], reached[unclipped]) if unclipped.any() else None,
    }


def _agreement(requested: NDArray[np.float64], reached: NDArray[np.float64]) -> dict[str, float | None]:
    varied = np.ptp(requested) > 0 and np.ptp(reached) > 0
    return {
        "mean_abs_error": float(np.abs(requested - reached).mean()),
        "spearman": round(float(spearmanr(requested, reached).statistic), 6) if varied else None,
    }
