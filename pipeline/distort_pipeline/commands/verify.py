"""verify: compares every file of a store, model, export or manifest with its checksum."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from distort_pipeline.data import corpus_metadata, labels, pairs
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.files import (
    LISTING,
    file_digest,
    is_litter,
    is_unfinished,
    json_bytes,
    read_json,
    read_listing,
    sealed,
    store_files,
)
from distort_pipeline.data.manifests import Manifest, is_manifest, manifest_bytes, read_manifest
from distort_pipeline.data.remote import RemotePath
from distort_pipeline.data.sources import read_bytes
from distort_pipeline.data.tables import read_records
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers, run_tasks, track
from distort_pipeline.models import card
from distort_pipeline.records import ImageRecord, PairRecord

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


EXPORT, EVALUATION = "export", "evaluation"
KINDS = (pairs.KIND, card.KIND, EVALUATION, corpus_metadata.KIND, labels.KIND, EXPORT)
OURS = "distort-pipeline/"
SHARD_FOLDERS = ("ledger", "records", "reports", "truth")
TABLES = "tables"  # ledger of an export: the files of all parts


@dataclass(frozen=True)
class VerifyReport:
    """The problems of a store, and the number of its files; an intact store has no problem."""

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()  # files missing or unlike their checksum
    damaged: frozenset[str] = frozenset()  # shards of these files

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        checked = ", ".join(f"{count} {unit}" for unit, count in sorted(self.counts.items())) or "nothing"
        problems = len(self.problems)
        verdict = f"{problems} problem{'s' if problems > 1 else ''}" if problems else "all as it was made"
        return f"{self.kind}: {verdict}; checked {checked}"


def verify(path: Path, *, manifest: Path | None = None, workers: Workers | None = None) -> VerifyReport:
    """Return the problems of a manifest, pair store, model, evaluation, corpus or export, or of a folder of stores.

    Every file is read; problems do not stop the check. With a `manifest`, stores must be made of this manifest.
    PipelineError only if `path` holds no store or manifest of ours.
    """
    workers = workers or Workers()
    expected = read_manifest(manifest).digest if manifest else None
    if path.is_file() and _is_manifest(path):
        return _check_manifest(path, workers)
    if (path / "store.json").is_file():
        report = _check_store(path, expected, workers)
        leftovers = [] if isinstance(path, RemotePath) else _leftovers(path.resolve().parent, path.resolve().name)
        return VerifyReport(report.kind, report.counts, (*report.problems, *leftovers), report.changed, report.damaged)
    if not path.exists():
        raise PipelineError(f"there is nothing at {path}")
    if not path.is_dir():
        raise PipelineError(f"`verify` cannot check {path}: give a manifest, or the output folder of a step")
    return _check_folder(path, expected, workers)


def _check_store(folder: Path, manifest_digest: str | None, workers: Workers) -> VerifyReport:
    """Return the report of the store in `folder`."""
    try:
        metadata = read_json(folder / "store.json")
        kind = _kind_of(folder, metadata)
        listing_digest = _listing_digest(folder, metadata)
    except PipelineError as error:
        return VerifyReport("store", {}, (str(error),))
    problems = _header_problems(folder, metadata)
    sound = not problems
    if manifest_digest and metadata.get("manifest_digest", manifest_digest) != manifest_digest:
        problems.append(f"{folder} was made of another manifest")
    changed = changed_files(folder.resolve(), listing_digest, workers)
    problems += [f"{folder / name} {problem}" for name, problem in sorted(changed.items())]
    shards: Mapping[str, str] = {}
    files = 2  # store.json and the listing
    if LISTING not in changed:
        files += len(read_listing(folder))
        problems += strange_files(folder)
        shards = shards_of(folder, metadata) if sound and changed else {}
    if kind == corpus_metadata.KIND:
        problems += _label_problems(folder, metadata, workers)
    damaged = frozenset(shards[name] for name in changed if name in shards)
    return VerifyReport(kind, {"files": files}, tuple(problems), frozenset(changed), damaged)


def _kind_of(folder: Path, metadata: Any) -> str:
    store_format = metadata.get("format") if isinstance(metadata, dict) else None
    kind = store_format.removeprefix(OURS) if isinstance(store_format, str) else None
    if kind not in KINDS:
        raise PipelineError(f"{folder / 'store.json'} has a format unknown to `verify`: {store_format!r}")
    return str(kind)


def _listing_digest(folder: Path, metadata: Mapping[str, Any]) -> str:
    files = metadata.get("files")
    digest = files.get(LISTING) if isinstance(files, dict) else None
    if not isinstance(digest, str):
        raise PipelineError(f"{folder / 'store.json'} names no checksums of files; make the store again")
    return digest


def _header_problems(folder: Path, metadata: Mapping[str, Any]) -> list[str]:
    if metadata != sealed(metadata):
        return ["store.json was changed: its seal differs from the digest of its fields"]
    if (folder / "store.json").read_bytes() != json_bytes(metadata):
        return ["store.json was changed: its fields are not in canonical form"]
    return []


def _label_problems(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> list[str]:
    """Return the problems of labels added to a corpus."""
    problems = []
    for label in sorted((folder / labels.FOLDER).glob("[!.]*")):
        if is_litter(label.name):
            continue
        prefix = label.relative_to(folder)
        report = _check_store(label, None, workers)
        problems += [f"{prefix}: {problem}" for problem in report.problems]
        if not report.problems and read_json(label / "store.json").get("corpus_digest") != metadata.get("digest"):
            problems.append(f"{prefix}: it belongs to another corpus")
    return problems


def shards_of(folder: Path, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return listed file → shard; files of the whole store are left out, and files of a shard without its ledger."""
    kind = metadata["format"].removeprefix(OURS)
    names = list(read_listing(folder))
    if kind == EXPORT:
        return _parts_of(folder, names)
    per_shard = metadata["settings"]["generate"]["samples_per_shard"] if kind == corpus_metadata.KIND else 1
    images = _validation_images(folder, names) if kind == pairs.KIND else {}
    shards = {name: shard_of(name, per_shard=per_shard, images=images) for name in names}
    return {name: shard for name, shard in shards.items() if shard}


def shard_of(path: str, *, per_shard: int = 1, images: Mapping[str, str] | None = None) -> str | None:
    """Return the shard of a file in a corpus or pair store, or None for a file of the whole store.

    `images` maps each validation image of a pair store to its shard.

    >>> shard_of("pixels.zarr/distorted/jpeg/c.2.0.0.0"), shard_of("reports/jpeg.2-00002.png"), shard_of("index.html")
    ('jpeg-00002', 'jpeg.2-00002', None)
    >>> shard_of("pixels.zarr/pristine/00000017/zarr.json", per_shard=8), shard_of("pixels.zarr/train/jpeg/c.0.3.0.0.0")
    ('tiles-00002', 'train-00003')
    >>> shard_of("pixels.zarr/val/wren-1/pristine/zarr.json", images={"wren-1": "val-00000"})
    'val-00000'
    """
    parent, slash, name = path.partition("/")
    if slash and parent in SHARD_FOLDERS:
        return name.rpartition(".")[0]
    if match := re.fullmatch(r"pixels\.zarr/train/[^/]+/c\.\d+\.(\d+)\..*", path):
        return f"train-{int(match[1]):05d}"
    if match := re.fullmatch(r"pixels\.zarr/val/([^/]+)/.*", path):
        return (images or {}).get(match[1])
    match = re.fullmatch(r"pixels\.zarr/(?:pristine|distorted/([^/]+))/(?:c\.(\d+)\..*|(\d{8})/.*)", path)
    if not match:
        return None
    condition, number, image = match.groups()
    return f"{condition or 'tiles'}-{int(number) if number else int(image) // per_shard:05d}"


def _parts_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return file → part of an export; the tables of all parts belong to none."""
    batches: dict[str, str] = {}
    for ledger in names:
        batch = Path(ledger).stem
        if ledger.startswith("ledger/") and batch != TABLES:
            with suppress(PipelineError, KeyError, TypeError):
                batches |= dict.fromkeys(read_json(folder / ledger)["files"], batch)
            batches[ledger] = batch
    return batches


def _validation_images(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return validation image → shard, without shards of unreadable records."""
    images: dict[str, str] = {}
    for name in names:
        if name.startswith("records/val-"):
            with suppress(PipelineError, ValueError):
                images |= {record.image: Path(name).stem for record in read_records([folder / name], PairRecord)}
    return images


def _check_manifest(path: Path, workers: Workers) -> VerifyReport:
    """Return the report of the manifest at `path` and its image files."""
    try:
        manifest = read_manifest(path)
        data = path.read_bytes()
        root = str(json.loads(data.partition(b"\n")[0])["root"])
        problems = []
        if data != manifest_bytes(manifest.records, root, manifest.digest):
            problems.append(f"{path} was changed: it is not in the exact form written by ingest")
        changed = changed_images(manifest, workers)
    except WorkersError:
        raise
    except PipelineError as error:
        return VerifyReport("manifest", {}, (str(error),))
    problems += [f"{name} {problem}" for name, problem in changed.items()]
    return VerifyReport("manifest", {"images": len(manifest.records)}, tuple(problems))


def _check_folder(folder: Path, manifest_digest: str | None, workers: Workers) -> VerifyReport:
    """Return the problems of all stores and manifests below `folder`, each with its path."""
    if isinstance(folder, RemotePath):
        raise PipelineError(f"{folder} has no store.json: the store is unfinished or missing")
    kinds: Counter[str] = Counter()
    problems: list[str] = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        if "store.json" in files:
            reports = {here: _check_store(here, manifest_digest, workers)}
            folders[:] = []
        else:
            manifests = [here / name for name in sorted(files) if name.endswith(".jsonl") and _is_manifest(here / name)]
            reports = {path: _check_manifest(path, workers) for path in manifests}
            problems += _leftovers(here)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path, report in reports.items():
            kinds[report.kind] += 1
            problems += [f"{path.relative_to(folder)}: {problem}" for problem in report.problems]
    if not kinds:
        raise PipelineError(f"`verify` cannot check {folder}: no manifest, and no store.json of ours")
    return VerifyReport("folder", kinds, tuple(problems))


def _leftovers(parent: Path, name: str = "*") -> list[str]:
    """Return the problems of staging folders in `parent` of interrupted runs for stores called `name`."""
    return [
        interrupted(work) for work in sorted(parent.glob(f".{glob.escape(name) if name != '*' else name}.*.building"))
    ]


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return is_manifest(file.readline())
    except (OSError, UnicodeDecodeError):
        return False
