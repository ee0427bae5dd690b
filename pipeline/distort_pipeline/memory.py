"""Returns freed memory of the process to the system."""

from __future__ import annotations

import ctypes


def trim_heap() -> None:
    """Return the free memory of the heap to the system; some milliseconds, nothing without glibc.

    A worker keeps memory freed by images for the next images. Small long-lived objects fragment this memory, so the
    heap of a long run would grow beyond the need of any task.
    """
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return None


_C = _c_library()
