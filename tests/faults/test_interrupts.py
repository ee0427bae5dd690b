"""Ctrl-C once finishes what is in flight; twice stops at once. The same command goes on in both cases."""

import os
import random
import re
import signal
import subprocess
import time

import pytest
from commands import kill, metadata
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

INTERRUPTS = int(os.environ.get("FAULTS_INTERRUPTS", "6"))  # of each command
AT_ONCE_SECONDS = 15  # between the second Ctrl-C and the end: worker processes get a moment to stop
IN_FLIGHT_SECONDS = 60


def until(condition, seconds, process):
    """Wait until a condition is true or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def ended(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        pytest.fail(f"still running {seconds} s later")


def ledger_of(workdir, out):
    return {path.name for path in workdir.folder.glob(f".{out}.*.building/ledger/*.json")}


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_pairs_stop_and_go_on(workdir, workers):
    interrupt("pairs", workdir, ("pairs", "manifest.jsonl"), workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_export_stops_and_goes_on(workdir, workdir_corpus, workers):
    interrupt("export", workdir, ("export", workdir_corpus), workers)


def test_interrupted_generate_stops_and_goes_on(workdir, models):
    interrupt("generate", workdir, ("generate", "--models", models), 2)


def interrupt(name, workdir, args, workers):
    rng = random.Random(workers)
    args = (*args, "--workers", workers)
    workdir.succeed(*args, "--out", f"{name}-{workers}")
    expected = metadata(workdir.folder / f"{name}-{workers}")["digest"]
    once = twice = kept = 0
    slowest = 0.0
    for number in range(INTERRUPTS):
        out = f"{name}-{workers}-{number}"
        process = workdir.start(*args, "--out", out)
        until(lambda out=out: ledger_of(workdir, out), 120, process)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is not None:
            continue  # already finished
        before = ledger_of(workdir, out)
        interrupted = time.monotonic()
        kill(process, signal.SIGINT)
        if number % 2:
            time.sleep(0.2)
            kill(process, signal.SIGINT)
            ended(process, AT_ONCE_SECONDS)
            twice += 1
        else:
            ended(process, IN_FLIGHT_SECONDS)
            once += 1
        slowest = max(slowest, time.monotonic() - interrupted)
        output = workdir.output()
        if process.returncode == 0:  # it was in the last shard
            continue
        # the second Ctrl-C may reach a process about to exit
        assert process.returncode == 130 or (number % 2 and process.returncode == -signal.SIGINT), output
        assert "the same command resumes from here" in output
        assert "Traceback" not in output
        # nothing is in hand between tiles and batches of generate, and after the last shard of any command
        if not number % 2 and name != "generate" and not re.search(rf"{name}: (\d+)/\1 ", output):
            assert "stopping after the work in hand is saved" in output
        assert ledger_of(workdir, out) >= before
        kept += len(ledger_of(workdir, out))
        workdir.succeed(*args, "--out", out)
        assert metadata(workdir.folder / out)["digest"] == expected
    assert once
    tally(f"interrupts-{name}-{workers}", once=once, twice=twice, shards_kept=kept, slowest_seconds=round(slowest, 1))
