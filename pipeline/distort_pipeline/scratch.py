"""Temporary folders, deleted even after a kill.

Each folder holds a lock, released by the operating system when the process dies; `sweep` deletes folders with a free
lock. Without such locks (Windows), nothing is swept.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distort_pipeline.errors import PipelineError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "distort-pipeline-"
UNLOCKED = f".{PREFIX}"  # name until the folder is locked; a kill before leaves it empty
UNLOCKED_SECONDS = 3600  # age at which a folder without a lock counts as abandoned
LOCK = "owner.lock"
MEMORY_FOLDER = Path("/dev/shm")  # exists on Linux only
TMPDIR = "name a temporary folder with room by the environment variable TMPDIR"


def temporary_folder() -> Path:
    """Return the system's temporary folder; PipelineError if none can be written to."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise PipelineError(f"{error.strerror or error}; {TMPDIR}") from None


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder in `parent` (None: the system's temporary folder), deleted at the end in any case.

    PipelineError if it cannot be made.
    """
    parent = parent or temporary_folder()
    try:
        unlocked = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=parent))
        folder = unlocked.with_name(unlocked.name.removeprefix("."))
        descriptor = os.open(unlocked / LOCK, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise PipelineError(f"cannot write to the temporary folder {parent}: {error.strerror}; {TMPDIR}") from None
    try:
        _locked(descriptor)
        unlocked.rename(folder)  # visible to `sweep` only now that it is locked
        yield folder
    finally:
        os.close(descriptor)
        for path in (unlocked, folder):
            shutil.rmtree(path, ignore_errors=True)


def sweep() -> int:
    """Return the number of scratch folders of killed processes, all deleted."""
    return sum(_sweep(parent) for parent in {temporary_folder(), MEMORY_FOLDER})


def _sweep(parent: Path) -> int:
    if fcntl is None or not parent.is_dir():
        return 0
    deleted = 0
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or deleted meanwhile
            descriptor = os.open(folder / LOCK, os.O_RDWR)
            try:
                if _locked(descriptor):
                    shutil.rmtree(folder)
                    deleted += 1
            finally:
                os.close(descriptor)
    for unlocked in parent.glob(f"{UNLOCKED}*"):
        with suppress(OSError):
            if time.time() - unlocked.stat().st_mtime > UNLOCKED_SECONDS:
                shutil.rmtree(unlocked)
    return deleted


def _locked(descriptor: int) -> bool:
    """Return whether this process could lock an open file."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
