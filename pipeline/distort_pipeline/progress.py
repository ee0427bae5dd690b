"""Iterables with their progress shown on stderr, or made ahead by a thread."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

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
