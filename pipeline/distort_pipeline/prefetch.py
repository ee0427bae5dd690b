"""Work done in a thread before it is asked for, so that what waits for the disk and what computes overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """Says that there are no more items, and why if something went wrong."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterator[Item], count: int, *, name: str) -> Generator[Item, None, None]:
    """Yield `items` in order; a thread called `name` takes them from their iterator, up to `count` before they are due.

    Its errors are raised here. Closed or left before its end, the thread stops behind the item that it is at.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(count)
    stopped = threading.Event()

    def hand_over(got: Item | _End) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(got, timeout=0.1)
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
            got = ready.get()
            if not isinstance(got, _End):
                yield got
                continue
            if got.error is not None:
                raise got.error
            return
    finally:
        stopped.set()
        thread.join()
