"""Staged stores: interrupted work is continued, and only complete stores are published."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError
from distort_pipeline.scratch import sweep
from distort_pipeline.stores.files import cannot_write, read_json, sealed, write_json, write_listing
from distort_pipeline.stores.leases import hold_lease
from distort_pipeline.stores.remote import RemotePath, network_errors

NOTE = "building.json"  # in an object store: the config_hash of the unfinished work
# the disk is full, read-only, not permitted or failing: a matter for the user
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@dataclass(frozen=True)
class StagedStore:
    """A store written in a staging folder beside `out`, named by its config hash, and moved to `out` when complete.

    So `out` is always complete, and the same command continues the work after a kill. The staging folder is not
    inside `out`, because DVC empties a stage's outputs before the stage runs.

    Object stores cannot rename. There the work goes to `out` itself, with a note of its config hash; store.json is
    written last, and `out` is complete once store.json exists.
    """

    out: Path
    config_hash: str  # digest of all settings and inputs that decide the store's bytes
    staging_dir: tuple[str, ...] = ()  # folders needed only until the store is finished

    @property
    def work(self) -> Path:
        """The staging folder."""
        if self._is_remote:
            return self.out
        out = self.out.resolve()  # workers may run in another folder
        return out.parent / f".{out.name}.{self.config_hash[:16]}.building"

    def complete(self) -> bool:
        """Return whether `out` already holds exactly this store; PipelineError for other contents.

        A finished store that a kill left in the staging folder is moved to `out`.
        """
        if self._is_remote:
            return self._is_complete_remotely()
        if self._is_finished():
            self._move_in()
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return False
        path = self.out / "store.json"
        metadata = read_json(path) if path.is_file() else None
        if isinstance(metadata, dict) and metadata.get("config_hash") == self.config_hash:
            return True
        if not isinstance(metadata, dict) or not str(metadata.get("format")).startswith("distort-pipeline/"):
            raise self._not_ours()
        raise self._other()

    def _is_complete_remotely(self) -> bool:
        for name in ("store.json", NOTE):
            metadata = read_json(self.out / name) if (self.out / name).is_file() else {}
            if "config_hash" in metadata:  # absent from a store.json written during staging
                if metadata["config_hash"] != self.config_hash:
                    raise self._other()
                return name == "store.json"
        if self.out.exists():
            raise self._not_ours()
        return False

    def _not_ours(self) -> PipelineError:
        return PipelineError(f"{self.out} holds files that this program has not made; choose another folder with --out")

    def _other(self) -> PipelineError:
        return PipelineError(
            f"{self.out} already exists and was made with other settings or inputs; "
            "choose another folder with --out, or delete it first"
        )

    @property
    def _is_remote(self) -> bool:
        return isinstance(self.out, RemotePath)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the staging folder, created if missing, to one writer at a time; PipelineError if another is active.

        Partial and temporary files of killed writers are deleted first.
        """
        work = self.start()
        with hold_lease(work.with_name(f".{self.out.resolve().name}.lease"), self.out):
            if sweep():
                print("temporary files of a command that was killed were deleted", file=sys.stderr)
            _delete_partial(work)
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
            raise PipelineError(f"cannot write in {self.out.parent}: {error.strerror or error}") from None
        return self.work

    def publish(self, metadata: dict[str, Any], *, listed: bool = True) -> None:
        """Write the metadata and move the finished staging folder to `out`, without partial files of killed writers.

        With `listed`, the digests of all files are kept for `verify`.
        """
        _delete_partial(self.work)
        listing = {"files": write_listing(self.work, (*self.staging_dir, NOTE))} if listed else {}
        write_json(self.work / "store.json", sealed({**metadata, **listing, "config_hash": self.config_hash}))
        if self._is_remote:
            for path in (path for folder in self.staging_dir for path in (self.out / folder).rglob("*")):
                path.unlink(missing_ok=True)
            (self.out / NOTE).unlink(missing_ok=True)
        else:
            self._move_in()

    def _is_finished(self) -> bool:
        path = self.work / "store.json"
        metadata = read_json(path) if path.is_file() else None
        return (
            isinstance(metadata, dict)
            and metadata.get("config_hash") == self.config_hash
            and metadata == sealed(metadata)
        )

    def _move_in(self) -> None:
        for folder in self.staging_dir:  # needed until here: a kill before this line loses no work
            shutil.rmtree(self.work / folder, ignore_errors=True)
        try:
            if self.out.is_dir():
                self.out.rmdir()  # empty, else complete() would have raised
            self.work.rename(self.out)
        except OSError as error:
            if not self.work.exists() and self.complete():
                return  # another command has moved the store
            raise PipelineError(
                f"{self.work} is finished and cannot be moved to {self.out}: {error.strerror or error}; "
                "has another command put something there?"
            ) from None


def _delete_partial(work: Path) -> None:
    if isinstance(work, RemotePath):
        return  # objects are never partial
    for leftover in work.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
