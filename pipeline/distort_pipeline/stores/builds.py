"""A store in the making: work that a kill leaves behind is found again, and what is published is whole."""

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
from distort_pipeline.stores.leases import held
from distort_pipeline.stores.remote import RemotePath, network_errors

NOTE = "building.json"  # in an object store: whose unfinished work this is
# a disk that is full, read-only, somebody else's or failing: for the user to mend
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@dataclass(frozen=True)
class StagedStore:
    """A store in the making: work goes to a folder beside `out`, keyed by its settings, and is moved in when whole.

    So what stands at `out` is always complete, and what a kill leaves behind is found again by the same command and
    by no other. The folder is not inside `out`, because DVC empties a stage's outputs before it runs the stage.

    Object stores can move nothing. There the work is done in `out` itself, with a note of whose it is; what is there
    counts when store.json is, which is written last.
    """

    out: Path
    config_hash: str  # digest of everything that decides the store's bytes
    staging_dir: tuple[str, ...] = ()  # folders that are of use until the store is finished

    @property
    def work(self) -> Path:
        """The folder to work in."""
        if self._is_remote:
            return self.out
        out = self.out.resolve()  # workers may stand in another folder
        return out.parent / f".{out.name}.{self.config_hash[:16]}.building"

    def complete(self) -> bool:
        """Return whether `out` already holds exactly this store; PipelineError if it holds something else.

        A store that a kill left finished, but not yet in its place, is moved there.
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
            if "config_hash" in metadata:  # there is none in a store.json that was written on the way
                if metadata["config_hash"] != self.config_hash:
                    raise self._other()
                return name == "store.json"
        if self.out.exists():
            raise self._not_ours()
        return False

    def _not_ours(self) -> PipelineError:
        return PipelineError(f"{self.out} holds files that this program has not made; name another place with --out")

    def _other(self) -> PipelineError:
        return PipelineError(
            f"{self.out} already exists and was made with other settings or inputs; "
            "name another place with --out, or delete it first"
        )

    @property
    def _is_remote(self) -> bool:
        return isinstance(self.out, RemotePath)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give the work folder, made if need be, to one writer at a time; PipelineError if there is another.

        What killed writers left in it, and in the folders for temporary files, is deleted first.
        """
        work = self.start()
        with held(work.with_name(f".{self.out.resolve().name}.lease"), self.out):
            if sweep():
                print("temporary files of a command that was killed were deleted", file=sys.stderr)
            _delete_partial(work)
            try:
                yield work
            except OSError as error:  # of Zarr and others that know of no PipelineError
                if error.errno in DISK_FAULTS or self._is_remote:
                    raise PipelineError(cannot_write(self.out, error)) from error
                raise
            except network_errors() as error:
                raise PipelineError(f"cannot write {self.out}: {error}; the same command goes on from here") from error

    def start(self) -> Path:
        """Return the work folder, made if need be."""
        if self._is_remote:
            write_json(self.out / NOTE, {"config_hash": self.config_hash})
            return self.out
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(f"cannot write in {self.out.parent}: {error.strerror or error}") from None
        return self.work

    def publish(self, metadata: dict[str, Any], *, listed: bool = True) -> None:
        """Write the header and move the finished work folder to `out`, without what killed writers left in it.

        If it is `listed`, the digests of all files are kept for `verify`.
        """
        _delete_partial(self.work)
        kept = {"files": write_listing(self.work, (*self.staging_dir, NOTE))} if listed else {}
        write_json(self.work / "store.json", sealed({**metadata, **kept, "config_hash": self.config_hash}))
        if self._is_remote:
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
        for folder in self.staging_dir:  # only now: a kill in here does not cost the work that they are needed for
            shutil.rmtree(self.work / folder, ignore_errors=True)
        try:
            if self.out.is_dir():
                self.out.rmdir()  # empty, or complete() would have refused
            self.work.rename(self.out)
        except OSError as error:
            if not self.work.exists() and self.complete():
                return  # another command has moved it
            raise PipelineError(
                f"{self.work} is finished and cannot be moved to {self.out}: {error.strerror or error}; "
                "has another command put something there?"
            ) from None


def _delete_partial(work: Path) -> None:
    if isinstance(work, RemotePath):
        return  # nothing is ever half there
    for leftover in work.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
