"""The report of one batch: divergences, acceptance thresholds, noise floor and baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distort_pipeline.metrics.jsd_nss import (
    MIN_THRESHOLD_BITS,
    QUANTILE,
    between_content_baseline,
    bootstrap_threshold,
    bootstrap_threshold_unpaired,
    jsd_bits,
    jsd_nats,
    split_half_floor,
)
from distort_pipeline.metrics.severity_sweep import HIGHEST_PSNR_DB
from distort_pipeline.models.store import ValidationHistograms
from distort_pipeline.records import SampleRecord, derive_seed, make_rng

FORMAT = "distort-pipeline/report"
VERSION = 3

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TruthStats:
    """Measures of the true distortions, by name, on the tiles of the batch's samples at `indices` (m,)."""

    indices: NDArray[np.int64]
    histograms: Mapping[str, Counts]  # (m, 103)
    psnr: Mapping[str, NDArray[np.float64]]
    ssim: Mapping[str, NDArray[np.float64]]
    levels: Mapping[int, Counts] = field(default_factory=dict)  # (m, 103): of the batch's distortion, by level


@dataclass(frozen=True)
class BatchMeasures:
    """Input of a batch report; `generated` and `pristine` are (n, 103), a row a record."""

    records: Sequence[SampleRecord]
    generated: Counts
    pristine: Counts
    truth: TruthStats


def batch_report(
    measures: BatchMeasures, stored: Sequence[Sequence[ValidationHistograms]], *, external: bool, seed: int
) -> dict[str, Any]:
    """Return the report of a batch.

    `stored` holds the validation histograms of each generator of the batch, at the learned levels adjacent to the
    batch's severities. `external` is true if a generator was trained on external pairs.

    The acceptance threshold applies to the paired divergence, from the true distortion of the same tiles. Without a
    true distortion (external pairs) the threshold applies to the unpaired divergence, from the model's stored true
    histogram; the unpaired divergence also contains differences in content. A threshold is the 99 % quantile over
    bootstrapped batches of validation tiles with the same number of pixels: the maximum over the adjacent levels,
    and the sum over the generators of a composite.
    """
    records, truth = measures.records, measures.truth
    name = records[0].distortion  # the model's name; the learned distortion may have another name
    true_histograms = truth.histograms.get(name)
    tile_pixels = float(np.mean([record.height * record.width for record in records]))
    thresholds = _Thresholds(stored, tile_pixels, seed)
    paired = None
    if true_histograms is not None:
        pooled = measures.generated[truth.indices].sum(0)
        images = len({records[index].image for index in truth.indices})
        paired = {
            "jsd_bits": jsd_bits(true_histograms.sum(0), pooled),
            "jsd_nats": jsd_nats(true_histograms.sum(0), pooled),
            "samples": len(truth.indices),
            "images": images,
            "threshold_bits": thresholds.paired(len(truth.indices), images),
        }
    unpaired = None
    if len(stored) == 1:  # no histograms are stored of composites
        pool, generated = thresholds.pool, measures.generated.sum(0)
        unpaired = {
            "jsd_bits": jsd_bits(pool, generated),
            "jsd_nats": jsd_nats(pool, generated),
            "identity_bits": jsd_bits(pool, measures.pristine.sum(0)),
            "threshold_bits": thresholds.unpaired(len(records), len({record.image for record in records})),
        }
    comparison = paired or unpaired
    if comparison is None:
        raise ValueError("a batch of a composite needs the true distortion of some of its tiles")
    accepted = comparison["jsd_bits"] <= comparison["threshold_bits"]
    digests = [record.pixel_digest for record in records]
    return {
        "format": FORMAT,
        "version": VERSION,
        "distortion": name,
        "batch": records[0].batch,
        "samples": len(records),
        "tiles": len({record.tile for record in records}),
        "images": len({record.image for record in records}),
        "tile_px": _common_side(records),
        "level": records[0].level,
        "severity": _ends([record.severity for record in records]),
        "parameters": _parameters(records),
        "external": external,
        "model": records[0].model,
        "precision": records[0].precision,
        "paired": paired,
        "unpaired": unpaired,
        "comparison": "paired" if paired else "unpaired",
        "quantile": QUANTILE,
        "accepted": accepted,
        "reasons": [] if accepted else [_reason(comparison)],
        "noise_floors": _noise_floor(records, truth, true_histograms, stored[0][-1], seed),
        "against": _against(measures),
        "against_levels": _against_levels(measures),
        "psnr": _spread([record.psnr for record in records], truth.indices, truth.psnr.get(name)),
        "ssim": _spread([record.ssim for record in records], truth.indices, truth.ssim.get(name)),
        "clipped_fraction": float(np.mean([record.clipped for record in records])),
        "duplicates": len(digests) - len(set(digests)),
        "histograms": _histograms(measures, true_histograms, thresholds.pool),
    }


def _reason(comparison: Mapping[str, Any]) -> str:
    return (
        f"JSD_NSS {comparison['jsd_bits']:.4f} bits exceeds the acceptance threshold of "
        f"{comparison['threshold_bits']:.4f}"
    )


class _Thresholds:
    """Acceptance thresholds of batches with tiles of any size, bootstrapped from validation tiles of equal area."""

    def __init__(self, stored: Sequence[Sequence[ValidationHistograms]], tile_pixels: float, seed: int) -> None:
        self._stored, self._tile_pixels, self._seed = stored, tile_pixels, seed
        self.pool: Counts = np.sum([level.true.sum(0) for levels in stored for level in levels], axis=0)

    def paired(self, samples: int, images: int) -> float:
        return sum(max(self._paired(level, samples, images) for level in levels) for levels in self._stored)

    def unpaired(self, samples: int, images: int) -> float:
        return sum(max(self._unpaired(level, samples, images) for level in levels) for levels in self._stored)

    def _paired(self, level: ValidationHistograms, samples: int, images: int) -> float:
        size, rng = self._bootstrap_settings(level, samples)
        threshold = bootstrap_threshold(level.generated, level.true, level.images, size, images, rng=rng)
        return max(threshold, MIN_THRESHOLD_BITS)

    def _unpaired(self, level: ValidationHistograms, samples: int, images: int) -> float:
        size, rng = self._bootstrap_settings(level, samples)
        threshold = bootstrap_threshold_unpaired(
            level.generated, level.true.sum(0), level.images, size, images, rng=rng
        )
        return max(threshold, MIN_THRESHOLD_BITS)

    def _bootstrap_settings(self, level: ValidationHistograms, samples: int) -> tuple[int, np.random.Generator]:
        size = max(1, round(samples * self._tile_pixels / level.tile_px**2))
        return size, make_rng(derive_seed(self._seed, "bound", size))


def _ends(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def _parameters(records: Sequence[SampleRecord]) -> dict[str, Any]:
    """Return the parameters common to all samples, or minimum and maximum of each parameter."""
    distinct = [json.loads(text) for text in dict.fromkeys(record.parameters for record in records)]
    if len(distinct) == 1:
        return dict(distinct[0])
    return {name: list(_ends([values[name] for values in distinct]).values()) for name in distinct[0]}


def _noise_floor(
    records: Sequence[SampleRecord],
    truth: TruthStats,
    true_histograms: Counts | None,
    stored: ValidationHistograms,
    seed: int,
) -> dict[str, float | None]:
    """Return the split-half noise floor and the between-content baseline, in bits.

    Both come from the true distortion of the batch's tiles, or else of the stored validation tiles.
    """
    rng = make_rng(derive_seed(seed, "noise_floors"))
    if true_histograms is None:
        true, names = stored.true, stored.images.tolist()
    else:
        true, names = true_histograms, [records[index].image for index in truth.indices]
    by_image = np.stack([true[[n == name for n in names]].sum(0) for name in dict.fromkeys(names)])
    content = between_content_baseline(by_image, rng.permutation(len(by_image))) if len(by_image) > 1 else None
    return {"split_half_bits": split_half_floor(true.sum(0), rng), "between_content_bits": content}


def _against(measures: BatchMeasures) -> dict[str, float]:
    """Return the divergence of the generated samples from pristine and from each true distortion of the same tiles."""
    truth = measures.truth
    if not truth.histograms:
        return {"pristine": jsd_bits(measures.pristine.sum(0), measures.generated.sum(0))}
    generated = measures.generated[truth.indices].sum(0)
    others = {name: jsd_bits(counts.sum(0), generated) for name, counts in sorted(truth.histograms.items())}
    return {"pristine": jsd_bits(measures.pristine[truth.indices].sum(0), generated), **others}


def _against_levels(measures: BatchMeasures) -> dict[str, float]:
    """Return the divergence of the generated samples from each level of their true distortion, by level number."""
    if not measures.truth.levels:
        return {}
    generated = measures.generated[measures.truth.indices].sum(0)
    return {str(level): jsd_bits(counts.sum(0), generated) for level, counts in sorted(measures.truth.levels.items())}


def _histograms(measures: BatchMeasures, true_histograms: Counts | None, pool: Counts) -> dict[str, list[int]]:
    """Return the histograms pooled over tiles with a true distortion, or over all tiles if none has one."""
    indices: Any = slice(None) if true_histograms is None else measures.truth.indices
    return {
        "pristine": measures.pristine[indices].sum(0).tolist(),
        "true": (pool if true_histograms is None else true_histograms.sum(0)).tolist(),
        "generated": measures.generated[indices].sum(0).tolist(),
    }


def _spread(
    values: Sequence[float | None], indices: NDArray[np.int64], true: NDArray[np.float64] | None
) -> dict[str, float | None] | None:
    """Return mean, standard deviation and range of a metric, or None if no sample has a value.

    `true_mean` is the mean over the true distortions, `paired_mean` the mean over the generated samples of the same
    tiles (at `indices`), so that severity and content agree.
    """
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    means: dict[str, float | None] = {"paired_mean": None, "true_mean": None}
    if true is not None:
        generated = np.array([values[index] for index in indices], np.float64)  # None becomes NaN
        finite = ~(np.isnan(true) | np.isnan(generated))
        if finite.any():
            means = {"paired_mean": float(generated[finite].mean()), "true_mean": float(true[finite].mean())}
    return {
        "mean": float(known.mean()),
        "std": float(known.std()),
        "min": float(known.min()),
        "max": float(known.max()),
        **means,
    }


def _common_side(records: Sequence[SampleRecord]) -> int | None:
    sides = {(record.height, record.width) for record in records}
    height, width = next(iter(sides))
    return height if len(sides) == 1 and height == width else None


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
