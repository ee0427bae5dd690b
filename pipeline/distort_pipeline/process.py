"""What a running process shows, takes ahead and leaves behind, and the GPUs that it sees.

Progress on stderr, and standard streams that are always there, in any encoding: a failed write never stops the work.
Iterables that a thread makes ahead. Temporary folders, deleted even after a kill: each holds a lock, released by the
operating system when the process dies, and `sweep` deletes folders with a free lock. Without such locks (Windows),
nothing is swept.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError

Item = TypeVar("Item")

FIRST_LINE_SECONDS, SECONDS_BETWEEN_LINES, HEARTBEAT_SECONDS = 2.0, 10.0, 1.0
SLOWEST = 0.1  # units a second: below, the speed says nothing
FEW = 2  # results before a speed and the time left are shown: the first one has started the workers


def track(
    items: Iterable[Item],
    *,
    total: int,
    label: str,
    unit: str,
    done: int = 0,
    size: Callable[[Item], int] = lambda _: 1,
) -> Iterator[Item]:
    """Yield `items` and show the progress on stderr, as a count of `total`; `done` were finished before this run.

    `size` is the number of units of an item. While nothing is finished, the seconds go on.
    """
    progress = Progress(total, label, unit, done)
    with progress:
        for item in items:
            yield item
            progress.add(size(item))


class Progress:
    """A line of progress on stderr: one line drawn anew each second in a terminal, else a line now and then."""

    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        self._total, self._label, self._unit, self._first = total, label, unit, done
        self._done, self._results = done, 0
        self._started = time.monotonic()
        self._last = self._started - SECONDS_BETWEEN_LINES + FIRST_LINE_SECONDS
        self._drawn = sys.stderr is not None and sys.stderr.isatty()  # None in a Python without a console
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_moving, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._drawn:
            print(f"\r{self.line()}\x1b[K", file=sys.stderr)

    def add(self, units: int) -> None:
        """Count the units of a result."""
        self._done, self._results = self._done + units, self._results + 1
        if not self._drawn and (self._done >= self._total or self._is_due()):
            self._print()

    def line(self) -> str:
        """Return the line of this moment."""
        seconds = time.monotonic() - self._started
        return progress_line(
            self._label, self._unit, self._done, self._total, seconds, self._done - self._first, self._results
        )

    def _keep_moving(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            if self._drawn:
                print(f"\r{self.line()}\x1b[K", end="", file=sys.stderr, flush=True)
            elif self._is_due():
                self._print()

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= SECONDS_BETWEEN_LINES

    def _print(self) -> None:
        self._last = time.monotonic()
        if sys.stderr is not None:
            print(self.line(), file=sys.stderr)


def progress_line(label: str, unit: str, done: int, total: int, seconds: float, now: int, results: int) -> str:
    """Return a line of progress: `now` units in `results` results of this run's `seconds`.

    >>> progress_line("pairs", "tiles", 5, 20, 2, 5, 3), progress_line("pairs", "tiles", 0, 20, 4, 0, 0)
    ('pairs: 5/20 tiles, 2.5 tiles/s, 6 s left', 'pairs: 0/20 tiles, 4 s')
    """
    if results < FEW or done == total:
        return f"{label}: {done}/{total} {unit}, {seconds:.0f} s"
    per_second = now / max(seconds, 1e-9)
    speed = f"{per_second:.1f} {unit}/s, " if per_second >= SLOWEST else ""
    return f"{label}: {done}/{total} {unit}, {speed}{(total - done) / per_second:.0f} s left"


class _End:
    """The end of the items, with the error of the iterator, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterator[Item], count: int, *, name: str) -> Generator[Item, None, None]:
    """Yield `items` in order, taken from their iterator by a thread called `name`, up to `count` ahead.

    Errors of the iterator are raised here. When the consumer closes the generator early, the thread stops after its
    current item.
    """
    fetched: queue.Queue[Item | _End] = queue.Queue(count)
    stopped = threading.Event()

    def hand_over(entry: Item | _End) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                fetched.put(entry, timeout=0.1)
                return

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                hand_over(item)
                if stopped.is_set():
                    return
        except BaseException as caught:  # raised by the consumer
            error = caught
        hand_over(_End(error))

    thread = threading.Thread(target=work, daemon=True, name=name)
    thread.start()
    try:
        while True:
            entry = fetched.get()
            if not isinstance(entry, _End):
                yield entry
                continue
            if entry.error is not None:
                raise entry.error
            return
    finally:
        stopped.set()
        thread.join()


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


UNPRINTABLE = "distort-pipeline"  # error handler of the streams
ASCII = {"→": "->", "…": "...", "×": "x", "–": "-", "−": "-"}


class _Enduring(io.RawIOBase):
    """An open stream of bytes that keeps its first failure and takes all further bytes."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return int(self._raw.write(data) or 0)
            except OSError as error:
                self.failure = error
        return len(data)


def prepare_streams() -> None:
    """Open missing standard streams on the null device, and let the others endure failed writes and any text."""
    codecs.register_error(UNPRINTABLE, _printable)
    for descriptor in range(3):  # otherwise the next opened file would be taken for standard error by C libraries
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            raw = _Enduring(getattr(stream.buffer, "raw", stream.buffer))
            setattr(
                sys,
                name,
                io.TextIOWrapper(
                    io.BufferedWriter(raw),
                    encoding=stream.encoding,
                    errors=UNPRINTABLE,
                    line_buffering=stream.line_buffering or name == "stderr",
                ),
            )
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNPRINTABLE)


def output_failure() -> OSError | None:
    """Return the first failure of standard output, after a flush; None if all was written."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Enduring):
        return None
    sys.stdout.flush()
    return raw.failure


def is_closed_pipe(error: OSError) -> bool:
    """Return whether the reader of a pipe has gone, as `head` does."""
    return error.errno in (errno.EPIPE, errno.EINVAL)  # Windows reports EINVAL


def _printable(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that the encoding lacks, with a backslash for those without a likeness."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in text)
    return "".join(escaped), error.end


GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
GPU_FOLDER = Path("/proc/driver/nvidia/gpus")  # of NVIDIA's driver: a folder for each


def visible_gpus() -> tuple[str, ...]:
    """Return the numbers or names of the NVIDIA GPUs that this process may use."""
    named = os.environ.get(GPU_VARIABLE)
    if named is None:
        return tuple(str(number) for number, _ in enumerate(GPU_FOLDER.glob("*")))
    return tuple(name.strip() for name in named.split(",") if name.strip() not in ("", "-1"))
