"""export: write a corpus as files that other tools open, one task for each batch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.config import ExportConfig
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.exports import EXPORTS, KIND, VERSION, Part
from distort_pipeline.planning.corpora import even_quotas
from distort_pipeline.progress import track
from distort_pipeline.records import Report, digest
from distort_pipeline.stores.builds import Build
from distort_pipeline.stores.corpora import CorpusStore, open_corpus
from distort_pipeline.stores.files import Ledger, check_free_space, write_json
from distort_pipeline.versions import package_versions

TABLES = "tables"  # the ledger's name for what belongs to all parts; no batch is called so: theirs end in a number


@dataclass(frozen=True)
class PartTask:
    """All that a worker needs to write one part."""

    corpus: Path
    work: Path
    format: str
    part: Part


def run(config: ExportConfig, corpus: Path, out: Path, *, workers: Workers | None = None) -> Report:
    """Write the corpus as `config.format` into `out`; parts that an interrupted run finished are kept.

    A limit takes as many samples of each distortion, each time its first ones, so that the distortions share their
    reference tiles.
    """
    started = time.monotonic()
    exporter = EXPORTS.get(config.format)()
    corpus = corpus.resolve()  # workers may stand in another folder
    store = open_corpus(corpus)
    settings = {
        "format": KIND,
        "version": VERSION,
        "export": {"format": config.format, "limit": config.limit},
        "corpus_digest": store.header["digest"],
    }
    build = Build(out, digest(settings))
    if build.complete():
        return Report("export", {}, (f"{out} is already complete; nothing to do",))
    parts = plan_parts(store, config.limit)
    with build.writing() as work:
        ledger = Ledger(work)
        finished = ledger.finished(part.batch for part in parts)
        left = [part for part in parts if part.batch not in finished]
        check_free_space(out, _bytes_needed(store, left))
        tasks = [PartTask(corpus, work, config.format, part) for part in left]
        results = run_tasks(write_part, tasks, workers or Workers(config.workers))
        for _ in track(results, total=len(parts), label="export", unit="batches", done=len(finished)):
            pass
        _note(ledger, TABLES, exporter.finish(store, parts, work), work)
        header = _header(store, parts, settings, ledger.entries([part.batch for part in parts] + [TABLES]))
        write_json(work / "run.json", {"seconds": round(time.monotonic() - started, 3), "made_now": len(left)})
        build.publish(header, listed=False)  # the ledger has the digest of every file
    counts = header["counts"]
    return Report(
        "export",
        counts,
        (
            f"{counts['samples']} samples of {counts['tiles']} tiles as {config.format}: {counts['files']} files",
            f"export: {out}",
        ),
    )


def plan_parts(corpus: CorpusStore, limit: int | None) -> tuple[Part, ...]:
    """Return the parts of an export: for each distortion its first batches, evenly up to `limit` samples in all."""
    available = [corpus.header["samples"][name] for name in corpus.distortions]
    quotas = available if limit is None else even_quotas(available, limit)
    table = corpus.table().select(["batch", "tile"])
    batches, tiles = (table[name].to_numpy() for name in ("batch", "tile"))
    parts: list[Part] = []
    seen = np.zeros(int(tiles.max()) + 1, bool)
    first = 0
    for name, quota, own in zip(corpus.distortions, quotas, available, strict=True):
        numbers, starts, lengths = np.unique(batches[first : first + quota], return_index=True, return_counts=True)
        for number, start, length in zip(numbers, first + starts, lengths, strict=True):
            used = np.unique(tiles[start : start + length])
            new = used[~seen[used]]
            seen[new] = True
            parts.append(Part(f"{name}-{number:05d}", name, int(length), tuple(new.tolist())))
        first += own
    return tuple(parts)


def write_part(task: PartTask) -> str:
    """Write one part, then its line in the ledger. Return its name."""
    exporter = EXPORTS.get(task.format)()
    files = exporter.write_part(open_corpus(task.corpus), task.part, task.work)
    _note(Ledger(task.work), task.part.batch, files, task.work)
    return task.part.batch


def _note(ledger: Ledger, name: str, files: Sequence[Path], work: Path) -> None:
    """Write the digest of each file into the ledger: an export *is* its files, so bytes count here, not pixels."""
    digests = {path.relative_to(work).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    entry = {"shard": name, "files": digests}
    ledger.note(name, {**entry, "digest": digest(entry)})


def _header(
    corpus: CorpusStore, parts: Sequence[Part], settings: dict[str, Any], entries: Sequence[dict[str, Any]]
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
        "manifest_digest": corpus.header["manifest_digest"],
        "packages": package_versions(["pillow", "numpy", "zarr", "distort-pipeline"]),
    }


def _bytes_needed(corpus: CorpusStore, parts: Sequence[Part]) -> int:
    """Return how many bytes `parts` need at most: pixels that do not compress, samples and tiles apart."""
    largest = 0
    for part in parts:
        areas = [record.height * record.width for record in part.records(corpus)]
        largest += sum(areas) + max(areas) * len(part.new_tiles)
    return 3 * largest
