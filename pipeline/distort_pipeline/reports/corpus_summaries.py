"""What the page of a corpus says of each distortion: means over its batches, and its charts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distort_pipeline.reports.baseline_dot_plot import baseline_dot_plot
from distort_pipeline.reports.charts import histogram_chart, threshold_chart
from distort_pipeline.reports.corpus_batches import BatchRow

SERIES = ("pristine", "true", "generated")


def summaries_of(batches: Sequence[BatchRow]) -> list[dict[str, Any]]:
    """Return the summary of each distortion, by name."""
    names = sorted({batch.distortion for batch in batches})
    return [summary(name, [batch for batch in batches if batch.distortion == name]) for name in names]


def summary(name: str, batches: Sequence[BatchRow]) -> dict[str, Any]:
    """Return what the page says of one distortion: means over its batches, weighted by samples, and its charts."""
    out = [batch for batch in batches if batch.flagged]
    against = {
        reference: _mean(batches, "against", reference)
        for reference in dict.fromkeys(key for batch in batches for key in batch.report.get("against") or {})
    }
    distances = {reference: value for reference, value in against.items() if value is not None}
    thresholds = [batch.threshold for batch in batches]
    worst = max(batches, key=lambda batch: batch.jsd / batch.threshold if batch.threshold > 0 else 0.0)
    floor = _mean(batches, "noise_floors", "sampling_bits")
    histograms = _pooled(batches)
    drift = threshold_chart(
        [batch.jsd for batch in batches],
        thresholds,
        title=f"JSD_NSS of each batch of {name}",
        flagged=[batch.flagged for batch in batches],
        # of several levels, one after the other: each has a batch 0
        batches=[batch.number if batch.level is None else place for place, batch in enumerate(batches)],
        floor=floor,
    )
    jsd = _weighted(batches, lambda batch: batch.jsd)
    content = _mean(batches, "noise_floors", "content_bits")
    # without a true distortion of the same tiles nobody knows what is nearest
    nearest = min(distances, key=lambda reference: distances[reference]) if name in distances else None
    nothing = None if name in distances else _mean(batches, "unpaired", "pristine_bits")
    return {
        "name": name,
        "batches": batches,
        "flagged": out,
        "samples": sum(batch.report["samples"] for batch in batches),
        "jsd": jsd,
        "thresholds": (min(thresholds), max(thresholds)),
        "worst": worst.jsd / worst.threshold if worst.threshold > 0 else None,
        "judged_by": sorted({str(batch.report["judged_by"]) for batch in batches}),
        "sampling_floor": floor,
        "between_content_baseline": content,
        "duplicates": sum(batch.report.get("duplicates") or 0 for batch in batches),
        "clipped": _mean(batches, "clipped_fraction"),
        "labels": _labels(batches),
        "against": distances,
        "nearest": nearest,
        "nothing": nothing,
        "external": any(batch.report.get("external") for batch in batches),
        "levels": _levels_of(batches),
        "targets": [target for batch in batches if (target := _target(batch))],
        "drift": Markup(drift),
        "five_levels": Markup(
            baseline_dot_plot(
                _condition_levels(name, jsd, max(thresholds), floor, content, nothing, distances),
                marked="generated",
                title=f"JSD_NSS of {name} between its floors and the identity baseline",
            )
        ),
        "histograms": [
            Markup(histogram_chart(histograms, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log))
            for log in (False, True)
            if histograms
        ],
    }


def _levels_of(batches: Sequence[BatchRow]) -> list[dict[str, Any]]:
    """Return a row for each level of a distortion, the weakest first; none if there is only one."""
    levels = sorted({batch.level for batch in batches if batch.level is not None})
    return [_level_row(level, [batch for batch in batches if batch.level == level]) for level in levels]


def _target(batch: BatchRow) -> dict[str, Any] | None:
    told = batch.report.get("target")
    return {"batch": batch.name, "samples": batch.report["samples"], **told} if told else None


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
        "floor": _mean(batches, "noise_floors", "sampling_bits"),
        "pristine": _mean(batches, "against", "pristine"),
        "nearest": min(known, key=lambda other: known[other]) if known else None,
        "labels": _labels(batches),
    }


def _condition_levels(
    name: str,
    jsd: float | None,
    threshold: float,
    sampling: float | None,
    content: float | None,
    nothing: float | None,
    distances: Mapping[str, float],
) -> dict[str, float]:
    """Return what to hold a distortion's JSD_NSS against, in bits by name: those known."""
    closer_generators = {
        reference: bits for reference, bits in distances.items() if reference not in (name, "pristine")
    }
    condition_levels = {
        "sampling floor": sampling,
        "content floor": content,
        "generated": jsd,
        "threshold": threshold,
        "to pristine": distances.get("pristine"),
        "the identity baseline": nothing,
    }
    if closer_generators:
        closer_generator = min(closer_generators, key=lambda reference: closer_generators[reference])
        condition_levels[f"to {closer_generator}"] = closer_generators[closer_generator]
    return {label: bits for label, bits in condition_levels.items() if bits is not None}


def _labels(batches: Sequence[BatchRow]) -> dict[str, tuple[float | None, float | None]]:
    """Return PSNR and SSIM, generated and true, of the same samples: of all where none has a true image."""
    found = {}
    for label in ("psnr", "ssim"):
        beside, true = _mean(batches, label, "beside_true_mean"), _mean(batches, label, "true_mean")
        found[label] = (_mean(batches, label, "mean") if beside is None else beside, true)
    return found


def _pooled(batches: Iterable[BatchRow]) -> dict[str, list[int]]:
    """Return the sum of the batches' histograms for each condition that any of them has."""
    pooled: dict[str, list[int]] = {}
    for name in SERIES:
        counts = [found[name] for batch in batches if (found := batch.report.get("histograms") or {}).get(name)]
        if counts and any(map(any, counts)):
            pooled[name] = [sum(column) for column in zip(*counts, strict=True)]
    return pooled


def _mean(batches: Sequence[BatchRow], *keys: str) -> float | None:
    """Return the mean of the value at `keys` over the batches that have it, weighted by samples."""

    def value(batch: BatchRow) -> float | None:
        found: Any = batch.report
        for key in keys:
            found = (found or {}).get(key)
        return None if found is None else float(found)

    return _weighted(batches, value)


def _weighted(batches: Sequence[BatchRow], value: Callable[[BatchRow], float | None]) -> float | None:
    pairs = [(number, max(1, batch.report["samples"])) for batch in batches if (number := value(batch)) is not None]
    return statistics.fmean(*zip(*pairs, strict=True)) if pairs else None
