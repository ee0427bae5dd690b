"""The report of one batch: divergences, acceptance thresholds, noise floor and baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from distort_pipeline.data.corpus_metadata import (
    REPORT_FORMAT,
    VERSION,
    Agreement,
    BatchReport,
    MetricSpread,
    NoiseFloors,
    PairedDivergence,
    PooledHistograms,
    Range,
    TargetAgreement,
    UnpairedDivergence,
)
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
    measures: BatchMeasures,
    stored: Sequence[Sequence[ValidationHistograms]],
    *,
    external: bool,
    seed: int,
    target: TargetAgreement | None = None,
) -> BatchReport:
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
    first = records[0]
    name = first.distortion  # the model's name; the learned distortion may have another name
    true_histograms = truth.histograms.get(name)
    tile_pixels = float(np.mean([record.height * record.width for record in records]))
    thresholds = _Thresholds(stored, tile_pixels, seed)
    paired = None if true_histograms is None else _paired(measures, true_histograms, thresholds)
    unpaired = _unpaired(measures, thresholds) if len(stored) == 1 else None  # no histograms are stored of composites
    decisive = paired or unpaired
    if decisive is None:
        raise ValueError("a batch of a composite needs the true distortion of some of its tiles")
    accepted = decisive.jsd_bits <= decisive.threshold_bits
    reason = f"JSD_NSS {decisive.jsd_bits:.4f} bits exceeds the acceptance threshold of {decisive.threshold_bits:.4f}"
    digests = [record.pixel_digest for record in records]
    severities = [record.severity for record in records]
    return BatchReport(
        format=REPORT_FORMAT,
        version=VERSION,
        distortion=name,
        batch=first.batch,
        samples=len(records),
        tiles=len({record.tile for record in records}),
        images=len({record.image for record in records}),
        tile_px=_common_side(records),
        level=first.level,
        severity=Range(min(severities), max(severities)),
        parameters=_parameters(records),
        external=external,
        model=first.model,
        precision=first.precision,
        paired=paired,
        unpaired=unpaired,
        comparison="paired" if paired else "unpaired",
        quantile=QUANTILE,
        accepted=accepted,
        reasons=() if accepted else (reason,),
        noise_floors=_noise_floors(measures, true_histograms, stored[0][-1], seed=seed),
        against=_against(measures),
        against_levels=_against_levels(measures),
        psnr=_spread([record.psnr for record in records], truth.indices, truth.psnr.get(name)),
        ssim=_spread([record.ssim for record in records], truth.indices, truth.ssim.get(name)),
        clipped_fraction=float(np.mean([record.clipped for record in records])),
        duplicates=len(digests) - len(set(digests)),
        histograms=_histograms(measures, true_histograms, thresholds.pool),
        target=target,
    )


def _paired(measures: BatchMeasures, true_histograms: Counts, thresholds: _Thresholds) -> PairedDivergence:
    indices = measures.truth.indices
    true, generated = true_histograms.sum(0), measures.generated[indices].sum(0)
    samples, images = len(indices), len({measures.records[index].image for index in indices})
    threshold = thresholds.bits(samples, images, paired=True)
    return PairedDivergence(jsd_bits(true, generated), jsd_nats(true, generated), samples, images, threshold)


def _unpaired(measures: BatchMeasures, thresholds: _Thresholds) -> UnpairedDivergence:
    pool, generated = thresholds.pool, measures.generated.sum(0)
    images = len({record.image for record in measures.records})
    return UnpairedDivergence(
        jsd_bits(pool, generated),
        jsd_nats(pool, generated),
        identity_bits=jsd_bits(pool, measures.pristine.sum(0)),
        threshold_bits=thresholds.bits(len(measures.records), images, paired=False),
    )


class _Thresholds:
    """Acceptance thresholds of batches with tiles of any size, bootstrapped from validation tiles of equal area."""

    def __init__(self, stored: Sequence[Sequence[ValidationHistograms]], tile_pixels: float, seed: int) -> None:
        self._stored, self._tile_pixels, self._seed = stored, tile_pixels, seed
        self.pool: Counts = np.sum([level.true.sum(0) for levels in stored for level in levels], axis=0)

    def bits(self, samples: int, images: int, *, paired: bool) -> float:
        """Return the threshold of a batch: the maximum over the levels, and the sum over the generators."""
        return sum(
            max(self._of_level(level, samples, images, paired=paired) for level in levels) for levels in self._stored
        )

    def _of_level(self, level: ValidationHistograms, samples: int, images: int, *, paired: bool) -> float:
        size = max(1, round(samples * self._tile_pixels / level.tile_px**2))
        rng = make_rng(derive_seed(self._seed, "bound", size))
        if paired:
            threshold = bootstrap_threshold(level.generated, level.true, level.images, size, images, rng=rng)
        else:
            true = level.true.sum(0)
            threshold = bootstrap_threshold_unpaired(level.generated, true, level.images, size, images, rng=rng)
        return max(threshold, MIN_THRESHOLD_BITS)


def _parameters(records: Sequence[SampleRecord]) -> dict[str, Any]:
    """Return the parameters common to all samples, or minimum and maximum of each parameter."""
    distinct = [json.loads(text) for text in dict.fromkeys(record.parameters for record in records)]
    if len(distinct) == 1:
        return dict(distinct[0])
    values_of = {name: [values[name] for values in distinct] for name in distinct[0]}
    return {name: [min(values), max(values)] for name, values in values_of.items()}


def _noise_floors(
    measures: BatchMeasures, true_histograms: Counts | None, stored: ValidationHistograms, *, seed: int
) -> NoiseFloors:
    """Return the split-half noise floor and the between-content baseline, in bits.

    Both come from the true distortion of the batch's tiles, or else of the stored validation tiles.
    """
    rng = make_rng(derive_seed(seed, "noise_floors"))
    if true_histograms is None:
        true, names = stored.true, stored.images.tolist()
    else:
        true, names = true_histograms, [measures.records[index].image for index in measures.truth.indices]
    by_image = np.stack([true[[n == name for n in names]].sum(0) for name in dict.fromkeys(names)])
    content = between_content_baseline(by_image, rng.permutation(len(by_image))) if len(by_image) > 1 else None
    return NoiseFloors(split_half_floor(true.sum(0), rng), content)


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


def _histograms(measures: BatchMeasures, true_histograms: Counts | None, pool: Counts) -> PooledHistograms:
    """Return the histograms pooled over tiles with a true distortion, or over all tiles if none has one."""
    indices: Any = slice(None) if true_histograms is None else measures.truth.indices
    return PooledHistograms(
        tuple(measures.pristine[indices].sum(0).tolist()),
        tuple((pool if true_histograms is None else true_histograms.sum(0)).tolist()),
        tuple(measures.generated[indices].sum(0).tolist()),
    )


def _spread(
    values: Sequence[float | None], indices: NDArray[np.int64], true: NDArray[np.float64] | None
) -> MetricSpread | None:
    """Return the spread of a metric over samples, paired at `indices` with `true`; None if no sample has a value."""
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    paired_mean = true_mean = None
    if true is not None:
        generated = np.array([values[index] for index in indices], np.float64)  # None becomes NaN
        finite = ~(np.isnan(true) | np.isnan(generated))
        if finite.any():
            paired_mean, true_mean = float(generated[finite].mean()), float(true[finite].mean())
    return MetricSpread(
        float(known.mean()), float(known.std()), float(known.min()), float(known.max()), paired_mean, true_mean
    )


def _common_side(records: Sequence[SampleRecord]) -> int | None:
    sides = {(record.height, record.width) for record in records}
    height, width = next(iter(sides))
    return height if len(sides) == 1 and height == width else None


def target_agreement(
    records: Sequence[SampleRecord], measure: str, resampled: Sequence[bool]
) -> TargetAgreement | None:
    """Return the agreement of requested and reached quality in `measure`; None if a severity was requested."""
    if records[0].target is None:
        return None
    requested = np.array([record.target for record in records], np.float64)
    values = [getattr(record, measure) for record in records]
    reached = np.array([HIGHEST_PSNR_DB if value is None else value for value in values])  # None: identical images
    if measure == "psnr":
        reached = np.minimum(reached, HIGHEST_PSNR_DB)
    unclipped = np.array([record.severity not in (0.0, 1.0) for record in records])
    overall = _agreement(requested, reached)
    return TargetAgreement(
        measure=measure,
        least=float(requested.min()),
        most=float(requested.max()),
        reached_mean=float(reached.mean()),
        mean_abs_error=overall.mean_abs_error,
        spearman=overall.spearman,
        severity_clipped=float(1 - unclipped.mean()),
        resampled=sum(resampled) / len(records),
        unclipped=_agreement(requested[unclipped], reached[unclipped]) if unclipped.any() else None,
    )


def _agreement(requested: NDArray[np.float64], reached: NDArray[np.float64]) -> Agreement:
    varied = np.ptp(requested) > 0 and np.ptp(reached) > 0
    spearman = round(float(scipy.stats.spearmanr(requested, reached).statistic), 6) if varied else None
    return Agreement(float(np.abs(requested - reached).mean()), spearman)
