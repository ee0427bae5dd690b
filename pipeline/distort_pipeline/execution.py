"""Runs tasks here, on a local cluster or on a remote one; the only file that knows Dask.

A task carries names, not pixels, writes what it alone owns, and returns a small record; running it twice changes
nothing. So any order, any number of workers and any retry give the same stores.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from distort_pipeline.errors import WorkersError
from distort_pipeline.interrupts import graceful_shutdown
from distort_pipeline.scratch import scratch_folder

Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2  # one running, one waiting: workers never idle, a stop loses little
# glibc keeps what images free, and gives it out again: Dask's own setting returns it to the system at once, which has
# to clear it anew; in the pairs step that took up to 3 of 20 seconds (benchmarks/pairs.py)
MEMORY = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_THRESHOLD_": 1 << 25, "MALLOC_TRIM_THRESHOLD_": 1 << 27}
# Dask's processes watch themselves for its dashboard: a hundred times a second what runs, fifty times whether their
# loop does, twice how much memory they hold. In the pairs step that took some 4 of 100 seconds (benchmarks/pairs.py)
UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
CONNECT_SECONDS = 20
CLOSE_SECONDS = 5
GROUP_SECONDS = (
    0.1  # shorter tasks travel together, as sending one costs some milliseconds: benchmarks/dask_overhead.py
)
LARGEST_GROUP = 64
LOOK_SECONDS = 2.0  # how often the watchdog looks when nothing finishes
ANSWER_SECONDS = 10.0  # for which the watchdog waits to hear from a scheduler
SAY_SECONDS = 60.0  # how often it says what is waited for
# of lost connections they print tracebacks: what goes wrong arrives here as an exception, or as the watchdog's word
NOISY_LOGGERS = ("distributed", "distributed.client", "tornado.application", "asyncio")
WORKERLESS_SECONDS = 60.0  # after which nobody will come: a batch system replaces a lost worker sooner


@dataclass(frozen=True)
class Workers:
    """Where tasks run: `count` local processes (0: in this process, one after another), or a Dask scheduler."""

    count: int = 0
    threads: int = 1  # of OpenCV, BLAS and TensorFlow in each worker
    scheduler: str | None = None  # tcp://host:port
    scheduler_file: str | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise WorkersError(f"there can be 0 workers or more, got {self.count}")


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers) -> Iterator[Result]:
    """Yield the result of `function` for each task, as they finish; longest tasks should come first."""
    if workers.scheduler is None and workers.scheduler_file is None and workers.count == 0:
        pin_threads(workers.threads)
        yield from _run_here(function, tasks)
        return
    if not tasks:
        return  # a repeated command: no cluster need start to do nothing
    with ExitStack() as stack:
        client = _client(workers, stack)
        yield from _run_on(client, function, tasks, workers.threads)


def _run_here(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    with graceful_shutdown() as stop_requested:
        for made, task in enumerate(tasks, start=1):
            yield function(task)
            if stop_requested() and made < len(tasks):
                raise KeyboardInterrupt


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
    slots = max(1, sum(client.nthreads().values()))
    waiting = iter(tasks)
    finished: Queue[Any] = Queue()
    in_flight: dict[Any, list[Task]] = {}

    def send(group: list[Task]) -> None:
        future = client.submit(_run_group, function, group, threads, pure=False)
        in_flight[future] = group
        future.add_done_callback(finished.put)

    with graceful_shutdown() as stop_requested:
        for task in islice(waiting, slots * IN_FLIGHT_PER_WORKER):
            send([task])
        watchdog = Watchdog(client)
        while in_flight:
            try:
                future = finished.get(timeout=LOOK_SECONDS)
            except Empty:
                watchdog.look([task for group in in_flight.values() for task in group])
                continue
            watchdog.pet()
            results, seconds = _result(future, in_flight[future], watchdog)
            del in_flight[future]
            yield from results
            if not stop_requested() and (group := list(islice(waiting, group_size(seconds, len(results))))):
                send(group)
        if next(waiting, None) is not None:
            raise KeyboardInterrupt


class Watchdog:
    """Says what a run waits for when nothing finishes, and stops it when nobody is left to finish anything."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._place = f"the Dask scheduler at {client.scheduler.address}"
        self.pet()

    def pet(self) -> None:
        """Take note that something has finished."""
        self._finished = self._said = self._seen_workers = time.monotonic()

    def look(self, tasks: Sequence[Any]) -> None:
        """Say what is waited for, at times; WorkersError if the scheduler is gone, or its workers are for long."""
        if self._client.status in ("closing", "closed"):
            raise WorkersError(f"{self._place} is gone; {_go_on(tasks)}")
        now = time.monotonic()
        workers = self._workers()
        if workers:
            self._seen_workers = now
        elif now - self._seen_workers > WORKERLESS_SECONDS:
            lacking = "no worker is connected to" if workers == 0 else "no answer comes from"
            raise WorkersError(f"for {now - self._seen_workers:.0f} s {lacking} {self._place}; {_go_on(tasks)}")
        if now - self._said > SAY_SECONDS:
            self._said = now
            print(
                f"nothing has finished for {now - self._finished:.0f} s: {self._place} has {workers or 0} workers and "
                f"{len(tasks)} tasks in hand, first {task_name(tasks[0])}",
                file=sys.stderr,
            )

    def _workers(self) -> int | None:
        """Return how many workers there are, or None if the scheduler does not answer."""
        try:
            return len(self._client.sync(self._client.scheduler.ncores, callback_timeout=ANSWER_SECONDS))
        except (OSError, TimeoutError):
            return None


def task_name(task: object) -> str:
    """Return what to call a task when speaking of it: its own name, or its shard's, part's or batch's.

    >>> task_name(7)
    '7'
    """
    for part in (task, *(getattr(task, word, None) for word in ("shard", "batch", "part"))):
        if isinstance(name := getattr(part, "name", None) or getattr(part, "batch", None), str):
            return name
    return repr(task)[:80]


def _go_on(tasks: Sequence[Any]) -> str:
    return (
        f"{len(tasks)} tasks were in hand, first {task_name(tasks[0])}. "
        "What is finished is kept, the same command goes on from there"
    )


def _result(future: Any, tasks: Sequence[Any], watchdog: Watchdog) -> Any:
    """Return what a group of tasks gave; WorkersError if its workers died, or the scheduler that knew of it."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:  # of the way here: its worker may have died since
                if future.status == "error":
                    raise
                watchdog.look(tasks)
    except KilledWorker as killed:
        raise WorkersError(
            f"{killed.allowed_failures + 1} workers died one after the other over {task_name(tasks[0])}: out of "
            f"memory, perhaps; with fewer workers each has more. {_go_on(tasks)}"
        ) from None
    except (CancelledError, CommClosedError):
        raise WorkersError(f"the Dask scheduler is gone; {_go_on(tasks)}") from None
    finally:
        future.release()


def _run_group(function: Callable[[Task], Result], group: Sequence[Task], threads: int) -> tuple[list[Result], float]:
    """Return the results of a group of tasks, and how many seconds they took."""
    pin_threads(threads)
    started = time.monotonic()
    return [function(task) for task in group], time.monotonic() - started


def _client(workers: Workers, stack: ExitStack) -> Any:
    import dask
    from distributed import Client, LocalCluster

    for logger in NOISY_LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"})
    if workers.scheduler or workers.scheduler_file:
        if workers.scheduler_file and not Path(workers.scheduler_file).is_file():
            raise WorkersError(f"there is no scheduler file {workers.scheduler_file}")
        try:
            address = {"scheduler_file": workers.scheduler_file} if workers.scheduler_file else {}
            client = stack.enter_context(_closing(Client(workers.scheduler, timeout=CONNECT_SECONDS, **address)))
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            return client
        except (OSError, TimeoutError, ValueError) as error:
            place = workers.scheduler or workers.scheduler_file
            raise WorkersError(f"no Dask scheduler with a worker answers at {place}: {error}") from None
    scratch = stack.enter_context(scratch_folder())
    settings = {
        "temporary-directory": str(scratch),  # the scheduler's: without a word it leaves one where all such files go
        "distributed.nanny.pre-spawn-environ": {**dask.config.get("distributed.nanny.pre-spawn-environ"), **MEMORY},
        **UNWATCHED,
    }
    with _deaf_to_interrupts(), dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None would take port 8787 of every network interface
            local_directory=str(scratch),
            memory_limit=0,  # tasks bound their own memory; a nanny that kills at a guess loses work
            silence_logs=50,  # what goes wrong in a task arrives here, as its exception
        )
    stack.callback(_close, cluster)
    return stack.enter_context(_closing(Client(cluster)))


def _close(cluster: Any) -> None:
    """End the workers. On a busy machine that can take longer than is worth waiting for: all work is done and noted."""
    with suppress(TimeoutError):  # they are daemons, and end with this process at the latest
        cluster.close(timeout=CLOSE_SECONDS)


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
