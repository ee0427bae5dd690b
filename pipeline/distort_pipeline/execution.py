"""Runs tasks in this process, on a local cluster or on a remote cluster; the only module that imports Dask.

A task carries names instead of pixels, writes its own files only, and returns a small record. Tasks are idempotent, so
any order, any number of workers and any retry give the same stores.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from queue import Empty, Queue
from types import FrameType
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.process import GPU_VARIABLE, scratch_folder, visible_gpus
from distort_pipeline.records import DECIDING, package_versions

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


Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2  # one running, one queued: workers never idle, and a stop loses little work
# glibc keeps freed memory for the next image. Dask's own setting returns it to the system at once, which has to clear
# it again: up to 3 of 20 seconds in the pairs step (benchmarks/pairs.py)
MEMORY = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_THRESHOLD_": 1 << 25, "MALLOC_TRIM_THRESHOLD_": 1 << 27}
# Dask's processes profile themselves for its dashboard: stacks a hundred times a second, the event loop fifty times,
# memory twice. In the pairs step that took some 4 of 100 seconds (benchmarks/pairs.py)
WITHOUT_PROFILING = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 20
CLOSE_SECONDS = 5
GROUP_SECONDS = 0.1  # shorter tasks are sent in groups: sending costs milliseconds (benchmarks/dask_overhead.py)
LARGEST_GROUP = 64
COUNT_SECONDS = 5.0  # between two counts of the workers
CHECK_SECONDS = 2.0  # interval of the watchdog's checks while nothing finishes
ANSWER_SECONDS = 10.0  # timeout of the watchdog's request to a scheduler
REPORT_SECONDS = 60.0  # interval of the watchdog's messages
# these print tracebacks of lost connections; errors reach us as exceptions or by the watchdog
NOISY_LOGGERS = ("distributed", "distributed.client", "tornado.application", "asyncio")
WORKERLESS_SECONDS = 60.0  # time without workers before giving up: a batch system replaces a lost worker sooner


@dataclass(frozen=True)
class Workers:
    """The place of execution: `count` local processes (0: this process, task by task), or a Dask scheduler."""

    count: int = 0
    threads: int = 1  # of OpenCV, BLAS and TensorFlow in each worker
    scheduler: str | None = None  # tcp://host:port
    scheduler_file: str | None = None
    gpu: bool = False  # whether tasks use GPUs: a local process for each, others see none

    def __post_init__(self) -> None:
        if self.count < 0:
            raise WorkersError(f"--workers must be 0 or more, got {self.count}")


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers) -> Iterator[Result]:
    """Yield the result of `function` for each task, in order of completion; put the longest tasks first."""
    local = workers.scheduler is None and workers.scheduler_file is None
    if local and workers.count == 0:
        pin_threads(workers.threads)
        yield from _run_here(function, tasks)
        return
    if not tasks:
        return  # a repeated command: start no cluster
    if local and (lacking := _lacking_for_processes()):
        print(f"{lacking}: no worker processes; the tasks run in this process, as with --workers 0", file=sys.stderr)
        yield from run_tasks(function, tasks, Workers(0, workers.threads))
        return
    with ExitStack() as stack:
        client = _client(workers, stack)
        gpus, versions = (visible_gpus() if workers.gpu else (), None) if local else (None, deciding_versions())
        yield from _run_on(client, function, tasks, _Terms(workers.threads, gpus, versions))


@dataclass(frozen=True)
class _Terms:
    """What a worker keeps to: its threads, the GPUs of this machine, and elsewhere the versions of this command."""

    threads: int
    gpus: tuple[str, ...] | None = None  # each process has one of its own; empty: it sees none; None: as it was started
    versions: Mapping[str, str] | None = None


def _choose_gpu(gpus: Sequence[str]) -> None:
    """Let this worker process see its own GPU alone, or none; TensorFlow and JAX look when they start."""
    from distributed import get_worker

    os.environ[GPU_VARIABLE] = gpus[int(get_worker().name) % len(gpus)] if gpus else ""


@lru_cache(maxsize=1)
def deciding_versions() -> Mapping[str, str]:
    """Return name → version of the installed packages, and of the codec libraries, that decide bytes."""
    from distort_pipeline.distortions import DISTORTIONS, codec_versions  # codecs are not for every command

    versions = package_versions(DECIDING)
    for name in DISTORTIONS.names():
        with suppress(PipelineError):  # a codec that is not installed is missed by the tasks that need it
            versions.update(codec_versions([name]))
    return versions


def _require_same(versions: Mapping[str, str]) -> None:
    """Raise WorkersError if anything installed in this worker, too, has another version than in the command."""
    here = deciding_versions()
    others = {name: wanted for name, wanted in versions.items() if here.get(name, wanted) != wanted}
    if others:
        listed = ", ".join(f"{name} {here[name]} instead of {wanted}" for name, wanted in others.items())
        raise WorkersError(
            f"the worker on {socket.gethostname()} has {listed}, which can give other bytes: install there what this "
            "command has, the pins of requirements.lock for instance"
        )


def _lacking_for_processes() -> str:
    """Return the reason against local worker processes on this machine; an empty text if there is none."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        return f"shared memory cannot be used ({error})"
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return f"the loopback address {LOOPBACK} cannot be used ({error.strerror or error})"
    return ""


def _run_here(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    with graceful_shutdown() as stop_requested:
        for number, task in enumerate(tasks, start=1):
            yield function(task)
            if stop_requested() and number < len(tasks):
                raise KeyboardInterrupt


def pin_threads(threads: int) -> None:
    """Limit OpenCV, BLAS and TensorFlow of this process to `threads` threads, so that workers do not compete."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    import cv2

    cv2.setNumThreads(threads)


def group_size(seconds: float, tasks: int) -> int:
    """Return the size of the next group, after a group of `tasks` tasks that took `seconds`; 1 unless tasks are short.

    >>> group_size(3.0, 1), group_size(0.001, 1), group_size(0.004, 4), group_size(0.08, 4)
    (1, 2, 8, 5)
    """
    fitting = int(tasks * GROUP_SECONDS / max(seconds, 1e-9))
    return max(1, min(fitting, 2 * tasks, LARGEST_GROUP))


def _run_on(client: Any, function: Callable[[Task], Result], tasks: Sequence[Task], terms: _Terms) -> Iterator[Result]:
    slots, counted = max(1, sum(client.nthreads().values())), time.monotonic()
    waiting = iter(tasks)
    finished: Queue[Any] = Queue()
    in_flight: dict[Any, list[Task]] = {}

    def send(group: list[Task]) -> None:
        future = client.submit(_run_group, function, group, terms, pure=False)
        in_flight[future] = group
        future.add_done_callback(finished.put)

    with graceful_shutdown() as stop_requested:
        for task in islice(waiting, slots * IN_FLIGHT_PER_WORKER):
            send([task])
        watchdog = Watchdog(client)
        while in_flight:
            try:
                future = finished.get(timeout=CHECK_SECONDS)
            except Empty:
                watchdog.check([task for group in in_flight.values() for task in group])
                continue
            watchdog.note_finished()
            results, seconds = _result(future, in_flight[future], watchdog)
            del in_flight[future]
            yield from results
            if time.monotonic() - counted > COUNT_SECONDS:  # workers of a batch system come one by one
                slots, counted = max(1, sum(client.nthreads().values())), time.monotonic()
            while not stop_requested() and len(in_flight) < slots * IN_FLIGHT_PER_WORKER:
                if not (group := list(islice(waiting, group_size(seconds, len(results))))):
                    break
                send(group)
        if next(waiting, None) is not None:
            raise KeyboardInterrupt


class Watchdog:
    """Reports a stalled run, and stops a run without scheduler or workers."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._scheduler = f"the Dask scheduler at {client.scheduler.address}"
        self.note_finished()

    def note_finished(self) -> None:
        """Note a finished task."""
        self._finished = self._reported = self._seen_workers = time.monotonic()

    def check(self, tasks: Sequence[Any]) -> None:
        """Report the tasks in hand at intervals; WorkersError if the scheduler is gone, or all workers for long."""
        if self._client.status in ("closing", "closed"):
            raise WorkersError(f"{self._scheduler} is gone; {_resume_hint(tasks)}")
        now = time.monotonic()
        workers = self._workers()
        if workers:
            self._seen_workers = now
        elif now - self._seen_workers > WORKERLESS_SECONDS:
            lacking = "no worker is connected to" if workers == 0 else "no answer comes from"
            raise WorkersError(
                f"for {now - self._seen_workers:.0f} s {lacking} {self._scheduler}; {_resume_hint(tasks)}"
            )
        if now - self._reported > REPORT_SECONDS:
            self._reported = now
            print(
                f"nothing has finished for {now - self._finished:.0f} s: {self._scheduler} has {workers or 0} workers "
                f"and {len(tasks)} tasks in hand, first {task_name(tasks[0])}",
                file=sys.stderr,
            )

    def _workers(self) -> int | None:
        """Return the number of workers, or None if the scheduler does not answer."""
        try:
            return len(self._client.sync(self._client.scheduler.ncores, callback_timeout=ANSWER_SECONDS))
        except (OSError, TimeoutError):
            return None


def task_name(task: object) -> str:
    """Return a task's name for messages: its own, or the name of its shard, batch or part.

    >>> task_name(7)
    '7'
    """
    for item in (task, *(getattr(task, field, None) for field in ("shard", "batch", "part"))):
        if isinstance(name := getattr(item, "name", None) or getattr(item, "batch", None), str):
            return name
    return repr(task)[:80]


def _resume_hint(tasks: Sequence[Any]) -> str:
    return (
        f"{len(tasks)} tasks were in hand, first {task_name(tasks[0])}. "
        "Finished tasks are kept; the same command resumes from there"
    )


def _result(future: Any, tasks: Sequence[Any], watchdog: Watchdog) -> Any:
    """Return the results of a group of tasks and its seconds; WorkersError if its workers or the scheduler died."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        while True:
            try:
                return future.result(timeout=CHECK_SECONDS)
            except TimeoutError:  # the transfer is slow, or its worker has died since
                if future.status == "error":
                    raise
                watchdog.check(tasks)
    except KilledWorker as killed:
        raise WorkersError(
            f"{killed.allowed_failures + 1} workers died one after another in {task_name(tasks[0])}: out of "
            f"memory, perhaps; use fewer --workers. {_resume_hint(tasks)}"
        ) from None
    except (CancelledError, CommClosedError):
        raise WorkersError(f"the Dask scheduler is gone; {_resume_hint(tasks)}") from None
    finally:
        future.release()


def _run_group(function: Callable[[Task], Result], group: Sequence[Task], terms: _Terms) -> tuple[list[Result], float]:
    """Return the results of a group of tasks, and the seconds taken."""
    pin_threads(terms.threads)
    _require_same(terms.versions or {})
    if terms.gpus is not None:
        _choose_gpu(terms.gpus)
    started = time.monotonic()
    return [function(task) for task in group], time.monotonic() - started


def _client(workers: Workers, stack: ExitStack) -> Any:
    try:
        import dask
        from distributed import Client, LocalCluster, Security
    except ValueError as error:  # a damaged file in ~/.config/dask
        raise WorkersError(f"the settings of Dask cannot be read: {' '.join(str(error).split())}") from None

    for logger in NOISY_LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"})
    if workers.scheduler or workers.scheduler_file:
        if workers.scheduler_file and not Path(workers.scheduler_file).is_file():
            raise WorkersError(f"there is no scheduler file {workers.scheduler_file}")
        try:
            address = {"scheduler_file": workers.scheduler_file} if workers.scheduler_file else {}
            client = stack.enter_context(closing(Client(workers.scheduler, timeout=CONNECT_SECONDS, **address)))
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            return client
        except (OSError, TimeoutError, ValueError) as error:
            scheduler = workers.scheduler or workers.scheduler_file
            raise WorkersError(f"no Dask scheduler with a worker answers at {scheduler}: {error}") from None
    scratch = stack.enter_context(scratch_folder())
    gpus = visible_gpus() if workers.gpu else ()
    settings = {
        "temporary-directory": str(scratch),  # of the scheduler, which would leave its files in the system's folder
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ"),
            **MEMORY,
        },
        **WITHOUT_PROFILING,
    }
    with _interrupts_blocked(), dask.config.set(settings):
        try:
            cluster = LocalCluster(
                n_workers=min(workers.count, len(gpus)) if gpus else workers.count,
                threads_per_worker=1,
                processes=True,
                host=LOOPBACK,
                protocol="tcp",
                security=Security(require_encryption=False),  # within this machine, whatever ~/.config/dask says
                dashboard_address=f"{LOOPBACK}:0",  # None would take port 8787 of every network interface
                local_directory=str(scratch),
                memory_limit=0,  # tasks limit their own memory; a nanny that kills on an estimate loses work
                silence_logs=50,  # errors of tasks reach us as exceptions
            )
        except (OSError, RuntimeError, TimeoutError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise WorkersError(f"no worker processes can be started ({reason}); use --workers 0") from None
    stack.callback(_close, cluster)
    return stack.enter_context(closing(Client(cluster)))


def _close(cluster: Any) -> None:
    """End the workers, without a long wait on a busy machine: all work is done and recorded."""
    with suppress(TimeoutError):  # daemons end with this process at the latest
        cluster.close(timeout=CLOSE_SECONDS)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Make child processes started in this block ignore Ctrl-C; this process handles it and ends its children."""
    if not hasattr(signal, "pthread_sigmask"):
        yield  # Windows has no masks: its workers end with a traceback
        return
    resource_tracker.ensure_running()  # otherwise it would start in this block and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
