"""Memory that a process has freed and keeps for itself, given back to the system."""

from __future__ import annotations

import ctypes


def trim_heap() -> None:
    """Return what this process's heap holds free, where its C library can (glibc); some milliseconds.

    A worker keeps what images free, as it is about to need it again. Among it is what was needed once: small things
    that stay scatter over it, so that the heap of a long run grows beyond what any of its tasks takes.
    """
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of that kind
        return None


_C = _c_library()
