"""export: write a corpus as files in a common format, one task for each batch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import RUNTIME_ONLY, ExportConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.leases import Ledger, LedgerEntry, file_digests
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.exports import EXPORTS, KIND, VERSION, ExportSource, Part, Score, ShardFormat
from distort_pipeline.exports.croissant import write_checksums, write_documents
from distort_pipeline.exports.source import StudySettings, matching, plan_parts
from distort_pipeline.records import Json, Report, digest, package_versions, row

TABLES = "tables"  # name in the ledger for the files of all parts; names of batches end in a number


@dataclass(frozen=True)
class PartTask:
    """The task of one part."""

    corpus: Path
    work: Path
    format: str
    label: str
    labels: tuple[str, ...] | None
    truth: Mapping[str, Any]  # arguments of ExportSource
    part: Part


def run(
    config: ExportConfig,
    corpus: Path,
    out: Path,
    *,
    workers: Workers | None = None,
    labels: tuple[str, ...] | None = None,
) -> Report:
    """Write the corpus as `config.format` into `out`; finished parts of an interrupted run are kept.

    `labels` are the added labels of the corpus to export; None: all. Rejected batches are left out unless allowed;
    PipelineError if no sample remains.
    """
    started = time.monotonic()
    require_destination(out)
    exporter = EXPORTS.get(config.format)()
    corpus = corpus.resolve()  # workers may stand in another folder
    study = StudySettings(config.seed, config.study_sessions, config.study_trials)
    manifest, pairs = (None if path is None else str(Path(path).resolve()) for path in (config.manifest, config.pairs))
    truth: dict[str, Any] = {"with_truth": config.with_truth, "manifest": manifest, "pairs": pairs}
    source = ExportSource(corpus, config.label, study, labels, **truth)
    _require_scale(config.format, exporter.rating_scale, source.score)
    settings = _settings(config, source)
    build = StagedStore(out, digest(settings))
    complete = build.complete()
    parts, left_out = plan(config, source, scored=exporter.scored)
    remarks = tuple(_remarks(left_out, config.label))
    if complete:
        return Report("export", {}, (f"{out} is already complete; nothing to do", *remarks))
    with build.writing() as work:
        ledger = Ledger(work)
        finished = ledger.finished(part.batch for part in parts)
        unfinished = [part for part in parts if part.batch not in finished]
        build.require_space(_bytes_needed(source, unfinished, per_sample=isinstance(exporter, ShardFormat)))
        tasks = {part.batch: PartTask(corpus, work, config.format, config.label, labels, truth, part) for part in parts}
        workers = workers or Workers(config.workers)
        for _ in ledger.run_unfinished(write_part, tasks, workers, label="export", unit="batches"):
            pass
        files = exporter.finish(source, parts, work)
        files += write_documents(exporter, source, parts, work, config.format, date=config.date)
        names = [part.batch for part in parts]
        _note_tables(ledger, files, names)
        entries = ledger.entries([*names, TABLES])
        counts = {
            "samples": sum(part.samples for part in parts),
            "tiles": sum(len(part.new_tiles) for part in parts),
            "files": sum(len(entry["files"]) for entry in entries),
        }
        metadata = ExportMetadata(
            digest=digest([settings, [entry["digest"] for entry in entries]]),
            settings=settings,
            parts=names,
            counts=counts,
            corpus_digest=source.corpus.metadata.digest,
            manifest_digest=source.corpus.metadata.manifest_digest,
            packages=package_versions(["pillow", "pyarrow", "numpy", "zarr", "distort-pipeline"]),
        )
        seconds = round(time.monotonic() - started, 3)
        build.publish(row(metadata), run={"seconds": seconds, "made_now": len(unfinished)})
    summary = f"{counts['samples']} samples of {counts['tiles']} tiles as {config.format}: {counts['files']} files"
    return Report("export", counts, (summary, *remarks, f"export: {out}"))


@dataclass(frozen=True)
class LeftOut:
    """Counts of selected samples without a place in the export."""

    flagged: int = 0  # of rejected batches
    without_score: int = 0


def plan(config: ExportConfig, source: ExportSource, *, scored: bool) -> tuple[tuple[Part, ...], LeftOut]:
    """Return the parts of an export, and the counts of samples left out."""
    table = source.corpus.table()
    columns = {name: table[name].to_numpy() for name in ("distortion", "batch", "tile", "level", "split")}
    conditions = source.corpus.conditions
    columns["conditions"] = source.corpus.conditions_of_samples()
    selected = matching(columns, {"distortion": config.distortions, "level": config.levels, "split": config.splits})
    if not selected.any():
        raise PipelineError(f"no sample of {source.corpus.folder} matches --select")
    without_score = 0
    flagged = np.zeros_like(selected) if config.allow_flagged else _flagged(source, columns) & selected
    selected &= ~flagged
    if not selected.any():
        raise PipelineError(
            f"all {int(flagged.sum())} selected samples of {source.corpus.folder} are of rejected batches; its "
            "index.html has the reasons. --allow-flagged exports them too, marked in the column accepted"
        )
    if scored:
        scored_samples = _having_score(source, selected)
        without_score = int(np.sum(selected & ~scored_samples))
        selected &= scored_samples
        if not selected.any():
            raise PipelineError(f"no sample has the label {config.label}; choose another with --label")
    return plan_parts(columns, conditions, selected, config.limit), LeftOut(int(flagged.sum()), without_score)


def write_part(task: PartTask) -> LedgerEntry:
    """Write one part, then the entry of the ledger. Return the entry."""
    exporter = EXPORTS.get(task.format)()
    source = ExportSource(task.corpus, task.label, labels=task.labels, **task.truth)
    files = exporter.write_part(source, task.part, task.work)
    return Ledger(task.work).note(task.part.batch, {"files": file_digests(task.work, files)})


def _require_scale(form: str, scale: tuple[float, float] | None, score: Score) -> None:
    """Raise PipelineError if people's ratings exceed the scale of a format."""
    if scale is None or not score.rated or score.lower_better or score.extremes is None:
        return
    low, high = score.extremes
    if low < scale[0] or high > scale[1]:
        raise PipelineError(
            f"--label {score.name} has ratings from {low:g} to {high:g}, but {form} is on a scale of {scale[0]:g} to "
            f"{scale[1]:g}: correct or rescale the table, label again under another --name, or choose another --format"
        )


def _settings(config: ExportConfig, source: ExportSource) -> dict[str, Json]:
    """Return all settings with an effect on the bytes of the export, as plain values."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in RUNTIME_ONLY}
    del values["manifest"]  # its digest is that of the corpus
    del values["pairs"]
    if not source.flagged:
        del values["allow_flagged"]  # without effect
    if not config.with_truth:
        del values["with_truth"]
    return {
        "format": KIND,
        "version": VERSION,
        "export": values,
        "corpus_digest": source.corpus.metadata.digest,
        "labels": source.label_digests,
        **({"pairs_digest": open_pairs(config.pairs).metadata.digest} if config.pairs else {}),
    }


def _having_score(source: ExportSource, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask (samples,) of samples with a score; batches without a selected sample are not read."""
    having = np.zeros(len(selected), bool)
    first = 0
    for batch in source.corpus.batch_names():
        count = len(source.corpus.batch_records(batch))
        if selected[first : first + count].any():
            batch_part = Part(batch, batch.rsplit("-", 1)[0], tuple(range(count)), ())
            having[first : first + count] = [sample.score is not None for sample in source.samples(batch_part)]
        first += count
    return having


def _flagged(source: ExportSource, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return a mask (samples,) of the samples of rejected batches."""
    batches = zip(columns["conditions"], columns["batch"], strict=True)
    return np.array([f"{condition}-{batch:05d}" in source.flagged for condition, batch in batches], bool)


def _note_tables(ledger: Ledger, files: Sequence[Path], names: Sequence[str]) -> None:
    """Write the checksums of all files, and the entry of the ledger for the files of all parts."""
    tables = file_digests(ledger.work, files)
    parts = {path: sha for entry in ledger.entries(names) for path, sha in entry["files"].items()}
    checksums = write_checksums(ledger.work, {**parts, **tables})
    ledger.note(TABLES, {"files": {**tables, **file_digests(ledger.work, [checksums])}})


@dataclass(frozen=True, kw_only=True)
class ExportMetadata:
    """The store.json of an export."""

    format: str = f"distort-pipeline/{KIND}"
    version: int = VERSION
    digest: str  # of the settings and the digests of all files
    settings: Mapping[str, Any]  # all with an effect on the bytes
    parts: list[str]  # names of the exported batches
    counts: Mapping[str, int]  # samples, reference tiles, files
    corpus_digest: str
    manifest_digest: str
    packages: Mapping[str, str]  # name → version


def _remarks(left_out: LeftOut, label: str) -> Iterator[str]:
    """Yield the lines of every summary: samples left out."""
    if left_out.flagged:
        yield f"{left_out.flagged} samples of rejected batches are left out; --allow-flagged exports them"
    if left_out.without_score:
        yield f"{left_out.without_score} samples have no {label} and are left out"


def _bytes_needed(source: ExportSource, parts: Sequence[Part], *, per_sample: bool) -> int:
    """Return the number of bytes of `parts` without compression.

    Reference tiles are stored once, or `per_sample`.
    """
    pixels = 0
    for part in parts:
        records = source.corpus.batch_records(part.batch)
        areas = [records[row].height * records[row].width for row in part.rows]
        pixels += 2 * sum(areas) if per_sample else sum(areas) + max(areas) * len(part.new_tiles)
    return 3 * pixels
