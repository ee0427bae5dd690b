"""export: write a corpus as files that other tools open, one task for each batch."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import ExportConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.exports import EXPORTS, KIND, VERSION, ExportSource, Part
from distort_pipeline.exports.documents import write_checksums, write_documents
from distort_pipeline.exports.shards import ShardFormat
from distort_pipeline.exports.source import StudySettings
from distort_pipeline.planning.exports import matching, plan_parts
from distort_pipeline.progress import track
from distort_pipeline.records import Report, digest
from distort_pipeline.stores.builds import StagedStore
from distort_pipeline.stores.files import Ledger, check_free_space, write_json
from distort_pipeline.versions import package_versions

TABLES = "tables"  # the ledger's name for what belongs to all parts; no batch is called so: theirs end in a number
RUNTIME_ONLY = ("workers",)  # settings that decide no byte of an export


@dataclass(frozen=True)
class PartTask:
    """All that a worker needs to write one part."""

    corpus: Path
    work: Path
    format: str
    label: str
    labels: tuple[str, ...] | None
    part: Part


def run(
    config: ExportConfig,
    corpus: Path,
    out: Path,
    *,
    workers: Workers | None = None,
    labels: tuple[str, ...] | None = None,
) -> Report:
    """Write the corpus as `config.format` into `out`; parts that an interrupted run finished are kept.

    Of labels that were added to the corpus those in `labels` go along; None: all.
    Batches that are rejected stay out unless they are allowed; PipelineError if nothing else is left.
    """
    started = time.monotonic()
    exporter = EXPORTS.get(config.format)()
    corpus = corpus.resolve()  # workers may stand in another folder
    study = StudySettings(config.seed, config.study_sessions, config.study_trials)
    source = ExportSource(corpus, config.label, study, labels)
    settings = _settings(config, source)
    build = StagedStore(out, digest(settings))
    if build.complete():
        return Report("export", {}, (f"{out} is already complete; nothing to do",))
    parts, left_out = plan(config, source, scored=exporter.scored)
    with build.writing() as work:
        ledger = Ledger(work)
        finished = ledger.finished(part.batch for part in parts)
        left = [part for part in parts if part.batch not in finished]
        check_free_space(out, _bytes_needed(source, left, with_each=isinstance(exporter, ShardFormat)))
        tasks = [PartTask(corpus, work, config.format, config.label, labels, part) for part in left]
        results = run_tasks(write_part, tasks, workers or Workers(config.workers))
        for _ in track(results, total=len(parts), label="export", unit="batches", done=len(finished)):
            pass
        files = [*exporter.finish(source, parts, work), *write_documents(exporter, source, parts, work, config.format)]
        _note_tables(ledger, files, work, [part.batch for part in parts])
        metadata = _metadata(source, parts, settings, ledger.entries([part.batch for part in parts] + [TABLES]))
        write_json(work / "run.json", {"seconds": round(time.monotonic() - started, 3), "made_now": len(left)})
        build.publish(metadata, listed=False)  # the ledger has the digest of every file
    return _report(config, out, metadata, left_out)


@dataclass(frozen=True)
class LeftOut:
    """How many of the samples that were selected are not in an export."""

    flagged: int = 0  # of batches that are rejected
    without_score: int = 0


def plan(config: ExportConfig, source: ExportSource, *, scored: bool) -> tuple[tuple[Part, ...], LeftOut]:
    """Return the parts of an export, and how many samples are left out."""
    table = source.corpus.table()
    columns = {name: table[name].to_numpy() for name in ("distortion", "batch", "tile", "level", "split")}
    conditions = source.corpus.conditions
    columns["conditions"] = np.repeat(conditions, [source.corpus.metadata["samples"][name] for name in conditions])
    wanted = matching(columns, {"distortion": config.distortions, "level": config.levels, "split": config.splits})
    if not wanted.any():
        raise PipelineError(f"no sample of {source.corpus.folder} has all that was selected")
    without = 0
    flagged = np.zeros_like(wanted) if config.allow_flagged else _flagged(source, columns) & wanted
    wanted &= ~flagged
    if not wanted.any():
        raise PipelineError(
            f"all {int(flagged.sum())} samples that were selected of {source.corpus.folder} are of batches that are "
            "out of the bounds of their generators; its index.html says why. --allow-flagged exports them all the "
            "same, and the column within_bounds tells"
        )
    if scored:
        having = _having_score(source, wanted)
        without = int(np.sum(wanted & ~having))
        wanted &= having
        if not wanted.any():
            raise PipelineError(f"no sample has the label {config.label}; choose another with --label")
    return plan_parts(columns, conditions, wanted, config.limit), LeftOut(int(flagged.sum()), without)


def write_part(task: PartTask) -> str:
    """Write one part, then its line in the ledger. Return its name."""
    exporter = EXPORTS.get(task.format)()
    files = exporter.write_part(ExportSource(task.corpus, task.label, labels=task.labels), task.part, task.work)
    _note(Ledger(task.work), task.part.batch, _digests(files, task.work))
    return task.part.batch


def _settings(config: ExportConfig, source: ExportSource) -> dict[str, Any]:
    """Return all that decides the export's bytes, as plain values."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in RUNTIME_ONLY}
    if not source.flagged:
        del values["allow_flagged"]  # it decides nothing
    return {
        "format": KIND,
        "version": VERSION,
        "export": values,
        "corpus_digest": source.corpus.metadata["digest"],
        "labels": source.label_digests,
    }


def _having_score(source: ExportSource, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (samples,) which samples have a score; batches of which none is wanted are not looked at."""
    having = np.zeros(len(wanted), bool)
    place = 0
    for batch in source.corpus.batch_names():
        count = len(source.corpus.batch_records(batch))
        if wanted[place : place + count].any():
            whole = Part(batch, batch.rsplit("-", 1)[0], tuple(range(count)), ())
            having[place : place + count] = [sample.score is not None for sample in source.samples(whole)]
        place += count
    return having


def _flagged(source: ExportSource, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return (samples,) which are of batches that are out of the bounds of their generators."""
    batches = zip(columns["conditions"], columns["batch"], strict=True)
    return np.array([f"{condition}-{batch:05d}" in source.flagged for condition, batch in batches], bool)


def _digests(files: Sequence[Path], work: Path) -> dict[str, str]:
    """Return path → SHA-256: an export *is* its files, so bytes count here, not pixels."""
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.relative_to(work).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _note(ledger: Ledger, name: str, digests: Mapping[str, str]) -> None:
    entry = {"shard": name, "files": dict(digests)}
    ledger.note(name, {**entry, "digest": digest(entry)})


def _note_tables(ledger: Ledger, files: Sequence[Path], work: Path, names: Sequence[str]) -> None:
    """Write the checksums of all files, and the ledger's line of what belongs to all parts."""
    own = _digests(files, work)
    parts = {path: sha for entry in ledger.entries(names) for path, sha in entry["files"].items()}
    checksums = write_checksums(work, {**parts, **own})
    _note(ledger, TABLES, {**own, **_digests([checksums], work)})


def _metadata(
    source: ExportSource, parts: Sequence[Part], settings: dict[str, Any], entries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        "digest": digest([settings, [entry["digest"] for entry in entries]]),
        "settings": settings,
        "parts": [part.batch for part in parts],
        "counts": {
            "samples": sum(part.samples for part in parts),
            "tiles": sum(len(part.new_tiles) for part in parts),
            "files": sum(len(entry["files"]) for entry in entries),
        },
        "corpus_digest": settings["corpus_digest"],
        "manifest_digest": source.corpus.metadata["manifest_digest"],
        "packages": package_versions(["pillow", "pyarrow", "numpy", "zarr", "distort-pipeline"]),
    }


def _report(config: ExportConfig, out: Path, metadata: Mapping[str, Any], left_out: LeftOut) -> Report:
    counts = metadata["counts"]
    lines = [f"{counts['samples']} samples of {counts['tiles']} tiles as {config.format}: {counts['files']} files"]
    if left_out.flagged:
        lines.append(f"{left_out.flagged} samples are of batches rejected and left out; --allow-flagged takes them")
    if left_out.without_score:
        lines.append(f"{left_out.without_score} samples have no {config.label} and are left out")
    return Report("export", counts, (*lines, f"export: {out}"))


def _bytes_needed(source: ExportSource, parts: Sequence[Part], *, with_each: bool) -> int:
    """Return how many bytes `parts` need at most: pixels that do not compress, samples and tiles apart.

    Tiles stand once, or `with_each` sample of them.
    """
    largest = 0
    for part in parts:
        records = source.corpus.batch_records(part.batch)
        areas = [records[place].height * records[place].width for place in part.rows]
        largest += 2 * sum(areas) if with_each else sum(areas) + max(areas) * len(part.new_tiles)
    return 3 * largest
