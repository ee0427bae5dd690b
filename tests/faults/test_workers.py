"""A scheduler and workers on loopback, killed during a run."""

import random
import socket
import subprocess
import sys
import time

import pytest
from commands import kill, metadata
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

WORKERS = 4
HANG_SECONDS = 240  # far more than the timeout of the watchdog


class Cluster:
    """`dask scheduler` and `dask worker` processes on loopback."""

    def __init__(self, workdir):
        self._workdir = workdir
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.start_scheduler()

    def start_scheduler(self):
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard")

    def start_worker(self):
        """Start a worker without a nanny, so without replacement."""
        folder = self._workdir.temporary / "workers"
        args = ("worker", self.address, "--nthreads", 1, "--no-nanny", "--no-dashboard", "--local-directory", folder)
        return self._start(*args, "--death-timeout", 60)

    def _start(self, *args):
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + args[0], *map(str, args[1:])],
            cwd=self._workdir.folder,
            env=self._workdir.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            kill(process)


@pytest.fixture
def cluster(workdir):
    started = Cluster(workdir)
    yield started
    started.close()


def finished(workdir, out):
    return len([*workdir.folder.glob(f".{out}.*.building/ledger/*.json"), *workdir.folder.glob(f"{out}/ledger/*.json")])


def until_finished(workdir, out, shards, process):
    end = time.monotonic() + HANG_SECONDS
    while finished(workdir, out) < shards and process.poll() is None:
        assert time.monotonic() < end, workdir.output()
        time.sleep(0.05)


def ended(workdir, process):
    try:
        return process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        pytest.fail(f"it hangs: {workdir.output()}")


@pytest.fixture(scope="module")
def undisturbed(workdir, models):
    workdir.succeed("generate", "--models", models, "--out", "undisturbed")
    return metadata(workdir.folder / "undisturbed")["digest"]


def test_two_of_four_workers_die_and_one_comes(workdir, models, cluster, undisturbed):
    rng = random.Random(1)
    workers = [cluster.start_worker() for _ in range(WORKERS)]
    process = workdir.start("generate", "--models", models, "--out", "two", "--scheduler", cluster.address)
    for shards in (6, 14):
        until_finished(workdir, "two", shards, process)
        kill(workers.pop(rng.randrange(len(workers))))
    cluster.start_worker()
    assert ended(workdir, process) == 0, workdir.output()
    assert metadata(workdir.folder / "two")["digest"] == undisturbed
    assert "all as it was made" in workdir.succeed("verify", "two")
    tally("workers-two-of-four", workers=WORKERS, killed=2, added=1, same_digest=1)


def test_all_workers_die_and_the_run_says_so_and_goes_on_later(workdir, models, cluster, undisturbed):
    workers = [cluster.start_worker() for _ in range(2)]
    args = ("generate", "--models", models, "--out", "none", "--scheduler", cluster.address)
    process = workdir.start(*args)
    until_finished(workdir, "none", 5, process)
    for worker in workers:
        kill(worker)
    killed = time.monotonic()
    assert ended(workdir, process) == 2, workdir.output()
    seconds = time.monotonic() - killed
    output = workdir.output()
    assert f"no worker is connected to the Dask scheduler at {cluster.address}" in output
    assert "the same command resumes from there" in output
    kept = finished(workdir, "none")
    cluster.start_worker()
    workdir.succeed(*args)
    assert metadata(workdir.folder / "none")["digest"] == undisturbed
    tally("workers-all", workers=2, killed=2, shards_kept=kept, seconds_until_said=round(seconds), same_digest=1)


def test_the_scheduler_dies_and_another_takes_over(workdir, models, cluster, undisturbed):
    for _ in range(2):
        cluster.start_worker()
    args = ("generate", "--models", models, "--out", "scheduler", "--scheduler", cluster.address)
    process = workdir.start(*args)
    until_finished(workdir, "scheduler", 5, process)
    kill(cluster.scheduler)
    killed = time.monotonic()
    assert ended(workdir, process) == 2, workdir.output()
    seconds = time.monotonic() - killed
    assert "is gone" in workdir.output()
    assert "Traceback" not in workdir.output()
    kept = finished(workdir, "scheduler")
    cluster.start_scheduler()
    for _ in range(2):
        cluster.start_worker()
    workdir.succeed(*args)
    assert metadata(workdir.folder / "scheduler")["digest"] == undisturbed
    tally("workers-scheduler", killed=1, shards_kept=kept, seconds_until_said=round(seconds), same_digest=1)


def test_a_local_worker_that_dies_is_replaced(workdir, models, undisturbed):
    import psutil

    process = workdir.start("generate", "--models", models, "--out", "local", "--workers", 2)
    until_finished(workdir, "local", 5, process)
    children = psutil.Process(process.pid).children(recursive=True)
    victims = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert victims
    random.Random(3).choice(victims).kill()
    assert ended(workdir, process) == 0, workdir.output()
    assert metadata(workdir.folder / "local")["digest"] == undisturbed
    tally("workers-local", killed=1, same_digest=1)
