"""Prefetching in a thread: reading from the disk overlaps with computing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")


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
