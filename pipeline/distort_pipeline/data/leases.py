"""Unfinished stores, on disk or in an object store: leases, one writer at a time, and ledgers of finished shards.

A lease is a small file beside the store, rewritten by its holder every few seconds. A lease not rewritten for
EXPIRES_SECONDS has expired, and so has a lease of a process known to have ended; a takeover is reported on stderr. Ages
are by the clock of the file system or object store, as the holders' clocks may differ.

A lease is created by one writer only: by a hard link on disk, by conditional creation in an object store. To take over
an expired one, a writer first creates a claim named after it, so that two cannot both. A holder that slept for longer
than EXPIRES_SECONDS finds out at its next beat. Results do not depend on leases: a task run twice writes the same
bytes, and stores are published atomically.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict, TypeVar, cast

from distort_pipeline.data.files import (
    file_digest,
    from_json,
    json_bytes,
    read_json,
    to_json,
    write_bytes,
    write_json,
    write_parts,
)
from distort_pipeline.data.remote import RemotePath, is_remote
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.process import track
from distort_pipeline.records import digest

Task = TypeVar("Task")

BEAT_SECONDS = 5.0
EXPIRES_SECONDS = 60.0  # twelve beats: a busy disk or a slow object store may delay some
SETTLE_SECONDS = 0.5  # on a file system without hard links, the last file written wins

_tokens: set[str] = set()  # of leases held by this process


@dataclass(frozen=True)
class Holder:
    """The writer of a store."""

    token: str
    host: str
    process: int
    born: str  # start time of the process: process numbers are reused

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """An active lease, renewed by a thread until released."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path, self._holder = path, holder
        _tokens.add(holder.token)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()

    def lost(self) -> bool:
        """Return whether another writer has taken over the lease."""
        return _holder(self._path) != self._holder

    def release(self) -> None:
        """Stop renewing, and delete the lease file unless taken over."""
        self._over.set()
        self._heart.join()
        _tokens.discard(self._holder.token)
        if not self.lost():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            if self.lost():
                print(f"the lease {self._path} was taken over by another writer", file=sys.stderr)
                return
            with suppress(PipelineError):  # the work reports a full disk; the lease expires
                _write(self._path, self._holder)


@contextmanager
def hold_lease(path: Path, store: Path) -> Iterator[Lease]:
    """Hold the lease at `path` on `store`; PipelineError names another active holder."""
    holder = Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _born(os.getpid()))
    while not (_create(path, holder) or _take_over(path, holder, store)):
        pass  # released meanwhile
    lease = Lease(path, holder)
    try:
        yield lease
    finally:
        lease.release()


def _take_over(path: Path, holder: Holder, store: Path) -> bool:
    """Replace an expired or damaged lease; return whether there still is one.

    PipelineError if it is active, or if another writer takes it over.
    """
    previous = _holder(path)
    if previous is None and not path.exists():
        return False
    reason = "whose lease is damaged" if previous is None else _expiry_reason(path, previous)
    if reason is None:
        remaining = max(EXPIRES_SECONDS - _age(path), 0)
        raise PipelineError(
            f"{store} is being written by {previous}: wait for it, or stop it; if it is gone, its lease expires in "
            f"{remaining:.0f} s"
        )
    claim = path.with_name(f"{path.name}.{previous.token if previous else 'damaged'}.lease")
    if not _create(claim, holder):
        raise PipelineError(
            f"another writer is taking over {store}; wait for it, or stop it. If there is none any more, delete {claim}"
        )
    try:
        if (winner := _holder(path)) != previous:
            raise PipelineError(f"{store} is being written by {winner}, which was faster; wait for it, or stop it")
        print(f"taking over {store} from {previous or 'a writer'}, {reason}", file=sys.stderr)
        _write(path, holder)
    finally:
        claim.unlink(missing_ok=True)
    return True


def _expiry_reason(path: Path, holder: Holder) -> str | None:
    """Return the reason why the lease of `holder` can be taken over, or None if active."""
    if holder.host == socket.gethostname() and _born(holder.process) != holder.born:
        return "which is gone"
    if holder.host == socket.gethostname() and holder.process == os.getpid() and holder.token not in _tokens:
        return "which could not release its lease"
    age = _age(path)
    return f"not heard of for {age:.0f} s" if age > EXPIRES_SECONDS else None


def _born(process: int) -> str:
    """Return the start time of a process of this machine, or '' if missing or unknown."""
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
    """Return the seconds since the file at `path` was written, by the clock of its file system."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write_bytes(probe, b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return EXPIRES_SECONDS + 1  # released meanwhile
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _create(path: Path, holder: Holder) -> bool:
    """Create a lease file, unless there is one; return whether it is this holder's."""
    if isinstance(path, RemotePath):
        return path.create(json_bytes(to_json(holder)))
    temporary = path.with_name(f"{path.name}.{holder.token}.partial")
    _write(temporary, holder)
    try:
        os.link(temporary, path)  # atomic and exclusive, unlike a rename
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        _write(path, holder)
        threading.Event().wait(SETTLE_SECONDS)
        return _holder(path) == holder
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write(path: Path, holder: Holder) -> None:
    write_json(path, to_json(holder))


def _holder(path: Path) -> Holder | None:
    """Return the holder of the lease at `path`; None if missing or damaged."""
    try:
        return from_json(Holder, read_json(path), path)
    except PipelineError:
        return None


CHECKING_THREADS = 4


class LedgerEntry(TypedDict, total=False):
    """The ledger's entry of a finished shard; each kind of store has some of the fields, all have the first three."""

    shard: Required[str]
    digest: Required[str]  # of the fields below
    files: Required[Mapping[str, str]]  # path → SHA-256; in the digest of exports only: other files vary with libraries
    samples: int
    tiles: int
    pairs: int
    pixels: str  # digests
    records: str
    values: str
    report: str
    truth: str
    arrays: Mapping[str, str]  # column → digest of its pixels
    missing: Sequence[Mapping[str, str]]  # image, distortion and reason of each that could not be used
    accepted: bool | None  # of a batch; None: not judged


class Ledger:
    """A small JSON file for each finished shard, written last: its existence marks the shard as finished.

    It holds the SHA-256 of the shard's files. Like the pixels, entries are not flushed: a flush waits for all pending
    writes, half a second on a busy disk. So a power cut can leave an entry without all bytes of its shard, and
    `discard_damaged` compares them when the work is resumed.
    """

    def __init__(self, folder: Path) -> None:
        self.work = folder
        self.folder = folder / "ledger"

    def note(self, name: str, fields: Mapping[str, object], files: Iterable[Path] = ()) -> LedgerEntry:
        """Mark the shard `name` as finished, with its counts and digests; `files` are its files and folders."""
        fields = {"shard": name, **fields}
        digests = file_digests(self.work, files)
        entry = cast(LedgerEntry, {"files": digests, **fields, "digest": digest(fields)})
        write_parts(self.folder / f"{name}.json", (json_bytes(entry),), flush=False)
        return entry

    def run_unfinished(
        self,
        function: Callable[[Task], LedgerEntry],
        tasks: Mapping[str, Task],
        workers: Workers,
        *,
        label: str,
        unit: str,
        sizes: Mapping[str, int] | None = None,
    ) -> Iterator[LedgerEntry]:
        """Run those of the named `tasks` that are not finished, and yield the entry of each.

        `sizes` are of the tasks in units, for the progress line; default: 1 each.
        """
        of = sizes or dict.fromkeys(tasks, 1)
        finished = self.finished(tasks)
        results = run_tasks(function, [task for name, task in tasks.items() if name not in finished], workers)
        done = sum(of[name] for name in finished)
        return track(
            results, total=sum(of.values()), label=label, unit=unit, done=done, size=lambda entry: of[entry["shard"]]
        )

    def discard_damaged(self) -> int:
        """Delete the entries of shards whose files are not as written, as after a power cut; return their number."""
        if is_remote(self.folder):
            return 0  # objects are whole, or absent
        names = [path.stem for path in sorted(self.folder.glob("*.json"))]
        with ThreadPoolExecutor(CHECKING_THREADS) as pool:  # most of the time is reading
            intact = list(pool.map(self._is_as_written, names))
        damaged = [name for name, is_intact in zip(names, intact, strict=True) if not is_intact]
        for name in damaged:
            (self.folder / f"{name}.json").unlink()
        return len(damaged)

    def _is_as_written(self, name: str) -> bool:
        try:
            ((entry,), data) = self.entries([name]), (self.folder / f"{name}.json").read_bytes()
            files = entry.get("files", {})  # absent from those of versions below 0.1
            is_whole = data == json_bytes(entry)
            return is_whole and all(file_digest(self.work / file) == sha for file, sha in files.items())
        except (OSError, PipelineError):
            return False

    def finished(self, names: Iterable[str]) -> set[str]:
        """Return the finished shards among `names`; empty files, left by a power cut, do not count."""
        paths = self.folder.glob("*.json") if self.folder.is_dir() else ()
        return {path.stem for path in paths if path.stat().st_size}.intersection(names)

    def entries(self, names: Sequence[str]) -> list[LedgerEntry]:
        """Return the entries of `names`, in order; PipelineError if missing or damaged."""
        return [read_json(self.folder / f"{name}.json") for name in names]

    def every_file(self) -> Iterator[tuple[str, str, str]]:
        """Yield shard, path and SHA-256 of the files of all finished shards; damaged entries are left out."""
        for path in self.folder.glob("*.json"):
            with suppress(PipelineError, LookupError, AttributeError):  # any JSON value
                yield from ((path.stem, file, sha) for file, sha in read_json(path)["files"].items())


def file_digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return path below `folder` → SHA-256 of the files among `paths`, and of those in the folders among them."""
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in _all_files(paths)}


def _all_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
        else:
            yield path
