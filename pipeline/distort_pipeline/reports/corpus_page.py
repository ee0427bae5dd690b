"""The page of a corpus: one file that says at a glance whether to trust it, and shows why."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from distort_pipeline.config import GenerateConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.reports.charts import drift_chart, histogram_chart
from distort_pipeline.reports.html import template
from distort_pipeline.reports.strips import Shown, carry
from distort_pipeline.stores.files import write_bytes

STORE_FORMAT, REPORT_FORMAT, VERSION = "distort-pipeline/corpus", "distort-pipeline/report", 1
PAGE_NAME = "index.html"
EXAMPLES = 2  # strips of each distortion, besides the flagged batches'
MAX_STRIPS = 24
STRIP_BYTES = 7_000_000  # of PNG in all: base64 adds a third, which leaves the page below 10 MB
NAMED = 6  # batches that the verdict names; the list below it has all
SERIES = ("pristine", "true", "generated")


@dataclass(frozen=True)
class Batch:
    """One batch's report, with what the page says of it most often."""

    report: Mapping[str, Any]
    distortion: str
    name: str
    flagged: bool
    jsd: float  # bits, by the comparison that it was judged by
    bound: float  # bits, of the same comparison
    picture: Path  # of its strip, whether or not there is one
    link: str  # to its strip, from the page
    mark: str  # its anchor on the page; its name may hold any character


def write_page(corpus: Path) -> Path:
    """Return the path of the page made of the store.json, the reports and the strips in the folder `corpus`.

    The same folder always gives the same page. PipelineError says which file is missing or of an unknown version.
    """
    store = _read(corpus / "store.json", STORE_FORMAT)
    batches = read_batches(corpus / "reports")
    page = corpus / PAGE_NAME
    write_bytes(page, render(store, batches).encode())
    return page


def read_batches(folder: Path) -> list[Batch]:
    """Return the reports in `folder`, by distortion and number."""
    batches = [_batch(path, f"batch-{number}") for number, path in enumerate(sorted(folder.glob("*.json")))]
    return sorted(batches, key=lambda batch: (batch.distortion, batch.report["batch"]))


def render(store: Mapping[str, Any], batches: Sequence[Batch]) -> str:
    """Return the page as HTML; reads the strips of `batches` that it shows."""
    summaries = summaries_of(batches)
    settings = store.get("settings", {}).get("generate", {})
    shown = choose_strips(batches)
    examples = {}
    for one in summaries:
        carried = [batch for batch in one["batches"] if batch.mark in shown]
        # A distortion without a batch in bounds still gets its example, beside the others.
        examples[one["name"]] = [batch for batch in carried if not batch.flagged] or carried[:1]
    # Only fields known to hold no path, so that a page handed on does not tell where it was made.
    known = [field.name for field in dataclasses.fields(GenerateConfig) if field.name in settings]
    return template("corpus.html.j2").render(
        store=store,
        counts=store.get("counts", {}),
        verdict=verdict(
            batches, store.get("counts", {}).get("batches"), [one["name"] for one in summaries if is_astray(one)]
        ),
        remarks=remarks(store, batches, summaries),
        summaries=summaries,
        references=sorted({name for one in summaries for name in one["against"]}, key=lambda n: (n != "pristine", n)),
        batches=sorted(batches, key=lambda batch: not batch.flagged),
        flagged=[batch for batch in batches if batch.flagged],
        shown=shown,
        examples=examples,
        strips=sum(batch.picture.exists() for batch in batches),
        settings={name: settings[name] for name in known},
    )


def cautions(corpus: Path) -> list[str]:
    """Return what the page of the folder `corpus` says beside its verdict, one sentence each."""
    batches = read_batches(corpus / "reports")
    return remarks(_read(corpus / "store.json", STORE_FORMAT), batches, summaries_of(batches))


def verdict(batches: Sequence[Batch], expected: int | None, astray: Sequence[str] = ()) -> tuple[str, str]:
    """Return 'good', 'bad' or 'unknown', and the sentence that a hurried reader takes home.

    Bounds say whether a batch is as its model was in validation, not whether the model was any good: distortions that
    are `astray`, nearer to something else than to what they learned, keep the verdict from being good.
    """
    total, out = len(batches), [batch.name for batch in batches if batch.flagged]
    missing = max(0, (expected or 0) - total)
    if not batches:
        return "unknown", "No batch has a report, so nothing is known about this corpus."
    if out:
        named = ", ".join(out[:NAMED]) + (f" and {len(out) - NAMED} more" if len(out) > NAMED else "")
        few = f"{len(out)} of {total} batches {'is' if len(out) == 1 else 'are'} out of bounds: {named}."
        every = f"All {total} batches are out of bounds." if total > 1 else f"The only batch is out of bounds: {named}."
        words = every if len(out) == total else few
    else:
        words = (
            f"All {total} batches lie within their bounds." if total > 1 else "The only batch lies within its bounds."
        )
    if astray and not out:
        words = f"{words.removesuffix('.')}, but {', '.join(astray)} {'is' if len(astray) == 1 else 'are'} nearer to "
        words += "something else than to what was learned."
    if missing:
        words += f" {missing} more {'has' if missing == 1 else 'have'} no report."
    return "bad" if out else "unknown" if missing or astray else "good", words


def summaries_of(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Return the summary of each distortion, by name."""
    names = sorted({batch.distortion for batch in batches})
    return [summary(name, [batch for batch in batches if batch.distortion == name]) for name in names]


def summary(name: str, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return what the page says of one distortion: means over its batches, weighted by samples, and its charts."""
    out = [batch for batch in batches if batch.flagged]
    against = {
        reference: _mean(batches, "against", reference)
        for reference in dict.fromkeys(key for batch in batches for key in batch.report.get("against") or {})
    }
    distances = {reference: value for reference, value in against.items() if value is not None}
    bounds = [batch.bound for batch in batches]
    worst = max(batches, key=lambda batch: batch.jsd / batch.bound if batch.bound > 0 else 0.0)
    floor = _mean(batches, "floors", "sampling_bits")
    histograms = _pooled(batches)
    drift = drift_chart(
        [batch.jsd for batch in batches],
        bounds,
        title=f"JSD_NSS of each batch of {name}",
        flagged=[batch.flagged for batch in batches],
        batches=[batch.report["batch"] for batch in batches],
        floor=floor,
    )
    return {
        "name": name,
        "batches": batches,
        "flagged": out,
        "samples": sum(batch.report["samples"] for batch in batches),
        "jsd": _weighted(batches, lambda batch: batch.jsd),
        "bounds": (min(bounds), max(bounds)),
        "worst": worst.jsd / worst.bound if worst.bound > 0 else None,
        "judged_by": sorted({str(batch.report["judged_by"]) for batch in batches}),
        "sampling_floor": floor,
        "content_floor": _mean(batches, "floors", "content_bits"),
        "duplicates": sum(batch.report.get("duplicates") or 0 for batch in batches),
        "clipped": _mean(batches, "clipped_fraction"),
        "labels": {
            label: (_mean(batches, label, "mean"), _mean(batches, label, "true_mean")) for label in ("psnr", "ssim")
        },
        "against": distances,
        "nearest": min(distances, key=lambda reference: distances[reference]) if distances else None,
        "drift": Markup(drift),
        "histograms": [
            Markup(histogram_chart(histograms, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log))
            for log in (False, True)
            if histograms
        ],
    }


def remarks(store: Mapping[str, Any], batches: Sequence[Batch], summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what else speaks for caution, one sentence each."""
    said = []
    for one in summaries:
        if is_astray(one):
            own, other = one["against"][one["name"]], one["against"][one["nearest"]]
            whom = "the pristine pictures" if one["nearest"] == "pristine" else f"true {one['nearest']}"
            own_words = f"true {one['name']} ({own:.4f})"
            said.append(f"Generated {one['name']} is nearer to {whom} ({other:.4f} bits) than to {own_words}.")
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


def is_astray(one: Mapping[str, Any]) -> bool:
    """Return whether a distortion's summary shows it nearer to something else than to what its model learned."""
    return one["nearest"] not in (None, one["name"]) and one["name"] in one["against"]


def choose_strips(batches: Sequence[Batch]) -> dict[str, Shown]:
    """Return the strips to carry by the batch's mark: one of each distortion, the flagged ones, then more examples."""
    ranks: dict[str, int] = {}
    wanted = []
    for batch in sorted(batches, key=lambda batch: batch.flagged):  # a batch within bounds is the better example
        if batch.picture.exists():
            rank = ranks[batch.distortion] = ranks.get(batch.distortion, -1) + 1
            if batch.flagged or rank < EXAMPLES:
                wanted.append((0 if rank == 0 else 1 if batch.flagged else 2, rank, batch))
    chosen = [batch for _, _, batch in sorted(wanted, key=lambda entry: entry[:2])[:MAX_STRIPS]]
    carried = carry([batch.picture for batch in chosen], STRIP_BYTES)
    return {batch.mark: carried[batch.picture] for batch in chosen if batch.picture in carried}


def _batch(path: Path, mark: str) -> Batch:
    report = _read(path, REPORT_FORMAT)
    judged = report.get(str(report.get("judged_by")))
    lacking = {"distortion", "batch", "samples", "within_bounds"} - set(report)
    if lacking or not isinstance(judged, Mapping) or not {"jsd_bits", "bound_bits"} <= set(judged):
        wanted = ", ".join(sorted(lacking)) or "the divergence and the bound that it was judged by"
        raise PipelineError(f"the report {path.name} lacks {wanted}; generate that batch again")
    picture = path.with_suffix(".png")
    return Batch(
        report=report,
        distortion=str(report["distortion"]),
        name=f"{report['distortion']} {report['batch']}",
        flagged=not report["within_bounds"],
        jsd=float(judged["jsd_bits"]),
        bound=float(judged["bound_bits"]),
        picture=picture,
        link=f"{quote(picture.parent.name)}/{quote(picture.name)}",
        mark=mark,
    )


def _pooled(batches: Iterable[Batch]) -> dict[str, list[int]]:
    """Return the sum of the batches' histograms for each series that any of them has."""
    pooled: dict[str, list[int]] = {}
    for name in SERIES:
        counts = [found[name] for batch in batches if (found := batch.report.get("histograms") or {}).get(name)]
        if counts and any(map(any, counts)):
            pooled[name] = [sum(column) for column in zip(*counts, strict=True)]
    return pooled


def _mean(batches: Sequence[Batch], *keys: str) -> float | None:
    """Return the mean of the value at `keys` over the batches that have it, weighted by samples."""

    def value(batch: Batch) -> float | None:
        found: Any = batch.report
        for key in keys:
            found = (found or {}).get(key)
        return None if found is None else float(found)

    return _weighted(batches, value)


def _weighted(batches: Sequence[Batch], value: Callable[[Batch], float | None]) -> float | None:
    pairs = [(number, max(1, batch.report["samples"])) for batch in batches if (number := value(batch)) is not None]
    return statistics.fmean(*zip(*pairs, strict=True)) if pairs else None


def _read(path: Path, form: str) -> dict[str, Any]:
    """Return the JSON object at `path`, which must say that it is of the format `form` and of our version."""
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
