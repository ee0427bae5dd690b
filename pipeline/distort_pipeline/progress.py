"""Progress of a run: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], *, total: int, label: str, unit: str, done: int = 0) -> Iterator[Item]:
    """Yield `items` and show the progress on stderr, as a count of `total`; `done` were finished before this run."""
    if sys.stderr is not None and sys.stderr.isatty():  # None in a Python without a console
        from tqdm import tqdm

        yield from tqdm(items, total=total, initial=done, desc=label, unit=f" {unit}", smoothing=0.05)
        return
    yield from _track_in_lines(items, total, label, unit, done)


def _track_in_lines(items: Iterable[Item], total: int, label: str, unit: str, done: int) -> Iterator[Item]:
    started = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or done + number == total:
            last = now
            print(progress_line(label, unit, done + number, total, number / max(now - started, 1e-9)), file=sys.stderr)


def progress_line(label: str, unit: str, done: int, total: int, per_second: float) -> str:
    """Return a plain line of progress.

    >>> progress_line("pairs", "shards", 5, 20, 2.5)
    'pairs: 5/20 shards, 2.5 shards/s, 6 s left'
    """
    remaining_s = (total - done) / per_second if per_second else 0.0
    return f"{label}: {done}/{total} {unit}, {per_second:.1f} {unit}/s, {remaining_s:.0f} s left"
