"""Staged stores: interrupted work is continued, and only complete stores are published.

The place of a store is settled once, at the start: links are followed. An empty folder (also the target of a link, a
mount point, the working folder) is filled from a staging folder inside it. A missing folder is made by a single rename
of a staging folder beside it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distort_pipeline.data.files import (
    LABELS,
    atomic_file,
    cannot_write,
    check_free_space,
    is_litter,
    is_ours,
    is_sealed,
    is_unfinished,
    read_json,
    read_listing,
    sealed,
    stored_metadata,
    write_json,
    write_listing,
)
from distort_pipeline.data.leases import Ledger, hold_lease
from distort_pipeline.data.remote import is_remote, network_errors
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import sweep
from distort_pipeline.records import Json

FIRST_LINE_CHARACTERS = 1000
METADATA = "zarr.json"  # of the groups and arrays of pixels
NOTE = "building.json"  # in an object store: the config_hash of the unfinished work
# the disk is full, read-only, not permitted or failing: a matter for the user
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class OtherInputsError(PipelineError):
    """A finished store was made with other settings or inputs."""


def require_destination(out: Path) -> Path:
    """Return the absolute path of `out`, links followed; PipelineError, before any work, if it cannot be written.

    A folder with a finished store passes: `StagedStore.complete` compares settings and inputs.
    """
    if is_remote(out):
        return out
    destination = settle(out)
    try:
        _require_outside_stores(out, destination)
        if (destination / "store.json").is_file():
            return destination
        if not (_is_vacant(destination) or _unfinished_inside(destination)):
            raise _not_ours(out)
        require_writable(next(folder for folder in (destination, *destination.parents) if folder.exists()))
    except OSError as error:
        raise PipelineError(
            f"cannot write {out}: {error.strerror or error}; choose another folder with --out"
        ) from None
    return destination


def _require_outside_stores(out: Path, destination: Path) -> None:
    """Raise PipelineError if `destination` is inside a finished store, except for labels and unfinished work."""
    for folder in destination.parents:
        if is_unfinished(folder.name):
            return
        if destination.parent != folder / LABELS and _is_store(folder):
            raise PipelineError(f"{out} is inside the store {folder}; choose another folder with --out")


def _is_store(folder: Path) -> bool:
    try:
        return is_ours(stored_metadata(folder))
    except PipelineError:
        return False


def require_new_folder(out: Path) -> Path:
    """Return the path of `out` as `require_destination` does; PipelineError also for a finished store."""
    destination = require_destination(out)
    if not _is_vacant(destination):
        raise PipelineError(f"{out} already exists; choose another folder with --out, or delete it first")
    return destination


def require_file(path: Path, is_ours: Callable[[str], bool]) -> None:
    """Raise PipelineError, before any work, unless a file can be written at `path`.

    An existing file is replaced only if empty, or if `is_ours` of its first line.
    """
    destination = settle(path)
    try:
        if destination.is_dir():
            raise PipelineError(f"cannot write the file {path}: it is a folder")
        if destination.exists():
            with destination.open(encoding="utf-8", errors="replace") as file:
                first_line = file.readline(FIRST_LINE_CHARACTERS)
            if first_line and not is_ours(first_line):
                raise PipelineError(f"{path} exists, and this program has not made it: choose another file")
        require_writable(next(folder for folder in destination.parents if folder.exists()))
    except OSError as error:
        raise PipelineError(f"cannot write {path}: {error.strerror or error}") from None


def settle(out: Path) -> Path:
    """Return the absolute path of `out`, links followed."""
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise PipelineError(f"cannot write {out}: {error}") from None


def require_writable(folder: Path) -> None:
    """Raise OSError unless folders can be created in `folder`."""
    probe = folder / f".{uuid.uuid4().hex[:8]}.partial"
    probe.mkdir()
    probe.rmdir()


def staging_folder(destination: Path, name: str) -> Path:
    """Return the staging folder called `name` for a store at `destination`: inside it if empty, else beside it."""
    inside = destination / f".{name}.building"
    is_inside = inside.is_dir() or (destination.is_dir() and _is_vacant(destination))
    return inside if is_inside else _beside(destination, f"{name}.building")


def share_files(store: Path, work: Path, names: Iterable[str]) -> None:
    """Fill an unfinished store with the named files of a finished one; those already there stay.

    Files are hard links where the disk has them, as no step changes them; metadata of arrays, which grow, are copies.
    """
    missing = [name for name in names if not (work / name).exists()]
    copied = [name for name in missing if not _linked(store / name, work / name)]
    check_free_space(work, sum((store / name).stat().st_size for name in copied))
    for name in copied:
        with atomic_file(work / name, flush=False) as partial:
            shutil.copyfile(store / name, partial)


def _linked(source: Path, target: Path) -> bool:
    """Make `target` a hard link, if it may be one; return whether it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.name != METADATA:
            os.link(source.resolve(), target)
    except OSError:  # a disk without hard links, or a file on another disk
        return False
    return source.name != METADATA


def restore_replaced(out: Path) -> None:
    """Move a store back to `out` that a kill left aside just before its successor took its place."""
    destination = settle(out)
    if not destination.exists() and _replaced(destination).is_dir():
        _replaced(destination).rename(destination)


def _replaced(destination: Path) -> Path:
    return _beside(destination, "replaced.building")


def _beside(destination: Path, name: str) -> Path:
    return destination.parent / f".{destination.name}.{name}"


def move_in(work: Path, destination: Path) -> None:
    """Move a finished staging folder to `destination`; a kill in the middle is finished by a second call.

    From inside `destination`, entries move up, store.json last; OSError, before anything moves, if a name is taken.
    """
    if work.parent != destination:
        work.rename(destination)
        return
    entries = sorted(work.iterdir(), key=lambda path: path.name == "store.json")
    for path in entries:
        if os.path.lexists(destination / path.name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination / path.name))
    for path in entries:
        path.rename(destination / path.name)
    work.rmdir()


def _is_vacant(destination: Path) -> bool:
    """Return whether `destination` is missing, or a folder with nothing but litter and unfinished work."""
    if not destination.exists():
        return True
    return destination.is_dir() and all(
        is_litter(path.name) or is_unfinished(path.name) for path in destination.iterdir()
    )


def _unfinished_inside(destination: Path) -> bool:
    return any(destination.glob(".*.building"))


def _not_ours(out: Path) -> PipelineError:
    return PipelineError(f"{out} holds files that this program has not made; choose another folder with --out")


@dataclass(frozen=True)
class StagedStore:
    """A store written in a staging folder, named by its config hash, and moved to `out` when complete.

    So a store at `out` is always complete, and the same command continues the work after a kill. The staging folder is
    beside `out` if `out` does not exist, because DVC deletes a stage's outputs before the stage runs.

    Object stores cannot rename. There the work goes to `out` itself, with a note of its config hash; store.json is
    written last, and `out` is complete once store.json exists.
    """

    out: Path  # as typed
    config_hash: str  # digest of all settings and inputs that decide the store's bytes
    staging_dir: tuple[str, ...] = ()  # folders needed only until the store is finished
    replaced: str | None = None  # config hash of a finished store at `out` that this one extends, with all its files

    @cached_property
    def destination(self) -> Path:
        """The absolute path of the store, links followed."""
        return self.out if self._is_remote else settle(self.out)

    @cached_property
    def work(self) -> Path:
        """The staging folder."""
        return self.out if self._is_remote else staging_folder(self.destination, self.config_hash[:16])

    @property
    def _lease(self) -> Path:
        is_inside = self.work.parent == self.destination
        return self.destination / ".lease" if is_inside else _beside(self.destination, "lease")

    def complete(self) -> bool:
        """Return whether `out` already holds exactly this store; PipelineError for other contents.

        A finished store that a kill left in the staging folder is moved to `out`.
        """
        if self._is_remote:
            return self._is_complete_remotely()
        self._adopt()
        if self._is_finished():
            with hold_lease(self._lease, self.out):
                self._move_in()
        if _is_vacant(self.destination):
            return False
        metadata = stored_metadata(self.destination)
        if metadata.get("config_hash") == self.config_hash:
            return True
        if self.replaced is not None and metadata.get("config_hash") == self.replaced:
            return False
        raise self._other() if is_ours(metadata) else _not_ours(self.out)

    def _is_complete_remotely(self) -> bool:
        for name in ("store.json", NOTE):
            metadata = read_json(self.out / name) if (self.out / name).is_file() else {}
            if "config_hash" in metadata:  # absent from a store.json written during staging
                if metadata["config_hash"] != self.config_hash:
                    raise self._other()
                return name == "store.json"
        if self.out.exists():
            raise _not_ours(self.out)
        return False

    def _other(self) -> PipelineError:
        return OtherInputsError(
            f"{self.out} already exists and was made with other settings or inputs; "
            "choose another folder with --out, or delete it first"
        )

    @property
    def _is_remote(self) -> bool:
        return is_remote(self.out)

    def _adopt(self) -> None:
        """Move interrupted work beside `out` into `out`, an empty folder created since then."""
        sibling = _beside(self.destination, self.work.name.lstrip("."))
        if self.work.parent == self.destination and sibling.is_dir() and not self.work.exists():
            with hold_lease(_beside(self.destination, "lease"), self.out):
                try:
                    sibling.rename(self.work)
                except OSError:  # on another disk, as for a mount point: the work starts over
                    return

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the staging folder, created if missing, to one writer at a time; PipelineError if another is active.

        Partial and temporary files of killed writers are deleted first, and ledger entries of damaged shards.
        """
        if self.replaced is not None and (self.out / LABELS).is_dir():
            raise PipelineError(
                f"{self.out} has labels, which would lack the new samples: move {self.out / LABELS} away, label again"
            )
        work = self.start()
        with hold_lease(self._lease, self.out):
            if sweep():
                print("temporary files of a command that was killed were deleted", file=sys.stderr)
            _delete_partial(work)
            if self.replaced is not None:
                share_files(self.destination, work, read_listing(self.destination))
            if damaged := Ledger(work).discard_damaged():
                print(f"{damaged} damaged shards are made again; was there a power cut?", file=sys.stderr)
            try:
                yield work
            except OSError as error:  # from Zarr and other libraries
                if error.errno in DISK_FAULTS or self._is_remote:
                    raise PipelineError(cannot_write(self.out, error)) from error
                raise
            except network_errors() as error:
                raise PipelineError(f"cannot write {self.out}: {error}; the same command goes on from here") from error

    def start(self) -> Path:
        """Return the staging folder, created if missing."""
        if self._is_remote:
            write_json(self.out / NOTE, {"config_hash": self.config_hash})
            return self.out
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(f"cannot write in {self.work.parent}: {error.strerror or error}") from None
        return self.work

    def require_space(self, needed_bytes: int) -> None:
        """Raise PipelineError unless the disk has `needed_bytes` free."""
        check_free_space(self.out, needed_bytes)

    def publish(self, metadata: Mapping[str, Json], run: Mapping[str, Json] | None = None) -> None:
        """Write the metadata and move the finished staging folder to `out`, without partial files of killed writers.

        The digests of all files are kept for `verify`; facts of this `run`, such as its time, in run.json are in none.
        """
        if run is not None:
            write_json(self.work / "run.json", run)
        _delete_partial(self.work)
        known = {name: sha for _, name, sha in Ledger(self.work).every_file()}
        listing = {"files": write_listing(self.work, known, without=(*self.staging_dir, NOTE))}
        write_json(self.work / "store.json", sealed({**metadata, **listing, "config_hash": self.config_hash}))
        if self._is_remote:
            for path in (path for folder in self.staging_dir for path in (self.out / folder).rglob("*")):
                path.unlink(missing_ok=True)
            (self.out / NOTE).unlink(missing_ok=True)
        else:
            self._move_in()

    def _is_finished(self) -> bool:
        metadata = stored_metadata(self.work)
        return is_sealed(metadata) and metadata.get("config_hash") == self.config_hash

    def _move_in(self) -> None:
        for folder in self.staging_dir:  # needed until here: a kill before this line loses no work
            shutil.rmtree(self.work / folder, ignore_errors=True)
        try:
            if self.replaced is not None:
                self.destination.rename(_replaced(self.destination))
            move_in(self.work, self.destination)
            shutil.rmtree(_replaced(self.destination), ignore_errors=True)
        except OSError as error:
            if not self.work.exists() and self.complete():
                return  # another command has moved the store
            raise PipelineError(
                f"{self.work} is finished and cannot be moved to {self.out}: {error.strerror or error}; "
                "has another command put something there?"
            ) from None


def _delete_partial(work: Path) -> None:
    if is_remote(work):
        return  # objects are never partial
    for leftover in work.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
    for metadata in work.rglob(METADATA):
        if not metadata.stat().st_size:  # after a power cut; created again if missing
            metadata.unlink()
