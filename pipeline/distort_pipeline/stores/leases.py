"""Leases: one writer at a time for a store, wherever it lies.

A lease is a small file beside the store that its holder rewrites every few seconds. One that was not rewritten for
EXPIRES_SECONDS is nobody's, and so is one whose process is known to be gone; taking it over is said on stderr. Ages go
by the clock of the place where the file lies: the holders' own clocks may differ.

A lease keeps two commands from doing the same work twice. What is written does not depend on it: a task that runs
twice writes the same bytes, and a store is published whole or not at all.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.stores.remote import RemotePath

BEAT_SECONDS = 5.0
EXPIRES_SECONDS = 60.0  # twelve beats: a busy disk or a slow object store misses some
SETTLE_SECONDS = 0.5  # of two that take over at once, the one whose file stays has it

_held_here: set[str] = set()  # tokens of this process


@dataclass(frozen=True)
class Holder:
    """Who writes."""

    token: str
    host: str
    process: int
    born: str  # when the process started, as its system counts: numbers of processes come again

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """A lease that is held: `lost` says whether somebody else has taken it over."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path, self._holder = path, holder
        _held_here.add(holder.token)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()

    def lost(self) -> bool:
        """Return whether the lease is somebody else's by now."""
        return _holder(self._path) != self._holder

    def release(self) -> None:
        """Let others write."""
        self._over.set()
        self._heart.join()
        _held_here.discard(self._holder.token)
        if not self.lost():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            if self.lost():
                print(f"the lease {self._path} was taken over by another writer", file=sys.stderr)
                return
            with suppress(PipelineError):  # a full disk is the work's to report; without beats the lease just ages
                _write(self._path, self._holder)


@contextmanager
def held(path: Path, store: Path) -> Iterator[Lease]:
    """Hold the lease at `path` on `store`; PipelineError names the holder if it is somebody else's and alive."""
    holder = Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _born(os.getpid()))
    found = _holder(path)
    if found is not None:
        why = _free(path, found)
        if why is None:
            left = max(EXPIRES_SECONDS - _age(path), 0)
            raise PipelineError(
                f"{store} is being written by {found}: wait for it, or stop it; if it is gone, its lease expires in "
                f"{left:.0f} s"
            )
        print(f"taking over {store} from {found}, {why}", file=sys.stderr)
    if path.exists():
        _write(path, holder)
        threading.Event().wait(SETTLE_SECONDS)
    else:
        _create(path, holder)
    now = _holder(path)
    if now != holder:
        raise PipelineError(f"{store} is being written by {now}, which was faster; wait for it, or stop it")
    lease = Lease(path, holder)
    try:
        yield lease
    finally:
        lease.release()


def _free(path: Path, found: Holder) -> str | None:
    """Return why the lease of `found` is free to take, or None if it is not."""
    if found.host == socket.gethostname() and _born(found.process) != found.born:
        return "which is gone"
    if found.host == socket.gethostname() and found.process == os.getpid() and found.token not in _held_here:
        return "which could not let go"
    age = _age(path)
    return f"not heard of for {age:.0f} s" if age > EXPIRES_SECONDS else None


def _born(process: int) -> str:
    """Return when a process of this machine was started, or '' if there is none (or none that can be asked)."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"


def _age(path: Path) -> float:
    """Return for how many seconds the file at `path` was not written, by the clock of its own disk."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write_bytes(probe, b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return EXPIRES_SECONDS + 1  # released meanwhile
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _create(path: Path, holder: Holder) -> None:
    """Write a lease that was not there, unless somebody else was faster."""
    if isinstance(path, RemotePath):  # no object is made only if there is none: the one that stays has it
        _write(path, holder)
        threading.Event().wait(SETTLE_SECONDS)
        return
    mine = path.with_name(f"{path.name}.{holder.token}.partial")
    _write(mine, holder)
    try:
        os.link(mine, path)  # whole and only once, where a rename would replace
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        _write(path, holder)
        threading.Event().wait(SETTLE_SECONDS)
    finally:
        mine.unlink(missing_ok=True)


def _write(path: Path, holder: Holder) -> None:
    write_bytes(path, json.dumps(asdict(holder)).encode())


def _holder(path: Path) -> Holder | None:
    """Return who holds the lease at `path`; None if nobody does, also if the file is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Holder(str(values["token"]), str(values["host"]), int(values["process"]), str(values["born"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
