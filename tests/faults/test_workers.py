"""A scheduler and workers started by hand on loopback, and killed while a run depends on them."""

import random
import socket
import subprocess
import sys
import time

import pytest
from commands import kill, metadata
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_places"]

WORKERS = 4
HANG_SECONDS = 240  # far more than the watchdog waits before it gives up


class Cluster:
    """`dask scheduler` and `dask worker` processes on loopback."""

    def __init__(self, place):
        self._place = place
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.start_scheduler()

    def start_scheduler(self):
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard")

    def start_worker(self):
        """Start a worker without a nanny: nobody replaces it."""
        folder = self._place.temporary / "workers"
        words = ("worker", self.address, "--nthreads", 1, "--no-nanny", "--no-dashboard", "--local-directory", folder)
        return self._start(*words, "--death-timeout", 60)

    def _start(self, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + words[0], *map(str, words[1:])],
            cwd=self._place.folder,
            env=self._place.environment,
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
def cluster(place):
    found = Cluster(place)
    yield found
    found.close()


def finished(place, out):
    return len([*place.folder.glob(f".{out}.*.building/ledger/*.json"), *place.folder.glob(f"{out}/ledger/*.json")])


def until_finished(place, out, shards, process):
    end = time.monotonic() + HANG_SECONDS
    while finished(place, out) < shards and process.poll() is None:
        assert time.monotonic() < end, place.said()
        time.sleep(0.05)


def ended(place, process):
    try:
        return process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        pytest.fail(f"it hangs: {place.said()}")


@pytest.fixture(scope="module")
def undisturbed(place, models):
    place.made("generate", "--models", models, "--out", "undisturbed")
    return metadata(place.folder / "undisturbed")["digest"]


def test_two_of_four_workers_die_and_one_comes(place, models, cluster, undisturbed):
    rng = random.Random(1)
    workers = [cluster.start_worker() for _ in range(WORKERS)]
    process = place.start("generate", "--models", models, "--out", "two", "--scheduler", cluster.address)
    for shards in (6, 14):
        until_finished(place, "two", shards, process)
        kill(workers.pop(rng.randrange(len(workers))))
    cluster.start_worker()
    assert ended(place, process) == 0, place.said()
    assert metadata(place.folder / "two")["digest"] == undisturbed
    assert "all as it was made" in place.made("verify", "two")
    tally("workers-two-of-four", workers=WORKERS, killed=2, added=1, same_digest=1)


def test_all_workers_die_and_the_run_says_so_and_goes_on_later(place, models, cluster, undisturbed):
    workers = [cluster.start_worker() for _ in range(2)]
    words = ("generate", "--models", models, "--out", "none", "--scheduler", cluster.address)
    process = place.start(*words)
    until_finished(place, "none", 5, process)
    for worker in workers:
        kill(worker)
    killed = time.monotonic()
    assert ended(place, process) == 2, place.said()
    seconds = time.monotonic() - killed
    said = place.said()
    assert f"no worker is connected to the Dask scheduler at {cluster.address}" in said
    assert "the same command goes on from there" in said
    kept = finished(place, "none")
    cluster.start_worker()
    place.made(*words)
    assert metadata(place.folder / "none")["digest"] == undisturbed
    tally("workers-all", workers=2, killed=2, shards_kept=kept, seconds_until_said=round(seconds), same_digest=1)


def test_the_scheduler_dies_and_another_takes_its_place(place, models, cluster, undisturbed):
    for _ in range(2):
        cluster.start_worker()
    words = ("generate", "--models", models, "--out", "scheduler", "--scheduler", cluster.address)
    process = place.start(*words)
    until_finished(place, "scheduler", 5, process)
    kill(cluster.scheduler)
    killed = time.monotonic()
    assert ended(place, process) == 2, place.said()
    seconds = time.monotonic() - killed
    assert "is gone" in place.said()
    assert "Traceback" not in place.said()
    kept = finished(place, "scheduler")
    cluster.start_scheduler()
    for _ in range(2):
        cluster.start_worker()
    place.made(*words)
    assert metadata(place.folder / "scheduler")["digest"] == undisturbed
    tally("workers-scheduler", killed=1, shards_kept=kept, seconds_until_said=round(seconds), same_digest=1)


def test_a_local_worker_that_dies_is_replaced(place, models, undisturbed):
    import psutil

    process = place.start("generate", "--models", models, "--out", "local", "--workers", 2)
    until_finished(place, "local", 5, process)
    children = psutil.Process(process.pid).children(recursive=True)
    victims = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert victims
    random.Random(3).choice(victims).kill()
    assert ended(place, process) == 0, place.said()
    assert metadata(place.folder / "local")["digest"] == undisturbed
    tally("workers-local", killed=1, same_digest=1)
