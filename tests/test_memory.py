import ctypes
import os
from pathlib import Path

import pytest

from distort_pipeline.steps import batches

STATM = Path("/proc/self/statm")


def resident_mb():
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim") or not STATM.is_file(), reason="glibc on Linux only")
def test_free_memory_below_a_live_object_is_returned():
    blocks = [b"\1" * 100_000 for _ in range(2000)]  # too small for separate pages
    live = blocks.pop()
    full = resident_mb()
    del blocks
    batches.trim_heap()
    assert resident_mb() < full - 150
    assert len(live) == 100_000


def test_without_such_a_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(batches, "_C", None)
    batches.trim_heap()
