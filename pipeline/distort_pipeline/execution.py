"""Runs tasks here, on a local cluster or on a remote one; the only file that knows Dask.

A task carries names, not pixels, writes what it alone owns, and returns a small record; running it twice changes
nothing. So any order, any number of workers and any retry give the same stores.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError

Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2  # one running, one waiting: workers never idle, a stop loses little
CONNECT_SECONDS = 20


@dataclass(frozen=True)
class Workers:
    """Where tasks run: `count` local processes (0: in this process, one after another), or a Dask scheduler."""

    count: int = 0
    threads: int = 1  # of OpenCV, BLAS and TensorFlow in each worker
    scheduler: str | None = None  # tcp://host:port
    scheduler_file: str | None = None


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers) -> Iterator[Result]:
    """Yield the result of `function` for each task, as they finish; longest tasks should come first."""
    if workers.scheduler is None and workers.scheduler_file is None and workers.count == 0:
        pin_threads(workers.threads)
        yield from map(function, tasks)
        return
    if not tasks:
        return  # a repeated command: no cluster need start to do nothing
    with ExitStack() as stack:
        client = _client(workers, stack)
        yield from _run_on(client, function, tasks, workers.threads)


def pin_threads(threads: int) -> None:
    """Make OpenCV, BLAS and TensorFlow of this process use `threads` threads, so that workers do not fight."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    import cv2

    cv2.setNumThreads(threads)


def _run_on(client: Any, function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> Iterator[Result]:
    from distributed import as_completed

    slots = max(1, sum(client.nthreads().values()))
    waiting = iter(tasks)
    first = [task for _, task in zip(range(slots * IN_FLIGHT_PER_WORKER), waiting, strict=False)]
    futures = as_completed([client.submit(_pinned, function, task, threads, pure=False) for task in first])
    for future in futures:
        yield future.result()
        future.release()
        for task in waiting:
            futures.add(client.submit(_pinned, function, task, threads, pure=False))
            break


def _pinned(function: Callable[[Task], Result], task: Task, threads: int) -> Result:
    pin_threads(threads)
    return function(task)


def _client(workers: Workers, stack: ExitStack) -> Any:
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"})
    if workers.scheduler or workers.scheduler_file:
        if workers.scheduler_file and not Path(workers.scheduler_file).is_file():
            raise PipelineError(f"there is no scheduler file {workers.scheduler_file}")
        try:
            address = {"scheduler_file": workers.scheduler_file} if workers.scheduler_file else {}
            return stack.enter_context(_closing(Client(workers.scheduler, timeout=CONNECT_SECONDS, **address)))
        except (OSError, TimeoutError, ValueError) as error:
            place = workers.scheduler or workers.scheduler_file
            raise PipelineError(f"no Dask scheduler answers at {place}: {error}") from None
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="distort-pipeline-dask-"))
    cluster = LocalCluster(
        n_workers=workers.count,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",  # None would take port 8787 of every network interface
        local_directory=scratch,
        memory_limit=0,  # tasks bound their own memory; a nanny that kills at a guess loses work
        silence_logs=40,
    )
    stack.callback(cluster.close, timeout=5)
    return stack.enter_context(_closing(Client(cluster)))


def _closing(client: Any) -> AbstractContextManager[Any]:
    from contextlib import closing

    return closing(client)
