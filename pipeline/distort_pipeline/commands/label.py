"""label: adds a metric or ratings by people to a finished corpus, whose digest stays."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.commands.options import PATH, STORE_PATH, examples, show
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.data.files import LABELS
from distort_pipeline.data.labels import (
    KIND,
    METRIC,
    PEOPLE,
    RATING,
    VERSION,
    LabelStore,
    MeasuredValue,
    Rating,
    Ratings,
    read_ratings,
    write_values,
)
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.execution import Workers
from distort_pipeline.metrics.full_reference import COMPUTED
from distort_pipeline.records import Image, Json, Report, digest, package_versions, row

METRIC_BATCH_SIZE = 8  # images of one size
WHITE = 255.0


@dataclass(frozen=True)
class Metric:
    """A metric of pyiqa, loaded."""

    lower_better: bool
    full_reference: bool
    device: str
    measure: Callable[..., Any]


@dataclass(frozen=True)
class MetricTask:
    """The task of one batch."""

    corpus: Path
    work: Path
    metric: str
    batch: str
    threads: int
    device: str


@lru_cache(maxsize=1)  # once a worker
def load_metric(name: str, threads: int, device: str) -> Metric:
    """Return the metric of pyiqa named `name` on `device`; PipelineError if unknown, or without weights or device."""
    try:
        with redirect_stdout(StringIO()):
            import pyiqa
            import torch
    except ImportError as error:
        raise PipelineError(
            f"--metric needs pyiqa, which cannot be imported ({error}): pip install '.[consumers]' in a clone of "
            "distort-pipeline"
        ) from None
    torch.set_num_threads(threads)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PipelineError(f"--device {device} cannot be used: {str(error).partition(chr(10))[0]}") from None
    known = [*pyiqa.list_models("FR"), *pyiqa.list_models("NR")]
    if name not in known:
        raise PipelineError(f"--metric: pyiqa has no metric {name!r}{did_you_mean(name, known)}")
    try:
        with redirect_stdout(StringIO()):
            metric = pyiqa.create_metric(name, device=device)
    except OSError as error:  # of a download or a file
        raise PipelineError(
            f"the weights of {name} are not on this machine and could not be downloaded ({error}); "
            "create the metric once on a machine with a network, and copy the cache folders of pyiqa and torch"
        ) from None
    return Metric(bool(metric.lower_better), metric.metric_mode == "FR", device, metric)


def measure_batch(task: MetricTask) -> LedgerEntry:
    """Measure one batch, write its values and the entry of the ledger. Return the entry."""
    metric = load_metric(task.metric, task.threads, task.device)
    corpus = open_corpus(task.corpus)
    records = corpus.batch_records(task.batch)
    distorted = corpus.images(distorted_array(corpus.condition_of(records[0])), [record.slot for record in records])
    pristine = corpus.images(PRISTINE, [record.tile for record in records])
    values: list[float] = []
    for pairs in _groups(zip(distorted, pristine, strict=True)):
        values += _measured(metric, task.metric, pairs)
    measured_values = [
        MeasuredValue(record.sample, value if math.isfinite(value) else None)
        for record, value in zip(records, values, strict=True)
    ]
    return write_values(task.work, task.batch, measured_values, MeasuredValue)


def _groups(pairs: Iterator[tuple[Image, Image]]) -> Iterator[list[tuple[Image, Image]]]:
    """Yield up to METRIC_BATCH_SIZE consecutive pairs of one size at a time."""
    for _, same in groupby(pairs, key=lambda pair: pair[0].shape):
        group: list[tuple[Image, Image]] = []
        for pair in same:
            group.append(pair)
            if len(group) == METRIC_BATCH_SIZE:
                yield group
                group = []
        if group:
            yield group


def _measured(metric: Metric, name: str, pairs: Sequence[tuple[Image, Image]]) -> list[float]:
    distorted, pristine = (_tensor(images).to(metric.device) for images in zip(*pairs, strict=True))
    try:
        scores = metric.measure(distorted, pristine) if metric.full_reference else metric.measure(distorted)
        values: NDArray[np.float64] = scores.detach().double().cpu().numpy().reshape(-1)
    except (RuntimeError, ValueError, AssertionError) as error:  # an image too small, for example
        height, width = pairs[0][0].shape[:2]
        raise PipelineError(f"--metric {name} does not accept images of {width} x {height} px: {error}") from None
    if len(values) != len(pairs):
        raise PipelineError(f"--metric {name} does not return a number for each image and cannot be a label")
    return [float(value) for value in values]


def _tensor(images: Sequence[Image]) -> Any:
    import torch

    stacked = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(WHITE)
    return torch.from_numpy(np.ascontiguousarray(stacked))


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """The settings of a metric's label, as in its store.json."""

    format: str = KIND
    version: int = VERSION
    origin: str = METRIC
    name: str
    metric: str  # of pyiqa
    lower_better: bool
    device: str
    corpus_digest: str
    packages: Mapping[str, str]  # name → version


@dataclass(frozen=True, kw_only=True)
class RatingSettings:
    """The settings of people's ratings, as in their store.json."""

    format: str = KIND
    version: int = VERSION
    origin: str = PEOPLE
    name: str
    rating_kind: str  # rating or choice
    lower_better: bool
    corpus_digest: str
    table_digest: str


METRIC_PACKAGES = ("pyiqa", "torch", "torchvision", "distort-pipeline")


def by_metric(
    corpus: Path, metric: str, *, name: str | None = None, device: str = "cpu", workers: Workers | None = None
) -> Report:
    """Measure every sample with a metric of pyiqa; batches measured by an interrupted run are kept."""
    store = open_corpus(corpus.resolve())  # workers may run in another folder
    workers = dataclasses.replace(workers or Workers(), gpu=device != "cpu")
    name = _checked(name or (f"pyiqa_{metric}" if metric in COMPUTED else metric))
    require_destination(store.folder / LABELS / name)
    loaded = load_metric(metric, workers.threads, device)
    settings = MetricSettings(
        name=name,
        metric=metric,
        lower_better=loaded.lower_better,
        device=device,
        corpus_digest=store.metadata.digest,
        packages=package_versions(METRIC_PACKAGES),
    )
    build = _build(store, settings)
    if build.complete():
        return Report("label", {}, (f"{build.out} is already complete; nothing to do",))
    batches = store.batch_names()
    with build.writing() as work:
        tasks = {batch: MetricTask(store.folder, work, metric, batch, workers.threads, device) for batch in batches}
        for _ in Ledger(work).run_unfinished(measure_batch, tasks, workers, label="label", unit="batches"):
            pass
        _publish(build, store, settings)
    label = LabelStore(build.out)
    return Report("label", {"samples": len(store)}, (f"{len(store)} samples measured: column {label.column}",))


def by_table(corpus: Path, table: Path, *, name: str, lower_better: bool = False) -> Report:
    """Add ratings by people: mean, standard deviation and count for each sample."""
    store = open_corpus(corpus.resolve())
    ratings = read_ratings(table, range(len(store)))
    if not ratings.values:
        raise PipelineError(f"--table {table} has no rating of a sample")
    settings = RatingSettings(
        name=_checked(name),
        rating_kind=ratings.kind,
        lower_better=lower_better,
        corpus_digest=store.metadata.digest,
        table_digest=hashlib.sha256(table.read_bytes()).hexdigest(),
    )
    build = _build(store, settings)
    if build.complete():
        report = _table_report(store, ratings, LabelStore(build.out))
        return dataclasses.replace(report, lines=(f"{build.out} is already complete; nothing to do", *report.lines))
    with build.writing() as work:
        for batch in store.batch_names():
            values = [rating(ratings, record.sample) for record in store.batch_records(batch)]
            write_values(work, batch, values, Rating)
        _publish(build, store, settings, extremes=list(ratings.extremes))
    return _table_report(store, ratings, LabelStore(build.out))


def rating(ratings: Ratings, sample: int) -> Rating:
    """Return the rating of a sample, with one value per session."""
    values = ratings.of_sample(sample)
    std = statistics.stdev(values) if len(values) > 1 else None
    return Rating(sample, statistics.fmean(values) if values else None, std, len(values))


def _checked(name: str) -> str:
    """Return the name of a label if valid as a name of folders and columns; PipelineError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_+-]*", name) or "split" in name:
        raise PipelineError(
            f"--name must consist of letters, digits, _, + and -, without 'split' (a split column to pyiqa), "
            f"got {name!r}"
        )
    if name in COMPUTED:
        raise PipelineError(f"every corpus already has {name}: give another --name")
    return name


def _build(store: CorpusStore, settings: MetricSettings | RatingSettings) -> StagedStore:
    """Return the staged store of the label; PipelineError if the corpus has another label of this name."""
    out = store.folder / LABELS / settings.name
    build = StagedStore(out, digest(row(settings)))
    try:
        build.complete()
    except PipelineError:
        raise PipelineError(
            f"{store.folder} has another label {settings.name!r} already: give this one another --name, or delete {out}"
        ) from None
    return build


def _publish(
    build: StagedStore, store: CorpusStore, settings: MetricSettings | RatingSettings, **further: Json
) -> None:
    entries = Ledger(build.work).entries(store.batch_names())
    values = row(settings)
    build.publish(
        {
            "format": f"distort-pipeline/{KIND}",
            "version": VERSION,
            "digest": digest([values, [entry["digest"] for entry in entries]]),
            "settings": values,
            **{key: values[key] for key in ("name", "origin", "lower_better", "corpus_digest")},
            "batches": store.batch_names(),
            "counts": {"samples": len(store)},
            **further,
        }
    )


def _table_report(store: CorpusStore, ratings: Ratings, label: LabelStore) -> Report:
    count = sum(len(values) for sessions in ratings.values.values() for values in sessions.values())
    unit = "ratings" if ratings.kind == RATING else "values of choices"
    counts = {
        "samples": len(ratings.values), "ratings": count, "pristine": ratings.pristine, "unrated": ratings.unrated,
    }  # fmt: skip
    low, high = ratings.extremes
    lines = (
        f"{count} {unit} of {len(ratings.values)} samples joined, from {low:g} to {high:g}; "
        f"{len(store) - len(ratings.values)} samples have none",
        f"not counted: {ratings.pristine} trials with a pristine image, {ratings.unrated} without a rating",
        f"columns: {', '.join(label.columns)}",
    )
    return Report("label", counts, lines)


@click.command(
    "label", epilog=examples("label corpus --metric lpips", "label corpus --table acr_trials.csv --name rating")
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--metric", help="Metric of pyiqa, with its weights present.")
@click.option("--device", default="cpu", show_default=True, help="PyTorch device of the metric: cpu, cuda, mps.")
@click.option("--table", type=PATH, help="CSV of ratings: the completed list of a study.")
@click.option("--name", help="Name of the label.  [default: the metric's name, or rating for a table]")
@click.option("--lower-better", is_flag=True, help="Lower ratings in the table are better.")
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Local worker processes for a metric."
)
def label_command(
    corpus: Path,
    metric: str | None,
    device: str,
    table: Path | None,
    name: str | None,
    lower_better: bool,
    workers: int,
) -> None:
    """Add a metric or people's ratings to the samples of a corpus."""
    if (metric is None) == (table is None):
        raise PipelineError("give either --metric or --table")
    if metric is not None:
        show(by_metric(corpus, metric, name=name, device=device, workers=Workers(workers)))
    elif table is not None:
        show(by_table(corpus, table, name=name or "rating", lower_better=lower_better))
