"""Figures over photographs with their intervals: closeness of statistics, severity, what generated tiles teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from benchmarks.unknown.c2st import FOLDS, Standard, grouped_folds
from benchmarks.unknown.pixels import Image
from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.metrics.jsd_nss import feature_divergences, nss_histograms

RESAMPLINGS = 1000  # of photographs, Efron's percentiles
RIDGE = 0.3  # of the regressor of quality, on standardised features and a standardised target
SEED = 1

Values = NDArray[np.floating[Any]]
Scores = dict[str, Values]  # "psnr_db" and "ssim", (N,) each
Tiles = NDArray[np.uint8]  # (N, TILE_PX, TILE_PX, 3) of one photograph


@dataclass(frozen=True)
class Interval:
    """A figure over photographs with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of `values`, one a photograph, and its interval."""
    samples = np.asarray(values, float)
    picks = np.random.default_rng(SEED).integers(len(samples), size=(RESAMPLINGS, len(samples)))
    low, high = np.quantile(samples[picks].mean(axis=1), (0.025, 0.975))
    return Interval(float(samples.mean()), float(low), float(high))


def closeness(true_histograms: Sequence[NDArray[np.int64]], candidate: Sequence[Image]) -> dict[str, Interval]:
    """Return the divergence in bits of the twelve NSS features, two of them of chroma; "d1_1" is JSD_NSS."""
    rows = [
        feature_divergences(true, nss_histograms(image)) for true, image in zip(true_histograms, candidate, strict=True)
    ]
    return {name: interval([row[name] for row in rows]) for name in rows[0]}


def full_reference(pristine: Sequence[Image], distorted: Sequence[Image]) -> Scores:
    """Return PSNR (infinite for identical images) and SSIM of each of `distorted`, (N,) each."""
    pairs = list(zip(pristine, distorted, strict=True))
    return {"psnr_db": np.array([psnr(*pair) for pair in pairs]), "ssim": np.array([ssim(*pair) for pair in pairs])}


def severity(
    pristine: Sequence[Image], true_scores: Scores, candidate: Sequence[Image]
) -> dict[str, dict[str, Any] | None]:
    """Return PSNR and SSIM, candidate minus true: mean, median |Δ| of an image, standard deviations over images.

    PSNR is None for the identity baseline, where it has no bound.
    """
    figures: dict[str, dict[str, Any] | None] = {}
    for name, candidate_scores in full_reference(pristine, candidate).items():
        of_true, figures[name] = true_scores[name], None
        if np.isfinite(candidate_scores).all():
            delta = candidate_scores - of_true
            figures[name] = {
                "delta": asdict(interval(delta.tolist())),
                "median_abs_delta": float(np.median(np.abs(delta))),
                "spread": float(candidate_scores.std(ddof=1)),
                "spread_of_true": float(of_true.std(ddof=1)),
                "mean_of_true": float(of_true.mean()),
                "srcc": _srcc(candidate_scores, of_true),
            }
    return figures


def usefulness(
    pristine: Sequence[Tiles],
    true: Sequence[Tiles],
    candidate: Sequence[Tiles],
    *,
    candidate_features: Sequence[Values],
    true_features: Sequence[Values],
) -> dict[str, float | None]:
    """Return what corpora are for: TSTR and TRTR of a quality regressor, and the SRCC of scores of tiles.

    The regressor predicts a tile's SSIM from its features alone; it is taught by tiles of `candidate` (TSTR) or of
    `true` (TRTR) and tested on true tiles of other photographs. None where candidates are the pristine images.
    """
    of_true, candidate_scores = (
        [np.array([ssim(*pair) for pair in zip(*photo, strict=True)]) for photo in zip(pristine, kind, strict=True)]
        for kind in (true, candidate)
    )
    if all((scores == 1).all() for scores in candidate_scores):
        return {"tstr_srcc": None, "trtr_srcc": None, "ssim_srcc": None}
    return {
        "tstr_srcc": _tstr_srcc(candidate_features, candidate_scores, true_features, of_true),
        "trtr_srcc": _tstr_srcc(true_features, of_true, true_features, of_true),
        "ssim_srcc": _srcc(np.concatenate(candidate_scores), np.concatenate(of_true)),
    }


def _tstr_srcc(
    features: Sequence[Values], scores: Sequence[Values], true_features: Sequence[Values], of_true: Sequence[Values]
) -> float:
    """Return the SRCC on true tiles of true scores and those that ridge regressions on other photographs predict."""
    predicted: list[Values] = [np.empty(0)] * len(scores)
    for fitted, held_out in grouped_folds(len(scores), FOLDS, np.random.default_rng(SEED)):
        rows, target = (np.concatenate([kind[index] for index in fitted]) for kind in (features, scores))
        scale = Standard.of(rows)
        standard = scale(rows)
        goal = (target - target.mean()) / (target.std() + 1e-9)
        gram = standard.T @ standard + RIDGE * len(rows) * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, standard.T @ goal)
        for index in held_out:
            predicted[index] = scale(true_features[index]) @ weights
    return _srcc(np.concatenate(predicted), np.concatenate(of_true))


def _srcc(first: Values, second: Values) -> float:
    """Return Spearman's rank correlation; 0 where either is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(first, second).statistic)
