"""Graceful shutdown: a first Ctrl-C or SIGTERM stops after the unit of work in hand, a second at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a stop was requested; always False outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    stop_requested = threading.Event()

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        if stop_requested.is_set():
            raise KeyboardInterrupt
        stop_requested.set()
        print("stopping after the work in hand is saved; press again to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, request_stop) for number in SIGNALS}
    try:
        yield stop_requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
