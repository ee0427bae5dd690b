"""label: adds a metric or ratings by people to a finished corpus, whose digest stays."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.metric_names import COMPUTED
from distort_pipeline.progress import track
from distort_pipeline.records import Report, digest
from distort_pipeline.stores.builds import StagedStore, require_destination
from distort_pipeline.stores.corpora import CorpusStore, open_corpus
from distort_pipeline.stores.files import Ledger
from distort_pipeline.stores.labels import FOLDER, KIND, METRIC, PEOPLE, VERSION, LabelStore, Rating, write_values
from distort_pipeline.stores.ratings import RATING, Ratings, read_ratings
from distort_pipeline.tasks.metric_labels import MetricTask, load_metric, measure_batch
from distort_pipeline.versions import package_versions

METRIC_PACKAGES = ("pyiqa", "torch", "torchvision", "distort-pipeline")


def by_metric(corpus: Path, metric: str, *, name: str | None = None, workers: Workers | None = None) -> Report:
    """Measure every sample with a metric of pyiqa; batches measured by an interrupted run are kept."""
    store = open_corpus(corpus.resolve())  # workers may run in another folder
    workers = workers or Workers()
    name = _checked(name or (f"pyiqa_{metric}" if metric in COMPUTED else metric))
    require_destination(store.folder / FOLDER / name)
    loaded = load_metric(metric, workers.threads)
    settings = {
        "format": KIND,
        "version": VERSION,
        "origin": METRIC,
        "name": name,
        "metric": metric,
        "lower_better": loaded.lower_better,
        "corpus_digest": store.metadata["digest"],
        "packages": package_versions(METRIC_PACKAGES),
    }
    build = _build(store, settings)
    if build.complete():
        return Report("label", {}, (f"{build.out} is already complete; nothing to do",))
    batches = store.batch_names()
    with build.writing() as work:
        finished = Ledger(work).finished(batches)
        unfinished = [batch for batch in batches if batch not in finished]
        tasks = [MetricTask(store.folder, work, metric, batch, workers.threads) for batch in unfinished]
        results = run_tasks(measure_batch, tasks, workers)
        for _ in track(results, total=len(batches), label="label", unit="batches", done=len(finished)):
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
    settings = {
        "format": KIND,
        "version": VERSION,
        "origin": PEOPLE,
        "name": _checked(name),
        "rating_kind": ratings.kind,
        "lower_better": lower_better,
        "corpus_digest": store.metadata["digest"],
        "table_digest": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    build = _build(store, settings)
    if build.complete():
        report = _table_report(store, ratings, LabelStore(build.out))
        return dataclasses.replace(report, lines=(f"{build.out} is already complete; nothing to do", *report.lines))
    with build.writing() as work:
        for batch in store.batch_names():
            values = [rating(ratings, record.sample) for record in store.batch_records(batch)]
            write_values(work, batch, values, Rating)
        _publish(build, store, settings, {"extremes": list(ratings.extremes)})
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


def _build(store: CorpusStore, settings: dict[str, Any]) -> StagedStore:
    """Return the staged store of the label; PipelineError if the corpus has another label of this name."""
    out = store.folder / FOLDER / settings["name"]
    build = StagedStore(out, digest(settings))
    try:
        build.complete()
    except PipelineError:
        raise PipelineError(
            f"{store.folder} has another label {settings['name']!r} already: give this one another --name, or delete "
            f"{out}"
        ) from None
    return build


def _publish(
    build: StagedStore, store: CorpusStore, settings: dict[str, Any], further: Mapping[str, Any] | None = None
) -> None:
    entries: Sequence[dict[str, Any]] = Ledger(build.work).entries(store.batch_names())
    build.publish(
        {
            "format": f"distort-pipeline/{KIND}",
            "version": VERSION,
            "digest": digest([settings, [entry["digest"] for entry in entries]]),
            "settings": settings,
            "name": settings["name"],
            "origin": settings["origin"],
            "lower_better": settings["lower_better"],
            "corpus_digest": settings["corpus_digest"],
            "batches": store.batch_names(),
            "counts": {"samples": len(store)},
            **(further or {}),
        }
    )


def _table_report(store: CorpusStore, ratings: Ratings, label: LabelStore) -> Report:
    count = sum(len(values) for sessions in ratings.values.values() for values in sessions.values())
    unit = "ratings" if ratings.kind == RATING else "values of choices"
    counts = {
        "samples": len(ratings.values),
        "ratings": count,
        "pristine": ratings.pristine,
        "unrated": ratings.unrated,
    }
    low, high = ratings.extremes
    lines = (
        f"{count} {unit} of {len(ratings.values)} samples joined, from {low:g} to {high:g}; "
        f"{len(store) - len(ratings.values)} samples have none",
        f"not counted: {ratings.pristine} trials with a pristine image, {ratings.unrated} without a rating",
        f"columns: {', '.join(label.columns)}",
    )
    return Report("label", counts, lines)
