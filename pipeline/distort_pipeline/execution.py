"""Runs tasks here, on a local cluster or on a remote one; the only file that knows Dask.

A task carries names, not pixels, writes what it alone owns, and returns a small record; running it twice changes
nothing. So any order, any number of workers and any retry give the same stores.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError
from distort_pipeline.scratch import scratch_folder

Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2  # one running, one waiting: workers never idle, a stop loses little
CONNECT_SECONDS = 20
GROUP_SECONDS = (
    0.1  # shorter tasks travel together, as sending one costs some milliseconds: benchmarks/dask_overhead.py
)
LARGEST_GROUP = 64


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


def group_size(seconds: float, tasks: int) -> int:
    """Return how many tasks to send together, after a group of `tasks` that took `seconds`: one, unless they are short.

    >>> group_size(3.0, 1), group_size(0.001, 1), group_size(0.004, 4), group_size(0.08, 4)
    (1, 2, 8, 5)
    """
    fitting = int(tasks * GROUP_SECONDS / max(seconds, 1e-9))
    return max(1, min(fitting, 2 * tasks, LARGEST_GROUP))


def _run_on(client: Any, function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> Iterator[Result]:
    from distributed import as_completed

    slots = max(1, sum(client.nthreads().values()))
    waiting = iter(tasks)

    def send(group: list[Task]) -> Any:
        return client.submit(_run_group, function, group, threads, pure=False)

    futures = as_completed([send([task]) for task in islice(waiting, slots * IN_FLIGHT_PER_WORKER)])
    for future in futures:
        results, seconds = future.result()
        yield from results
        future.release()
        if group := list(islice(waiting, group_size(seconds, len(results)))):
            futures.add(send(group))


def _run_group(function: Callable[[Task], Result], group: Sequence[Task], threads: int) -> tuple[list[Result], float]:
    """Return the results of a group of tasks, and how many seconds they took."""
    pin_threads(threads)
    started = time.monotonic()
    return [function(task) for task in group], time.monotonic() - started


def _client(workers: Workers, stack: ExitStack) -> Any:
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"})
    if workers.scheduler or workers.scheduler_file:
        if workers.scheduler_file and not Path(workers.scheduler_file).is_file():
            raise PipelineError(f"there is no scheduler file {workers.scheduler_file}")
        try:
            address = {"scheduler_file": workers.scheduler_file} if workers.scheduler_file else {}
            client = stack.enter_context(_closing(Client(workers.scheduler, timeout=CONNECT_SECONDS, **address)))
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            return client
        except (OSError, TimeoutError, ValueError) as error:
            place = workers.scheduler or workers.scheduler_file
            raise PipelineError(f"no Dask scheduler with a worker answers at {place}: {error}") from None
    scratch = stack.enter_context(scratch_folder())
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None would take port 8787 of every network interface
            local_directory=str(scratch),
            memory_limit=0,  # tasks bound their own memory; a nanny that kills at a guess loses work
            silence_logs=50,  # what goes wrong in a task arrives here, as its exception
        )
    stack.callback(cluster.close, timeout=5)
    return stack.enter_context(_closing(Client(cluster)))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start in here ignore the terminal's Ctrl-C: this one hears it, and ends them in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows has no masks: its workers say goodbye with a traceback
        return
    resource_tracker.ensure_running()  # else it starts in here, and lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _closing(client: Any) -> AbstractContextManager[Any]:
    from contextlib import closing

    return closing(client)
