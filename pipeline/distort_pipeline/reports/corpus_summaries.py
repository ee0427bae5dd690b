"""Summaries of a corpus by distortion: means over batches, and charts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distort_pipeline.reports.charts import baseline_dot_plot, histogram_chart, threshold_chart
from distort_pipeline.reports.corpus_verdict import BatchRow

KINDS = ("pristine", "true", "generated")


def summaries_of(batches: Sequence[BatchRow]) -> list[dict[str, Any]]:
    """Return the summary of each distortion, by name."""
    names = sorted({batch.distortion for batch in batches})
    return [summary(name, [batch for batch in batches if batch.distortion == name]) for name in names]


def summary(name: str, batches: Sequence[BatchRow]) -> dict[str, Any]:
    """Return the summary of one distortion: means over its batches, weighted by samples, and its charts."""
    flagged = [batch for batch in batches if batch.flagged]
    against = {
        reference: _mean(batches, "against", reference)
        for reference in dict.fromkeys(key for batch in batches for key in batch.report.get("against") or {})
    }
    distances = {reference: value for reference, value in against.items() if value is not None}
    thresholds = [batch.threshold for batch in batches]
    worst = max(batches, key=lambda batch: batch.jsd / batch.threshold if batch.threshold > 0 else 0.0)
    floor = _mean(batches, "noise_floors", "split_half_bits")
    histograms = _pooled(batches)
    thresholds_plot = threshold_chart(
        [batch.jsd for batch in batches],
        thresholds,
        title=f"JSD_NSS of each batch of {name}",
        flagged=[batch.flagged for batch in batches],
        # batch numbers of several levels repeat
        batches=[batch.number if batch.level is None else index for index, batch in enumerate(batches)],
        floor=floor,
    )
    jsd = _weighted(batches, lambda batch: batch.jsd)
    between_content = _mean(batches, "noise_floors", "between_content_bits")
    # unknown without a true distortion of the same tiles
    nearest = min(distances, key=lambda reference: distances[reference]) if name in distances else None
    identity = None if name in distances else _mean(batches, "unpaired", "identity_bits")
    return {
        "name": name,
        "batches": batches,
        "flagged": flagged,
        "samples": sum(batch.report["samples"] for batch in batches),
        "jsd": jsd,
        "thresholds": (min(thresholds), max(thresholds)),
        "worst": worst.jsd / worst.threshold if worst.threshold > 0 else None,
        "comparisons": sorted({str(batch.report["comparison"]) for batch in batches}),
        "noise_floor": floor,
        "between_content_baseline": between_content,
        "duplicates": sum(batch.report.get("duplicates") or 0 for batch in batches),
        "clipped": _mean(batches, "clipped_fraction"),
        "metrics": _metrics(batches),
        "against": distances,
        "nearest": nearest,
        "identity": identity,
        "external": any(batch.report.get("external") for batch in batches),
        "levels": _levels_of(batches),
        "targets": [target for batch in batches if (target := _target(batch))],
        "threshold_chart": Markup(thresholds_plot),
        "dot_plot": Markup(
            baseline_dot_plot(
                _baselines(name, jsd, max(thresholds), floor, between_content, identity, distances),
                marked="generated",
                title=f"JSD_NSS of {name} beside its noise floor and baselines",
            )
        ),
        "histograms": [
            Markup(histogram_chart(histograms, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log))
            for log in (False, True)
            if histograms
        ],
    }


def _levels_of(batches: Sequence[BatchRow]) -> list[dict[str, Any]]:
    """Return a row for each level of a distortion in ascending order; empty for a single level."""
    levels = sorted({batch.level for batch in batches if batch.level is not None})
    return [_level_row(level, [batch for batch in batches if batch.level == level]) for level in levels]


def _target(batch: BatchRow) -> dict[str, Any] | None:
    target = batch.report.get("target")
    return {"batch": batch.name, "samples": batch.report["samples"], **target} if target else None


def _level_row(level: int, batches: Sequence[BatchRow]) -> dict[str, Any]:
    distances = {
        other: _mean(batches, "against_levels", other)
        for other in dict.fromkeys(key for batch in batches for key in batch.report.get("against_levels") or {})
    }
    known = {int(other): bits for other, bits in distances.items() if bits is not None}
    return {
        "level": level,
        "severity": _mean(batches, "severity", "most"),
        "parameters": batches[0].report.get("parameters") or {},
        "samples": sum(batch.report["samples"] for batch in batches),
        "flagged": [batch for batch in batches if batch.flagged],
        "jsd": _weighted(batches, lambda batch: batch.jsd),
        "threshold": max(batch.threshold for batch in batches),
        "floor": _mean(batches, "noise_floors", "split_half_bits"),
        "pristine": _mean(batches, "against", "pristine"),
        "nearest": min(known, key=lambda other: known[other]) if known else None,
        "metrics": _metrics(batches),
    }


def _baselines(
    name: str,
    jsd: float | None,
    threshold: float,
    floor: float | None,
    between_content: float | None,
    identity: float | None,
    distances: Mapping[str, float],
) -> dict[str, float]:
    """Return a distortion's JSD_NSS and its known baselines, in bits by label."""
    others = {reference: bits for reference, bits in distances.items() if reference not in (name, "pristine")}
    baselines = {
        "noise floor": floor,
        "between-content": between_content,
        "generated": jsd,
        "threshold": threshold,
        "to pristine": distances.get("pristine"),
        "identity": identity,
    }
    if others:
        nearest = min(others, key=lambda reference: others[reference])
        baselines[f"to {nearest}"] = others[nearest]
    return {label: bits for label, bits in baselines.items() if bits is not None}


def _metrics(batches: Sequence[BatchRow]) -> dict[str, tuple[float | None, float | None]]:
    """Return PSNR and SSIM, generated and true, over samples with a true image, or over all if none has one."""
    metrics = {}
    for name in ("psnr", "ssim"):
        paired, true = _mean(batches, name, "paired_mean"), _mean(batches, name, "true_mean")
        metrics[name] = (_mean(batches, name, "mean") if paired is None else paired, true)
    return metrics


def _pooled(batches: Iterable[BatchRow]) -> dict[str, list[int]]:
    """Return the summed histograms of the batches by kind."""
    pooled: dict[str, list[int]] = {}
    for name in KINDS:
        histograms = [counts[name] for batch in batches if (counts := batch.report.get("histograms") or {}).get(name)]
        if histograms and any(map(any, histograms)):
            pooled[name] = [sum(column) for column in zip(*histograms, strict=True)]
    return pooled


def _mean(batches: Sequence[BatchRow], *keys: str) -> float | None:
    """Return the mean of the report value at `keys` over batches, weighted by samples; None if no batch has a value."""

    def value(batch: BatchRow) -> float | None:
        entry: Any = batch.report
        for key in keys:
            entry = (entry or {}).get(key)
        return None if entry is None else float(entry)

    return _weighted(batches, value)


def _weighted(batches: Sequence[BatchRow], value: Callable[[BatchRow], float | None]) -> float | None:
    pairs = [(number, max(1, batch.report["samples"])) for batch in batches if (number := value(batch)) is not None]
    return statistics.fmean(*zip(*pairs, strict=True)) if pairs else None
