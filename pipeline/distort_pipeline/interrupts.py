"""A first Ctrl-C, or a SIGTERM, asks for a stop at the next good place; a second one stops at once."""

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
    """Give a function that says whether a stop was stop_requested for; only the main thread of a process can be asked."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    stop_requested = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop_requested.is_set():
            raise KeyboardInterrupt
        stop_requested.set()
        print("stopping when what is in hand is saved; once more stops at once", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop_requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
