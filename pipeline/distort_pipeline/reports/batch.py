"""The scores of the tiles of one batch, and its report: divergences, acceptance thresholds, noise floor, baselines."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from distort_pipeline.data.corpus_metadata import (
    REPORT_FORMAT,
    VERSION,
    Agreement,
    BatchReport,
    Divergence,
    MetricSpread,
    NoiseFloors,
    PooledHistograms,
    Range,
    TargetAgreement,
)
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import marked_png
from distort_pipeline.metrics.acceptance import (
    DISTRIBUTION,
    FALSE_ALARMS,
    TileStatistics,
    content_statistics,
    judge,
    judge_by_content,
    tile_statistics,
)
from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB, measured_labels
from distort_pipeline.metrics.jsd_nss import (
    between_content_baseline,
    jsd_bits,
    jsd_nats,
    nss_histograms,
    product_histogram,
)
from distort_pipeline.models.store import ValidationHistograms
from distort_pipeline.records import Image, Json, Judgement, SampleRecord, derive_seed, make_rng
from distort_pipeline.reports.pages import amplified_residual, side_by_side

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TruthStats:
    """Measures of the true distortions, by name, on the tiles of the batch's samples at `indices` (m,)."""

    indices: NDArray[np.int64]
    histograms: Mapping[str, Counts]  # (m, 103)
    levels: Mapping[int, Counts] = field(default_factory=dict)  # (m, 103): of the batch's distortion, by level
    true: TileStatistics | None = None  # of m tiles of the batch's distortion; None without a true distortion
    redrawn: TileStatistics | None = None  # of a second draw; None if deterministic


LIMITS = (0, 255)


@dataclass(frozen=True)
class TileScore:
    """The measures of one distorted tile."""

    clipped: float  # fraction of values at 0 or 255 that are not so in the pristine tile
    labels: Mapping[str, float | None]  # full-reference metrics
    histogram: Counts  # (103,)
    statistics: TileStatistics | None  # of the samples to judge
    content: NDArray[np.float64] | None  # of their pristine tiles, where these have no truth


def score_tile(
    pristine: Image, distorted: Image, metrics: Collection[str], *, judged: bool = False, external: bool = False
) -> TileScore:
    """Return the measures of a distorted tile; those for a judgement only if it is `judged`."""
    newly_clipped = sum(np.count_nonzero((distorted == at) & (pristine != at)) for at in LIMITS)
    labels = measured_labels(pristine, distorted, metrics)
    statistics = None
    if judged:
        values = tile_statistics(pristine, distorted, ssim_value=labels["ssim"])
        statistics = TileStatistics(values[None], nss_histograms(distorted)[None])
    return TileScore(
        clipped=newly_clipped / distorted.size,
        labels=labels,
        histogram=statistics.jsd_nss[0] if statistics else product_histogram(distorted),
        statistics=statistics,
        content=content_statistics(pristine) if judged and external else None,
    )


@dataclass(frozen=True)
class BatchMeasures:
    """Input of a batch report; `generated` and `pristine` are (n, 103), a row a record."""

    records: Sequence[SampleRecord]
    generated: Counts
    pristine: Counts
    judged: Sequence[int]  # rows with `statistics`: those with a true distortion, if any
    statistics: TileStatistics  # of the generated tiles at `judged`
    content: Sequence[NDArray[np.float64]]  # of their pristine tiles, for a model of external pairs
    truth: TruthStats

    @classmethod
    def of(
        cls,
        records: Sequence[SampleRecord],
        scores: Sequence[TileScore],
        *,
        judged: Sequence[int],
        pristine: Counts,
        truth: TruthStats,
    ) -> BatchMeasures:
        """Return the measures of the samples with these scores."""
        return cls(
            records,
            np.stack([score.histogram for score in scores]),
            pristine,
            judged,
            TileStatistics.stacked([score.statistics for score in scores if score.statistics]),
            [score.content for score in scores if score.content is not None],
            truth,
        )


def batch_report(
    measures: BatchMeasures,
    validation: ValidationHistograms | None,
    *,
    external: bool,
    seed: int,
    target: TargetAgreement | None = None,
) -> BatchReport:
    """Return the report of a batch.

    The batch is judged against the true distortion of the same tiles. Without one (external pairs) it is judged
    against `validation`, the true validation tiles of the model at the batch's severity, given the content of the
    tiles: weaker, as the divergences contain differences in content. Without either it is not judged.
    """
    records, truth = measures.records, measures.truth
    first = records[0]
    name = first.distortion  # the model's name; the learned distortion may have another name
    true_histograms = truth.histograms.get(name)
    pool = _pool(validation, true_histograms)
    comparison, statistics = _judged(measures, validation, seed)
    failing = sorted((each for each in statistics if not each.accepted), key=lambda each: -each.excess)
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
        comparison=comparison,
        divergence=_divergence(measures, pool, statistics),
        false_alarms=FALSE_ALARMS,
        statistics=statistics,
        accepted=not failing if statistics else None,
        reasons=tuple(map(str, failing)),
        noise_floors=_noise_floors(measures, validation, seed=seed),
        against=_against(measures),
        against_levels=_against_levels(measures),
        psnr=_spread([record.psnr for record in records], measures, 0),
        ssim=_spread([record.ssim for record in records], measures, 1),
        clipped_fraction=float(np.mean([record.clipped for record in records])),
        duplicates=len(digests) - len(set(digests)),
        histograms=_histograms(measures, pool),
        target=target,
    )


def _judged(
    measures: BatchMeasures, validation: ValidationHistograms | None, seed: int
) -> tuple[str, tuple[Judgement, ...]]:
    """Return the kind of the comparison and its judgements."""
    truth, rng = measures.truth, make_rng(derive_seed(seed, "acceptance"))
    photographs = [measures.records[row].image for row in measures.judged]
    if truth.true is not None:
        draws = None if truth.redrawn is None else (truth.true, truth.redrawn)
        return "paired", judge(measures.statistics, truth.true, photographs, draws, rng=rng)
    known = validation.statistics if validation else None
    if known is None or len(np.unique(known.photographs)) < 2:
        return "none", ()
    return "unpaired", judge_by_content(measures.statistics, np.stack(measures.content), photographs, known, rng=rng)


def _compared(measures: BatchMeasures) -> Any:
    """Return the rows compared with the truth: those with a true distortion, else all."""
    return slice(None) if measures.truth.true is None else measures.truth.indices


def _pool(validation: ValidationHistograms | None, true: Counts | None) -> Counts:
    """Return the pooled histogram (103,) of the true distortion of the batch's tiles, else of the validation tiles."""
    if true is not None:
        return np.asarray(true.sum(0))
    return np.zeros(103, np.int64) if validation is None else np.asarray(validation.true.sum(0))


def _divergence(measures: BatchMeasures, pool: Counts, statistics: Sequence[Judgement]) -> Divergence | None:
    if not pool.any():
        return None
    rows = _compared(measures)
    generated, records = measures.generated[rows].sum(0), np.asarray(measures.records, object)[rows]
    return Divergence(
        jsd_bits(pool, generated),
        jsd_nats(pool, generated),
        next((each.threshold for each in statistics if each.statistic == DISTRIBUTION[0].name), None),
        len(records),
        len({record.image for record in records}),
        jsd_bits(pool, measures.pristine[rows].sum(0)),
    )


def _parameters(records: Sequence[SampleRecord]) -> dict[str, Json]:
    """Return the parameters common to all samples, or minimum and maximum of each parameter."""
    distinct = [json.loads(text) for text in dict.fromkeys(record.parameters for record in records)]
    if len(distinct) == 1:
        return dict(distinct[0])
    values_of = {name: [values[name] for values in distinct if name in values] for name in distinct[0]}
    return {name: [min(values), max(values)] for name, values in values_of.items()}


def _noise_floors(measures: BatchMeasures, validation: ValidationHistograms | None, *, seed: int) -> NoiseFloors:
    """Return the noise floor and the between-content baseline, in bits.

    Both come from the true distortion of the batch's tiles; the baseline, without one, from the validation tiles.
    """
    true, redrawn = measures.truth.true, measures.truth.redrawn
    if true is not None:
        histograms, names = true.jsd_nss, [measures.records[index].image for index in measures.truth.indices]
    elif validation is not None:
        histograms, names = validation.true, validation.images.tolist()
    else:
        return NoiseFloors(None, None)
    by_image = np.stack([histograms[[n == name for n in names]].sum(0) for name in dict.fromkeys(names)])
    ordering = make_rng(derive_seed(seed, "noise_floors")).permutation(len(by_image))
    content = between_content_baseline(by_image, ordering) if len(by_image) > 1 else None
    floor = None if redrawn is None else jsd_bits(histograms.sum(0), redrawn.jsd_nss.sum(0))
    return NoiseFloors(floor, content)


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


def _histograms(measures: BatchMeasures, pool: Counts) -> PooledHistograms:
    """Return the histograms pooled over tiles with a true distortion, or over all tiles if none has one."""
    rows = _compared(measures)
    pooled = (measures.pristine[rows].sum(0), pool, measures.generated[rows].sum(0))
    return PooledHistograms(*(tuple(counts.tolist()) for counts in pooled))


def _spread(values: Sequence[float | None], measures: BatchMeasures, column: int) -> MetricSpread | None:
    """Return the spread of a metric, a `column` of the tiles' statistics, over samples; None without a value."""
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    paired_mean = true_mean = None
    if (true := measures.truth.true) is not None:
        paired_mean, true_mean = (float(tiles.values[:, column].mean()) for tiles in (measures.statistics, true))
    return MetricSpread(
        float(known.mean()), float(known.std()), float(known.min()), float(known.max()), paired_mean, true_mean
    )


def _common_side(records: Sequence[SampleRecord]) -> int | None:
    sides = {(record.height, record.width) for record in records}
    height, width = next(iter(sides))
    return height if len(sides) == 1 and height == width else None


def target_agreement(
    records: Sequence[SampleRecord], measure: str, resampled: Sequence[bool], *, highest_severity: float
) -> TargetAgreement | None:
    """Return the agreement of requested and reached quality in `measure`; None if a severity was requested."""
    if records[0].target is None:
        return None
    requested = np.array([record.target for record in records], np.float64)
    values = [getattr(record, measure) for record in records]
    reached = np.array([HIGHEST_PSNR_DB if value is None else value for value in values])  # None: identical images
    if measure == "psnr":
        reached = np.minimum(reached, HIGHEST_PSNR_DB)
    unclipped = np.array([record.severity not in (0.0, highest_severity) for record in records])
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


def write_batch_report(
    work: Path, name: str, report: BatchReport, examples: Sequence[tuple[Image, Image, Image | None]]
) -> list[Path]:
    """Write the report of the batch `name`, and a side-by-side of `examples` (pristine, generated, true)."""
    path, drawing = (work / "reports" / f"{name}.{suffix}" for suffix in ("json", "png"))
    report.save(path)
    write_bytes(drawing, marked_png(_compare(examples)))
    return [path, drawing]


def _compare(examples: Sequence[tuple[Image, Image, Image | None]]) -> Image:
    """Return pristine, generated and true images of the examples, if all are known, and residuals side by side."""
    if any(true is None for _, _, true in examples):
        columns = ["pristine", "generated", "generated residual x4"]
        return side_by_side(
            [[clean, generated, amplified_residual(clean, generated)] for clean, generated, _ in examples], columns
        )
    rows = [
        [clean, generated, true, amplified_residual(clean, generated), amplified_residual(clean, true)]
        for clean, generated, true in examples
        if true is not None
    ]
    return side_by_side(rows, ["pristine", "generated", "true", "generated residual x4", "true residual x4"])
