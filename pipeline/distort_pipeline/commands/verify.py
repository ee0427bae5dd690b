"""verify: compares every file of a store, model, export or manifest with its checksum."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distort_pipeline.commands.checks import changed_files, changed_images, interrupted, strange_files
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers
from distort_pipeline.records import PairRecord
from distort_pipeline.stores import corpora, labels, models, pairs
from distort_pipeline.stores.files import LISTING, is_litter, json_bytes, read_json, read_listing, sealed
from distort_pipeline.stores.manifests import is_manifest, manifest_bytes, read_manifest
from distort_pipeline.stores.remote import RemotePath
from distort_pipeline.stores.tables import read_records

EXPORT, EVALUATION = "export", "evaluation"
KINDS = (pairs.KIND, models.KIND, EVALUATION, corpora.KIND, labels.KIND, EXPORT)
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
    if kind == corpora.KIND:
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
    per_shard = metadata["settings"]["generate"]["samples_per_shard"] if kind == corpora.KIND else 1
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
