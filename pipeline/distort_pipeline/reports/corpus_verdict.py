"""The verdict on a corpus and remarks of caution, from its batch reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.reports.corpus_batches import BatchRow, read_batches, read_store
from distort_pipeline.reports.corpus_summaries import summaries_of

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
