"""verify --repair: makes the damaged shards of a store again, beside the store, and replaces its damaged files.

Nothing in the store is touched before all of it is made and known to be right.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distort_pipeline.commands.params import parse_section
from distort_pipeline.commands.verify import VerifyReport, verify
from distort_pipeline.config import ExportConfig, GenerateConfig, PairsConfig
from distort_pipeline.data.arrays import group_metadata, read_records
from distort_pipeline.data.builds import DISK_FAULTS, OtherInputsError, StagedStore, require_writable
from distort_pipeline.data.files import (
    LISTING,
    check_free_space,
    from_json,
    is_sealed,
    read_json,
    read_listing,
    store_files,
    write_bytes,
)
from distort_pipeline.data.labels import FOLDER as LABELS
from distort_pipeline.data.leases import hold_lease
from distort_pipeline.data.remote import is_remote
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.models.store import model_folders
from distort_pipeline.records import PairRecord, Report

STAGING = ".repair.building"
SHARDED = ("pairs", "corpus", "export")
SHARD_FOLDERS = ("ledger", "records", "reports", "truth")
TABLES = "tables"  # ledger of an export: the files of all parts
REMEDIES = {  # for what has no shards
    "model": "move it away and train it again",
    "evaluation": "move it away and evaluate again",
    "labels": "delete it and run `label` again",
    "manifest": "ingest again",
    "folder": "name the damaged store in it",
}


def repair(
    path: Path, report: VerifyReport, make: Callable[[Path], object], *, workers: Workers | None = None
) -> VerifyReport:
    """Return the report of `verify` after the damaged shards of the store at `path`, and no others, are made again.

    `make` runs the step of the store for another folder. PipelineError if the store has no shards, if its metadata are
    damaged, or if anything for the repair is missing; the store is then as it was.
    """
    if not report.problems:
        return report
    if report.kind not in SHARDED:
        raise PipelineError(
            f"{path} has no shards to repair: {REMEDIES.get(report.kind, 'repeat its command in another folder')}"
        )
    if is_remote(path):
        raise PipelineError(f"stores in an object store are not repaired: delete {path} and repeat its command")
    if all(problem.startswith(f"{LABELS}/") for problem in report.problems):
        raise PipelineError(
            f"labels are not repaired: delete the damaged folder in {path / LABELS} and run `label` again"
        )
    metadata = read_json(path / "store.json")
    if not is_sealed(metadata):
        raise PipelineError(
            f"{path / 'store.json'} is damaged, and with it the settings of the store: {path} cannot be repaired and "
            "stays as it was; repeat its command in another folder"
        )
    if not report.changed:  # files that belong to nothing are for the user to delete
        return report
    store = path.resolve()
    with _unchanged(path):
        _require_writable(store, report)
        make(path)  # on a finished store: returns at once, or finds other settings or inputs
    with _staging(store, path) as staging:
        out = staging / "store"
        with _unchanged(path):
            _share(store, StagedStore(out, metadata["config_hash"]).start(), report)
            make(out)
            _require_same(store, out, report)
        _replace(store, out)
    return verify(path, workers=workers)


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raise an error of the block as a PipelineError with the remark that the store at `path` was not touched."""
    cannot = f"{path} cannot be repaired and stays as it was"
    try:
        yield
    except OtherInputsError:
        raise PipelineError(
            f"{cannot}: it was made with other settings or inputs than these; name its own with --manifest, --models, "
            "--external-pairs or --corpus"
        ) from None
    except PipelineError as error:
        raise PipelineError(f"{cannot}: {error}") from error
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise PipelineError(f"{cannot}: {error.strerror}") from error


def _require_writable(store: Path, report: VerifyReport) -> None:
    """Raise PipelineError unless every damaged file can be replaced."""
    folders = {next(folder for folder in (store / name).parents if folder.exists()) for name in report.changed}
    for folder in sorted(folders | {store}):
        try:
            require_writable(folder)
        except OSError as error:
            raise PipelineError(f"cannot write in {folder}: {error.strerror or error}") from None


@contextmanager
def _staging(store: Path, path: Path) -> Iterator[Path]:
    """Yield a new folder inside the store, so on its disk, deleted at the end in any case."""
    with hold_lease(store / ".lease", path):
        staging = store / STAGING
        shutil.rmtree(staging, ignore_errors=True)  # left of a killed repair
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _share(store: Path, work: Path, report: VerifyReport) -> None:
    """Fill the unfinished store `work` with the intact files of the store at `store`.

    Files of finished shards, never written again, are hard links where the disk has them; others are copies.
    """
    if LISTING in report.changed:
        return  # no file is known to be intact
    listing, shards = read_listing(store), shards_of(store)
    damaged = {shards[name] for name in report.changed if name in shards}
    kept = [name for name in listing if name not in report.changed and shards.get(name) not in damaged]
    if not _has_links(store, work):
        check_free_space(work, sum((store / name).stat().st_size for name in kept))
    for name in kept:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        if name not in shards or not _linked(store / name, work / name):
            shutil.copyfile(store / name, work / name)
    group = group_metadata()  # same in every store, and written by no step where all below it is finished
    for name in report.changed:
        if listing[name] == hashlib.sha256(group).hexdigest():
            write_bytes(work / name, group)


def shards_of(folder: Path) -> dict[str, str]:
    """Return listed file → shard; files of the whole store are left out, and files of a shard without its ledger."""
    names = list(read_listing(folder))
    settings = read_json(folder / "store.json")["settings"]
    if "export" in settings:
        return _parts_of(folder, names)
    per_shard = settings["generate"]["samples_per_shard"] if "generate" in settings else 1
    images = _validation_images(folder, names)
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


def _has_links(store: Path, work: Path) -> bool:
    probe = work / "link.partial"
    linked = _linked(store / LISTING, probe)
    probe.unlink(missing_ok=True)
    return linked


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:  # a disk without hard links, or a file on another disk
        return False
    return True


def _require_same(store: Path, rebuilt: Path, report: VerifyReport) -> None:
    """Raise PipelineError unless the rebuilt store has the digest and the files of the store at `store`."""
    lost = set() if LISTING in report.changed else set(read_listing(store)) - set(read_listing(rebuilt))
    if lost:
        raise PipelineError(f"rebuilt, it lacks {min(lost)}")
    if read_json(store / "store.json")["digest"] != read_json(rebuilt / "store.json")["digest"]:
        raise PipelineError(
            "rebuilt, it has another digest: by another version of a codec, another processor, or an unreadable image; "
            "compare the versions in `distort-pipeline doctor` and store.json"
        )


def _replace(store: Path, rebuilt: Path) -> None:
    """Replace each file of the store at `store` that differs from the rebuilt store; the metadata last."""
    for name in (*store_files(rebuilt), LISTING, "store.json"):
        new, old = rebuilt / name, store / name
        if not (old.is_file() and (new.samefile(old) or filecmp.cmp(new, old, shallow=False))):
            write_bytes(old, new.read_bytes())


Rebuild = Callable[[Path], Report]


@dataclass(frozen=True)
class Inputs:
    """Inputs of any kind of store; each kind needs some of these."""

    manifest: Path = Path("manifest.jsonl")
    models: Path | Mapping[str, Path] = Path("models")  # a folder of models, or name → folder
    corpus: Path = Path("corpus")
    root: Path | None = None  # folder of the manifest's images, if they have moved
    external: Mapping[str, str] = field(default_factory=dict)


def rebuilder(path: Path, inputs: Inputs, workers: Workers) -> Rebuild:
    """Return a function that makes the sharded store at `path` again in another folder, with the same settings."""
    steps = {"pairs": _pairs, "corpus": _corpus, "export": _export}

    def rebuild(out: Path) -> Report:
        settings = read_json(path / "store.json")["settings"]
        return steps[settings["format"]](settings, out, inputs, workers)

    return rebuild


def _pairs(settings: Mapping[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.steps import pairs

    config = parse_section(PairsConfig, {**settings["pairs"], "external": dict(inputs.external)}, where="store.json")
    return pairs.run(config, inputs.manifest, out, root=inputs.root, workers=workers)


def _corpus(settings: Mapping[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.data.corpus_metadata import EXTENDED_FROM, CorpusSettings
    from distort_pipeline.steps import generate

    values = {name: value for name, value in settings["generate"].items() if name != EXTENDED_FROM}
    config = parse_section(GenerateConfig, values, where="store.json")
    earlier = from_json(CorpusSettings, settings, Path("store.json"))
    known = model_folders(inputs.models) if isinstance(inputs.models, Path) else inputs.models
    models = {name: folder for name, folder in known.items() if name in settings["models"]}
    return generate.run(config, inputs.manifest, models, out, root=inputs.root, workers=workers, earlier=earlier)


def _export(settings: Mapping[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.steps import export

    config = parse_section(ExportConfig, settings["export"], where="store.json")
    # without labels added after the export
    return export.run(config, inputs.corpus, out, workers=workers, labels=tuple(settings["labels"]))
