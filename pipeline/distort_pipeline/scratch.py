"""Temporary folders that a kill cannot leave behind for good.

Each holds a lock that the operating system lets go when its process dies, however it dies; `sweep` deletes the folders
whose lock is free. Where there are no such locks (Windows), nothing is swept.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "distort-pipeline-"
UNBORN = f".{PREFIX}"  # until it is locked; a kill in between leaves an empty folder
UNBORN_SECONDS = 3600  # after which one is nobody's
LOCK = "owner.lock"
MEMORY_FOLDER = Path("/dev/shm")  # exists on Linux only


@contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """Give a new folder in `place` (None: where temporary files go), deleted in every case."""
    unborn = Path(tempfile.mkdtemp(prefix=UNBORN, dir=place))
    folder = unborn.with_name(unborn.name.removeprefix("."))
    descriptor = os.open(unborn / LOCK, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _locked(descriptor)
        unborn.rename(folder)  # only now can others see it, and it is locked already
        yield folder
    finally:
        os.close(descriptor)
        for left in (unborn, folder):
            shutil.rmtree(left, ignore_errors=True)


def sweep() -> int:
    """Delete what killed processes left in the folders for temporary files; return how many folders."""
    return sum(_sweep(place) for place in {Path(tempfile.gettempdir()), MEMORY_FOLDER})


def _sweep(place: Path) -> int:
    if fcntl is None or not place.is_dir():
        return 0
    gone = 0
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            descriptor = os.open(folder / LOCK, os.O_RDWR)
            try:
                if _locked(descriptor):
                    shutil.rmtree(folder)
                    gone += 1
            finally:
                os.close(descriptor)
    for unborn in place.glob(f"{UNBORN}*"):
        with suppress(OSError):
            if time.time() - unborn.stat().st_mtime > UNBORN_SECONDS:
                shutil.rmtree(unborn)
    return gone


def _locked(descriptor: int) -> bool:
    """Lock an open file for this process, and return whether nobody else has."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
