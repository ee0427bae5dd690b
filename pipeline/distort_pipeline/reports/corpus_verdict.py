"""What a hurried reader takes home from a corpus's reports: a verdict, and what speaks for caution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.reports.corpus_batches import BatchRow, read_batches, read_store
from distort_pipeline.reports.corpus_summaries import summaries_of

MANY_BEYOND = 0.05  # of the samples of a distortion: fewer lie in the tables
NAMED = 6  # batches that the verdict names; the list below it has all


def cautions(corpus: Path) -> list[str]:
    """Return what the page of the folder `corpus` says beside its verdict, one sentence each."""
    batches = read_batches(corpus / "reports")
    return remarks(read_store(corpus), batches, summaries_of(batches))


def verdict(batches: Sequence[BatchRow], expected: int | None, mismatched: Sequence[str] = ()) -> tuple[str, str]:
    """Return 'good', 'bad' or 'unknown', and the sentence that a hurried reader takes home.

    Bounds say whether a batch is as its model was in validation, not whether the model was any good: distortions that
    are `astray`, nearer to something else than to what they learned or no nearer than the identity baseline, keep the verdict
    from being good.
    """
    total, out = len(batches), [batch.name for batch in batches if batch.flagged]
    missing = max(0, (expected or 0) - total)
    if not batches:
        return "unknown", "No batch has a report, so nothing is known about this corpus."
    if out:
        named = ", ".join(out[:NAMED]) + (f" and {len(out) - NAMED} more" if len(out) > NAMED else "")
        few = f"{len(out)} of {total} batches {'is' if len(out) == 1 else 'are'} rejected: {named}."
        every = f"All {total} batches are rejected." if total > 1 else f"The only batch is rejected: {named}."
        words = every if len(out) == total else few
    else:
        words = (
            f"All {total} batches lie within their bounds." if total > 1 else "The only batch lies within its bounds."
        )
    if mismatched and not out:
        words = f"{words.removesuffix('.')}, but {', '.join(mismatched)} {'is' if len(mismatched) == 1 else 'are'} nearer to "
        words += "something else than to what was learned, or no nearer than the identity baseline."
    if missing:
        words += f" {missing} more {'has' if missing == 1 else 'have'} no report."
    return "bad" if out else "unknown" if missing or mismatched else "good", words


def remarks(store: Mapping[str, Any], batches: Sequence[BatchRow], summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what else speaks for caution, one sentence each."""
    said = []
    for one in summaries:
        if _no_better_than_identity(one):
            said.append(
                f"Generated {one['name']} is no nearer to its model's true images ({one['jsd']:.4f} bits) than the "
                f"untouched tiles are ({one['nothing']:.4f})."
            )
        elif is_mismatched(one):
            own, other = one["against"][one["name"]], one["against"][one["nearest"]]
            whom = "the pristine images" if one["nearest"] == "pristine" else f"true {one['nearest']}"
            own_words = f"true {one['name']} ({own:.4f})"
            said.append(f"Generated {one['name']} is nearer to {whom} ({other:.4f} bits) than to {own_words}.")
        if (beyond := _clipped_share(one)) >= MANY_BEYOND:
            said.append(
                f"{100 * beyond:.0f} % of the samples of {one['name']} are at an end of the dial: no severity brings "
                "them nearer to the quality that was asked for."
            )
        if one["duplicates"]:
            said.append(f"{one['name']} has {one['duplicates']} duplicate samples.")
    counts = store.get("counts", {})
    found = {
        "batches": len(batches),
        "samples": sum(batch.report["samples"] for batch in batches),
        "flagged": sum(batch.flagged for batch in batches),
    }
    for name, number in found.items():
        if counts.get(name, number) != number:
            said.append(f"The corpus counts {counts[name]} {name}, its reports {number}: they do not belong together.")
    return said


def is_mismatched(one: Mapping[str, Any]) -> bool:
    """Return whether a distortion's summary shows it nearer to something else than to what its model learned."""
    return one["nearest"] not in (None, one["name"]) or _no_better_than_identity(one)


def _no_better_than_identity(one: Mapping[str, Any]) -> bool:
    return one["nothing"] is not None and one["jsd"] >= one["nothing"]


def _clipped_share(one: Mapping[str, Any]) -> float:
    """Return the share of a distortion's samples whose targets no severity reaches; 0 where none was asked for."""
    told = one.get("targets") or ()
    samples = sum(batch["samples"] for batch in told)
    return sum(batch["at_limit"] * batch["samples"] for batch in told) / samples if samples else 0.0
