"""Checks of files against checksums: of a store against its listing, of images against their manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.progress import track
from distort_pipeline.records import ImageRecord
from distort_pipeline.stores.containers import InvalidImage
from distort_pipeline.stores.files import LISTING, file_digest, is_unfinished, read_listing, store_files
from distort_pipeline.stores.manifests import Manifest
from distort_pipeline.stores.sources import read_bytes

FILES_PER_TASK = 64

Item = TypeVar("Item")
Task = TypeVar("Task")


@dataclass(frozen=True)
class ListedFiles:
    """The task of a worker: some files of a store, with their SHA-256."""

    folder: Path
    digests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ListedImages:
    """The task of a worker: some rows of a manifest, with the root folder of their paths."""

    root: Path
    records: tuple[ImageRecord, ...]


def changed_files(folder: Path, listing_digest: object, workers: Workers) -> dict[str, str]:
    """Return path → problem of each file of a store that is missing or differs from the listing.

    A damaged listing is the only entry: without it, any file may have changed.
    """
    problem = _problem_of(folder / LISTING, listing_digest)
    if problem:
        return {LISTING: problem}
    tasks = [ListedFiles(folder, items) for items in _interleaved(list(read_listing(folder).items()))]
    return _run(check_files, tasks, workers)


def check_files(task: ListedFiles) -> dict[str, str]:
    """Return path → problem of each changed file."""
    problems = {name: _problem_of(task.folder / name, expected) for name, expected in task.digests}
    return {name: problem for name, problem in problems.items() if problem}


def _problem_of(path: Path, expected: object) -> str:
    """Return the problem of a file, or '' if its SHA-256 is the `expected` one."""
    try:
        same = file_digest(path) == expected
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if same else "was changed: its checksum differs"


def strange_files(folder: Path) -> Iterator[str]:
    """Yield the problem of each file that is in no listing, and of each leftover of an interrupted run.

    Litter of file managers passes.
    """
    known = read_listing(folder)
    unfinished: set[str] = set()
    for name in store_files(folder):
        parents = [parent for parent in reversed((Path(name), *Path(name).parents)) if is_unfinished(parent.name)]
        if parents:
            unfinished.add(parents[0].as_posix())
        elif name not in known:
            yield f"{folder / name} belongs to nothing in this store"
    yield from (interrupted(folder / name) for name in sorted(unfinished))


def interrupted(path: Path) -> str:
    """Return the problem of a leftover of an interrupted run."""
    return f"{path} is left of an interrupted run; repeat its command, or delete it"


def changed_images(manifest: Manifest, workers: Workers) -> dict[str, str]:
    """Return path → problem of each image file of a manifest that is missing or was changed."""
    if not manifest.root.is_dir():
        raise PipelineError(f"its images were not checked: {manifest.root} is no folder")
    tasks = [ListedImages(manifest.root, records) for records in _interleaved(manifest.records)]
    return _run(check_images, tasks, workers)


def check_images(task: ListedImages) -> dict[str, str]:
    """Return path → problem of each changed image file."""
    problems = {}
    for record in task.records:
        try:
            if hashlib.sha256(read_bytes(task.root, record.path)).hexdigest() != record.file_digest:
                problems[record.path] = "was changed since it was ingested: its checksum differs"
        except InvalidImage as invalid:
            problems[record.path] = f"cannot be used any more: {invalid.reason}"
    return problems


def _run(check: Callable[[Task], dict[str, str]], tasks: Sequence[Task], workers: Workers) -> dict[str, str]:
    problems: dict[str, str] = {}
    for batch_problems in track(run_tasks(check, tasks, workers), total=len(tasks), label="verify", unit="batches"):
        problems |= batch_problems
    return problems


def _interleaved(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    for start in range(0, len(items), FILES_PER_TASK):
        yield tuple(items[start : start + FILES_PER_TASK])
