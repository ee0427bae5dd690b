"""verify --repair: makes the damaged shards of a store again, beside the store, and replaces its damaged files.

Nothing in the store is touched before all of it is made and known to be right.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distort_pipeline.commands.verify import VerifyReport, shards_of, verify
from distort_pipeline.data.arrays import group_metadata
from distort_pipeline.data.builds import DISK_FAULTS, OtherInputsError, StagedStore, require_writable
from distort_pipeline.data.files import (
    LISTING,
    check_free_space,
    read_json,
    read_listing,
    sealed,
    store_files,
    write_bytes,
)
from distort_pipeline.data.labels import FOLDER as LABELS
from distort_pipeline.data.leases import hold_lease
from distort_pipeline.data.remote import RemotePath
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers

STAGING = ".repair.building"
SHARDED = ("pairs", "corpus", "export")
MAKE_AGAIN = {"model": "train it again", "evaluation": "delete it and evaluate again", "manifest": "ingest again"}


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
        raise PipelineError(f"{path} has no shards to repair: {MAKE_AGAIN.get(report.kind, 'make it again')}")
    if isinstance(path, RemotePath):
        raise PipelineError(f"stores in an object store are not repaired: delete {path} and repeat its command")
    if all(problem.startswith(f"{LABELS}/") for problem in report.problems):
        raise PipelineError(
            f"labels are not repaired: delete the damaged folder in {path / LABELS} and run `label` again"
        )
    metadata = read_json(path / "store.json")
    if metadata != sealed(metadata):
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
    listing, shards = read_listing(store), shards_of(store, read_json(store / "store.json"))
    kept = [name for name in listing if name not in report.changed and shards.get(name) not in report.damaged]
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
