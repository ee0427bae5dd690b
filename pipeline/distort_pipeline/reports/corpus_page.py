"""The HTML page of a corpus: verdict, charts, tables and samples in a single file.

The page works offline, on a phone and without a mouse. The limits below keep its size under 3 MB for any corpus.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import CorpusStore
from distort_pipeline.data.corpus_metadata import CorpusMetadata
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import encode_webp
from distort_pipeline.records import Image
from distort_pipeline.reports.charts import baseline_dot_plot, histogram_chart, threshold_chart
from distort_pipeline.reports.corpus_verdict import BatchRow, Summary, read_batches, remarks, summaries_of, verdict
from distort_pipeline.reports.examples import GAIN, Example, batch_examples
from distort_pipeline.reports.pages import PAGE_NAME, template

UNITS = {"psnr": " dB"}


def request_text(settings: Mapping[str, Any]) -> str:
    """Return the request in the settings of generate, a sentence each; '' without a request.

    >>> request_text({"severity": [0.2, 0.9]})
    'The severity of each sample is drawn from 0.2 to 0.9.'
    >>> request_text({"target": {"psnr": [30]}, "composite": []})
    'The requested PSNR of all samples is 30 dB.'
    >>> request_text({"num_levels": 5, "composite": ["jpeg+white_noise"]})
    'jpeg+white_noise is a composite: jpeg, then white_noise. Each distortion has 5 levels.'
    """
    return " ".join(_sentences(settings))


def _sentences(settings: Mapping[str, Any]) -> Iterator[str]:
    for composite in settings.get("composite") or ():
        yield f"{composite} is a composite: {', then '.join(composite.split('+'))}."
    severity, levels = settings.get("severity") or (), settings.get("num_levels")
    measure, quality = next(iter((settings.get("target") or {}).items()), ("", ()))
    ends = _ends(severity) or _ends(quality, UNITS.get(measure, ""))
    requested = "severity" if severity else measure.upper()
    if levels:
        count = f"{levels} level{'s' if levels > 1 else ''}"
        yield f"Each distortion has {count}{f', {requested} {ends}' if ends else ''}."
    elif len(set(severity)) == 1:
        yield f"The severity of all samples is {ends}."
    elif severity:
        yield f"The severity of each sample is drawn {ends}."
    elif len(set(quality)) == 1:
        yield f"The requested {requested} of all samples is {ends}."
    elif quality:
        yield f"The requested {requested} of each sample is drawn {ends}, within the range of its tile."


def _ends(values: Sequence[float], unit: str = "") -> str:
    """Return a number, or both ends of a range."""
    texts = [f"{value:g}{unit}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"from {texts[0]} to {texts[-1]}" if texts else ""


INDEX_BYTES = 400_000  # about 2,400 images with four distortions each
COLUMNS = ("image", "split", "distortion", "level", "sample", "batch", "psnr", "ssim")


@dataclass(frozen=True)
class ImageIndex:
    """The images of a corpus and their samples, as plain JSON values.

    `kinds` has (distortion, level, whether that is its single level). `images` has (id, split, groups); a group is
    (index in `kinds`, first sample, last sample, count, first batch, last batch, mean PSNR, mean SSIM), a mean None
    without that metric.
    """

    kinds: tuple[tuple[str, int, bool], ...]
    images: tuple[tuple[str, str, tuple[tuple[Any, ...], ...]], ...]
    left_out: int  # images omitted for size


def image_index(records: pa.Table, *, first: Collection[str] = (), limit_bytes: int = INDEX_BYTES) -> ImageIndex:
    """Return the index of the sample records of a corpus, by image id; images in `first` are omitted last."""
    groups = records.select(COLUMNS).group_by(["image", "split", "distortion", "level"])
    rows = groups.aggregate(
        [("sample", "min"), ("sample", "max"), ("sample", "count"), ("batch", "min"), ("batch", "max"),
         ("psnr", "mean"), ("ssim", "mean")]
    ).to_pylist()  # fmt: skip
    kinds = sorted({(row["distortion"], row["level"]) for row in rows})
    levels = Counter(name for name, _ in kinds)
    indices = {kind: index for index, kind in enumerate(kinds)}
    by_image: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in rows:
        group = (
            indices[row["distortion"], row["level"]],
            *(row[name] for name in ("sample_min", "sample_max", "sample_count", "batch_min", "batch_max")),
            _rounded(row["psnr_mean"], 2),
            _rounded(row["ssim_mean"], 3),
        )
        by_image.setdefault((row["image"], row["split"]), []).append(group)
    ordered = sorted(by_image, key=lambda image: (image[0] not in first, image))
    kept = _fitting([(*key, tuple(sorted(by_image[key]))) for key in ordered], limit_bytes)
    labelled = tuple((name, level, levels[name] == 1) for name, level in kinds)
    return ImageIndex(labelled, tuple(sorted(kept)), len(by_image) - len(kept))


def _fitting(images: Sequence[tuple[str, str, tuple[Any, ...]]], limit_bytes: int) -> list[Any]:
    """Return the first of `images`, about `limit_bytes` of JSON."""
    kept, remaining = [], limit_bytes
    for image in images:
        remaining -= len(repr(image))
        if remaining < 0:
            break
        kept.append(image)
    return kept


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


EXAMPLES = 3  # accepted batches with a sample, for each distortion and level
FLAGGED_SHOWN = 12  # rejected batches with a sample
DESCRIBED = 100  # rejected batches with their reasons
LISTED = 400  # batches in the table
IMAGE_BYTES = 1_300_000  # of WebP in all; base64 adds a third
SIDE_PX = 176  # of a sample: two samples of five images fit side by side on a desktop


@dataclass(frozen=True)
class Row:
    """The middle of an example as lossless images, one a cell."""

    batch: BatchRow
    example: Example
    cells: Mapping[str, str]  # column → data: URI
    side_px: tuple[int, int]  # width, height

    @property
    def mark(self) -> str:
        """The anchor on the page."""
        return f"sample-{self.example.record.sample}"


Examples = Callable[[BatchRow], Example | None]


def write_corpus_page(corpus: Path) -> Path:
    """Write the page of the folder `corpus` and return its path; equal folders give equal pages.

    PipelineError names a missing or damaged file, or an unknown version.
    """
    batches = read_batches(corpus / "reports")
    store = CorpusStore(corpus)

    def example_of(batch: BatchRow) -> Example | None:
        return next(iter(batch_examples(store, batch.key, 1)), None)

    table = store.table()
    rejected = {(*_kind(batch), batch.number) for batch in batches if batch.flagged}
    rows = zip(*(table[name].to_pylist() for name in ("distortion", "level", "batch", "image")), strict=True)
    index = image_index(table, first={image for *batch, image in rows if tuple(batch) in rejected})
    page = corpus / PAGE_NAME
    write_bytes(page, render(store.metadata, batches, example_of, index).encode())
    return page


def render(metadata: CorpusMetadata, batches: Sequence[BatchRow], example_of: Examples, index: ImageIndex) -> str:
    """Return the page as HTML, with as many examples as IMAGE_BYTES allows."""
    summaries = summaries_of(batches)
    mismatched = [summary.name for summary in summaries if summary.is_mismatched]
    settings = metadata.settings.generate
    against = {name for summary in summaries for name in summary.against}
    references = sorted(against, key=lambda name: (name != "pristine", name))
    rows = list(fitting_rows(choose_batches(batches), example_of, IMAGE_BYTES))
    flagged = [batch for batch in batches if batch.flagged]
    listed = sorted(batches, key=lambda batch: not batch.flagged)[:LISTED]
    kinds = dict.fromkeys(map(_kind, batches))
    marks = {kind: f"batch-{index}" for index, kind in enumerate(kinds)}  # a name may contain any character
    script = (files("distort_pipeline.reports") / "templates" / "corpus.js").read_text(encoding="utf-8")
    # No fields with paths, so that a published page does not reveal folders of its author.
    known = [field.name for field in dataclasses.fields(GenerateConfig) if field.name in settings]
    return template("corpus.html.j2").render(
        store=metadata,
        counts=metadata.counts,
        verdict=verdict(metadata, batches, summaries),
        mismatched=mismatched,
        request=request_text(settings),
        partly=any(len(summary.against) < len(references) for summary in summaries if not summary.external),
        remarks=remarks(metadata, batches, summaries),
        summaries=summaries,
        charts={summary.name: charts_of(summary) for summary in summaries},
        external=[summary.name for summary in summaries if summary.external],
        references=references,
        batches=listed,
        total=len(batches),
        flagged=flagged[:DESCRIBED],
        all_flagged=len(flagged),
        marks={batch.key: f"{marks[_kind(batch)]}-{batch.number}" for batch in batches},
        rows={summary.name: [row for row in rows if row.batch.distortion == summary.name] for summary in summaries},
        shown={row.batch.key: row for row in rows},
        gain=GAIN,
        index=index,
        search_data=_search_data(index, batches, rows, marks),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        settings={name: settings[name] for name in known},
    )


def charts_of(summary: Summary) -> list[Markup]:
    """Return the charts of a distortion: statistics farthest out, dot plot of baselines, and histograms twice."""
    name, batches = summary.name, [batch for batch in summary.batches if batch.worst]
    judged = threshold_chart(
        [batch.worst.excess for batch in batches if batch.worst],
        title=f"The statistic farthest out of each batch of {name}",
        # batch numbers of several levels repeat
        batches=[batch.number if batch.level is None else index for index, batch in enumerate(batches)],
    )
    dot_plot = baseline_dot_plot(
        _baselines(summary), marked="generated", title=f"JSD_NSS of {name} beside its noise floor and baselines"
    )
    histograms = [
        histogram_chart(summary.histograms, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log)
        for log in (False, True)
        if summary.histograms
    ]
    return [Markup(chart) for chart in (judged, dot_plot, *histograms)]


def _baselines(summary: Summary) -> dict[str, float]:
    """Return a distortion's JSD_NSS and its known baselines, in bits by label."""
    baselines = {
        "noise floor": summary.noise_floor,
        "between-content": summary.between_content_baseline,
        "generated": summary.jsd,
        "to pristine": summary.against.get("pristine"),
        "identity": summary.identity,
    }
    others = {name: bits for name, bits in summary.against.items() if name not in (summary.name, "pristine")}
    if others:
        nearest = min(others, key=lambda name: others[name])
        baselines[f"to {nearest}"] = others[nearest]
    return {label: bits for label, bits in baselines.items() if bits is not None}


def choose_batches(batches: Sequence[BatchRow]) -> list[BatchRow]:
    """Return the batches with a sample on the page, in order of importance.

    First a batch of each distortion and level, then rejected batches, then others, evenly spread over the corpus.
    """
    kinds = dict.fromkeys(map(_kind, batches))
    by_kind = [[batch for batch in batches if _kind(batch) == kind] for kind in kinds]
    accepted = [_spread([batch for batch in group if not batch.flagged]) for group in by_kind]
    flagged = [[batch for batch in group if batch.flagged] for group in by_kind]
    first = [(good or bad)[0] for good, bad in zip(accepted, flagged, strict=True)]
    chosen = chain(first, islice(_interleaved(flagged), FLAGGED_SHOWN), _interleaved(accepted))
    return list({batch.key: batch for batch in chosen}.values())


def _kind(batch: BatchRow) -> tuple[str, int]:
    return batch.distortion, batch.report.level


def _interleaved(lists: Sequence[Sequence[BatchRow]]) -> Iterator[BatchRow]:
    """Yield the first of each of `lists`, then the second of each, and so on."""
    return (batch for rank_batches in zip_longest(*lists) for batch in rank_batches if batch is not None)


def _spread(batches: Sequence[BatchRow]) -> list[BatchRow]:
    """Return at most EXAMPLES of `batches`, evenly spread, starting with the first."""
    count = min(EXAMPLES, len(batches))
    return [batches[index * (len(batches) - 1) // max(count - 1, 1)] for index in range(count)]


def fitting_rows(batches: Sequence[BatchRow], example_of: Examples, budget_bytes: int) -> Iterator[Row]:
    """Yield a row for each of `batches` with an example, until the images exceed `budget_bytes`."""
    for batch in batches:
        example = example_of(batch)
        if example is None:
            continue
        cells = {name: _middle(image) for name, image in example.cells().items()}
        files = {name: encode_webp(image) for name, image in cells.items()}
        budget_bytes -= sum(map(len, files.values()))
        if budget_bytes < 0:
            return
        addresses = {name: f"data:image/webp;base64,{base64.b64encode(file).decode()}" for name, file in files.items()}
        height, width = cells["pristine"].shape[:2]
        yield Row(batch, example, addresses, (width, height))


def _middle(image: Image) -> Image:
    """Return the middle of an image, SIDE_PX on each side at most."""
    top, left = (max(side - SIDE_PX, 0) // 2 for side in image.shape[:2])
    return image[top : top + SIDE_PX, left : left + SIDE_PX]


def _search_data(
    index: ImageIndex, batches: Sequence[BatchRow], rows: Sequence[Row], marks: Mapping[tuple[str, int], str]
) -> str:
    """Return the JSON for the page's search script, with every `<` escaped."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        shown.setdefault(row.example.record.image, []).append(row.mark)
    data = {
        "kinds": [name if single_level else f"{name} level {level}" for name, level, single_level in index.kinds],
        "marks": [marks.get((name, level), "") for name, level, _ in index.kinds],
        "flagged": [
            [batch.number for batch in batches if batch.flagged and _kind(batch) == (name, level)]
            for name, level, _ in index.kinds
        ],
        "images": index.images,
        "shown": shown,
        "left_out": index.left_out,
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
