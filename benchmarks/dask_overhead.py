"""Overhead of Dask per task: empty tasks on two local workers against a loop, without start-up."""

from __future__ import annotations

import time
from unittest.mock import patch

from benchmarks.harness import Figure, Options, Result, spread
from distort_pipeline import execution
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.records import package_versions

BAR_MS = 2.0
WORKERS = 2
ROUNDS = 3


def empty_task(number: int) -> str:
    """Return a name, as tasks do."""
    return f"train-{number:05d}"


def measure(options: Options) -> Result:
    """Return milliseconds that a task costs on the cluster beyond what it costs in a loop."""
    count = 100 if options.quick else 10_000
    extra, alone, starts, loops = [], [], [], []
    for _ in range(1 if options.quick else ROUNDS):
        loop, _ = _timed(count, Workers(0))
        cluster, start = _timed(count, Workers(WORKERS))
        extra.append((cluster - loop) / (count - 1) * 1000)
        starts.append(start)
        with patch.object(execution, "LARGEST_GROUP", 1):
            single, _ = _timed(count // 20, Workers(WORKERS))
        alone.append(single / (count // 20 - 1) * 1000)
        loops.append(loop / (count - 1) * 1000)
    return Result(
        f"{count:,} empty tasks, {WORKERS} local workers",
        [
            Figure("a task on the cluster", "the serial loop, difference", spread(extra), "ms", BAR_MS, at_least=False),
            Figure("a task that is sent alone, as one of 0.1 s or more is", "–", spread(alone), "ms"),
            Figure("a task in the serial loop", "–", spread(loops), "ms"),
            Figure("start of the cluster and its first task (excluded above)", "–", spread(starts), "s"),
        ],
        [
            "A task is timed from the first result to the last; the cluster's start, its workers' imports and its end "
            "are excluded.",
            "The bar is reached by grouping: tasks shorter than 0.1 s travel in groups of up to 64. One that is sent "
            "alone costs about 4 ms of processor time in this process (2026-11-23), and more on the clock of a busy "
            "machine. A real shard takes seconds, of which this is well under a hundredth.",
            "Tried for tasks that are sent alone, processor time of one (2026-11-24, one run each, busy machine): as "
            "now 3.5 ms; results fetched "
            "with `as_completed` 3.9 ms; `Client.map` of 4 tasks whenever 4 have come back 2.2 ms, of 8 2.2 ms, of 32 "
            "2.0 ms. So 2 ms are Dask's own for any task (scheduler, messages to the worker and back), and the rest "
            "is won only by more tasks waiting with each worker, which costs more at the end of a run than it saves "
            "where tasks take seconds. It was left.",
        ],
        packages=package_versions(["dask", "distributed"]),
    )


def _timed(count: int, workers: Workers) -> tuple[float, float]:
    """Return seconds from the first result to the last, and until the first."""
    started = time.perf_counter()
    results = run_tasks(empty_task, range(count), workers)
    next(results)
    first = last = time.perf_counter()
    for _ in results:
        last = time.perf_counter()
    return last - first, first - started
