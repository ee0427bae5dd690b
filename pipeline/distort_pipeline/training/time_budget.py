"""How many steps fit into a time: timed once, before the first step, and stored; a resumed training has as many."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from distort_pipeline.stores.files import write_json

TIMED_STEPS = 3
FILE = "steps.json"


def stored_steps(folder: Path, plan: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the numbers of steps, by phase, that an earlier run planned in `folder`; else plan and store them."""
    file = folder / FILE
    if file.is_file():
        return {name: int(steps) for name, steps in json.loads(file.read_text(encoding="utf-8")).items()}
    steps = plan()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, steps)
    return steps


def seconds_per_step(step: Callable[[int], object], *, gpu: bool = False) -> float:
    """Return the seconds of a step (called with its number) after a first one that compiles it.

    Without a GPU it is CPU time, divided by the cores: as fast as it would be alone on the machine.
    """
    step(0)
    clock = time.perf_counter if gpu else time.process_time
    started = clock()
    for number in range(1, TIMED_STEPS + 1):
        step(number)
    return (clock() - started) / TIMED_STEPS / (1 if gpu else cores())


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
