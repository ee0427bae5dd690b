"""The verdict on a corpus and remarks of caution, from its batch reports."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from distort_pipeline.errors import PipelineError
from distort_pipeline.reports.charts import baseline_dot_plot, histogram_chart, threshold_chart

STORE_FORMAT, REPORT_FORMAT, VERSION = "distort-pipeline/corpus", "distort-pipeline/report", 3


@dataclass(frozen=True)
class BatchRow:
    """A batch's report, with its main values."""

    report: Mapping[str, Any]
    distortion: str
    level: int | None  # None if its distortion has a single level
    number: int
    flagged: bool
    jsd: float  # bits, of the report's comparison
    threshold: float  # bits
    image: Path  # of its side-by-side image, which may be missing

    @property
    def name(self) -> str:
        """The batch's displayed name."""
        return f"{self.kind} {self.number}"

    @property
    def kind(self) -> str:
        """Distortion, and level if there are several."""
        return self.distortion if self.level is None else f"{self.distortion} level {self.level},"

    @property
    def key(self) -> str:
        """The stem of the batch's file names."""
        return self.image.stem

    @property
    def link(self) -> str:
        """The relative URL of the side-by-side image."""
        return f"{quote(self.image.parent.name)}/{quote(self.image.name)}"


def read_store(corpus: Path) -> dict[str, Any]:
    """Return the store.json of the folder `corpus`; PipelineError if it is missing or of an unknown version."""
    return _read(corpus / "store.json", STORE_FORMAT)


def read_batches(folder: Path) -> list[BatchRow]:
    """Return the reports in `folder`, by distortion, level and number."""
    batches = [_batch(path) for path in folder.glob("*.json")]
    levels = Counter(name for name, _ in {(batch.distortion, batch.level) for batch in batches})
    labelled = [batch if levels[batch.distortion] > 1 else replace(batch, level=None) for batch in batches]
    return sorted(labelled, key=lambda batch: (batch.distortion, batch.level or 0, batch.number))


def _batch(path: Path) -> BatchRow:
    report = _read(path, REPORT_FORMAT)
    comparison = report.get(str(report.get("comparison")))
    missing = {"distortion", "level", "batch", "samples", "accepted"} - set(report)
    if missing or not isinstance(comparison, Mapping) or not {"jsd_bits", "threshold_bits"} <= set(comparison):
        fields = ", ".join(sorted(missing)) or "the divergence and threshold of its comparison"
        raise PipelineError(f"the report {path.name} lacks {fields}; generate that batch again")
    return BatchRow(
        report=report,
        distortion=str(report["distortion"]),
        level=int(report["level"]),
        number=int(report["batch"]),
        flagged=not report["accepted"],
        jsd=float(comparison["jsd_bits"]),
        threshold=float(comparison["threshold_bits"]),
        image=path.with_name(f"{path.stem}.png"),
    )


def _read(path: Path, form: str) -> dict[str, Any]:
    """Return the JSON object at `path`; PipelineError unless its format is `form` and its version VERSION."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"there is no {path.name} in {path.parent}; is that the folder of a corpus?") from None
    except ValueError as error:
        raise PipelineError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != form:
        raise PipelineError(f"{path} is not a {form} document")
    if document.get("version") != VERSION:
        raise PipelineError(f"{path} is of version {document.get('version')!r}; this program reads {VERSION} only")
    return document


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


MANY_CLIPPED = 0.05  # share of a distortion's samples; smaller shares appear in the tables only
NAMED = 6  # batches named in the verdict


def cautions(corpus: Path) -> list[str]:
    """Return the remarks on the corpus in the folder `corpus`, a sentence each."""
    batches = read_batches(corpus / "reports")
    return remarks(read_store(corpus), batches, summaries_of(batches))


def verdict(batches: Sequence[BatchRow], expected: int | None, mismatched: Sequence[str] = ()) -> tuple[str, str]:
    """Return 'good', 'bad' or 'unknown', and the verdict as a sentence.

    Acceptance thresholds compare a batch with its model's validation, and do not test the model itself. `mismatched`
    distortions, nearer to another distortion or no nearer than the identity baseline, make the verdict 'unknown'.
    """
    total, rejected = len(batches), [batch.name for batch in batches if batch.flagged]
    missing = max(0, (expected or 0) - total)
    if not batches:
        return "unknown", "No batch has a report, so nothing is known about this corpus."
    if rejected:
        names = ", ".join(rejected[:NAMED]) + (f" and {len(rejected) - NAMED} more" if len(rejected) > NAMED else "")
        partly = f"{len(rejected)} of {total} batches {'is' if len(rejected) == 1 else 'are'} rejected: {names}."
        fully = f"All {total} batches are rejected." if total > 1 else f"The only batch is rejected: {names}."
        sentence = fully if len(rejected) == total else partly
    else:
        sentence = f"All {total} batches are accepted." if total > 1 else "The only batch is accepted."
    if mismatched and not rejected:
        are = "is" if len(mismatched) == 1 else "are"
        sentence = f"{sentence.removesuffix('.')}, but {', '.join(mismatched)} {are} mismatched: nearer to another "
        sentence += "distortion than to the learned one, or no nearer than the identity baseline."
    if missing:
        sentence += f" {missing} more {'has' if missing == 1 else 'have'} no report."
    return "bad" if rejected else "unknown" if missing or mismatched else "good", sentence


def remarks(store: Mapping[str, Any], batches: Sequence[BatchRow], summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return remarks of caution, a sentence each."""
    grey = [name for name, model in store.get("models", {}).items() if model.get("grey")]
    sentences = [f"The model of {name} was trained on grey images only: it did not learn colour." for name in grey]
    for summary in summaries:
        if _no_better_than_identity(summary):
            sentences.append(
                f"Generated {summary['name']} is no nearer to its model's true images ({summary['jsd']:.4f} bits) than "
                f"the identity baseline ({summary['identity']:.4f})."
            )
        elif is_mismatched(summary):
            bits, nearest_bits = summary["against"][summary["name"]], summary["against"][summary["nearest"]]
            nearest = "the pristine images" if summary["nearest"] == "pristine" else f"true {summary['nearest']}"
            learned = f"true {summary['name']} ({bits:.4f})"
            sentences.append(
                f"Generated {summary['name']} is nearer to {nearest} ({nearest_bits:.4f} bits) than to {learned}."
            )
        if (clipped := _clipped_share(summary)) >= MANY_CLIPPED:
            sentences.append(
                f"{100 * clipped:.0f} % of the samples of {summary['name']} are clipped at severity 0 or 1: "
                "no severity is nearer to the requested quality."
            )
        if summary["duplicates"]:
            sentences.append(f"{summary['name']} has {summary['duplicates']} duplicate samples.")
    counts = store.get("counts", {})
    reported = {
        "batches": len(batches),
        "samples": sum(batch.report["samples"] for batch in batches),
        "flagged": sum(batch.flagged for batch in batches),
    }
    for name, number in reported.items():
        if counts.get(name, number) != number:
            sentences.append(
                f"The corpus counts {counts[name]} {name}, its reports {number}: store.json and reports do not match."
            )
    return sentences


def is_mismatched(summary: Mapping[str, Any]) -> bool:
    """Return whether a distortion is nearer to another distortion, or no nearer than the identity baseline."""
    return summary["nearest"] not in (None, summary["name"]) or _no_better_than_identity(summary)


def _no_better_than_identity(summary: Mapping[str, Any]) -> bool:
    return summary["identity"] is not None and summary["jsd"] >= summary["identity"]


def _clipped_share(summary: Mapping[str, Any]) -> float:
    """Return the share of a distortion's samples clipped at severity 0 or 1; 0 without quality targets."""
    targets = summary.get("targets") or ()
    samples = sum(target["samples"] for target in targets)
    return sum(target["severity_clipped"] * target["samples"] for target in targets) / samples if samples else 0.0
