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
pytest_plugins = ["corpus_fixtures", "fault_places"]

INTERRUPTS = int(os.environ.get("FAULTS_INTERRUPTS", "6"))  # of each command
AT_ONCE_SECONDS = 15  # between the second Ctrl-C and the end: worker processes are told to go, and given a moment
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


def ledger_of(place, out):
    return {path.name for path in place.folder.glob(f".{out}.*.building/ledger/*.json")}


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_stop_when_asked_and_go_on(place, workers):
    interrupt("pairs", place, ("pairs", "manifest.jsonl"), workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_export_stops_when_asked_and_goes_on(place, placed_corpus, workers):
    interrupt("export", place, ("export", placed_corpus), workers)


def test_generate_stops_when_asked_and_goes_on(place, models):
    interrupt("generate", place, ("generate", "--models", models), 2)


def interrupt(name, place, words, workers):
    rng = random.Random(workers)
    words = (*words, "--workers", workers)
    place.made(*words, "--out", f"{name}-{workers}")
    wanted = metadata(place.folder / f"{name}-{workers}")["digest"]
    once = twice = kept = 0
    slowest = 0.0
    for turn in range(INTERRUPTS):
        out = f"{name}-{workers}-{turn}"
        process = place.start(*words, "--out", out)
        until(lambda out=out: ledger_of(place, out), 120, process)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is not None:
            continue  # it was faster
        before = ledger_of(place, out)
        asked = time.monotonic()
        kill(process, signal.SIGINT)
        if turn % 2:
            time.sleep(0.2)
            kill(process, signal.SIGINT)
            ended(process, AT_ONCE_SECONDS)
            twice += 1
        else:
            ended(process, IN_FLIGHT_SECONDS)
            once += 1
        slowest = max(slowest, time.monotonic() - asked)
        said = place.said()
        if process.returncode == 0:  # it was in the last shard
            continue
        # the second may meet a process that is past everything but its own end
        assert process.returncode == 130 or (turn % 2 and process.returncode == -signal.SIGINT), said
        assert "the same command goes on where this one was" in said
        assert "Traceback" not in said
        # between its tiles and its batches, nothing of generate is in hand, and of none when the last shard is made
        if not turn % 2 and name != "generate" and not re.search(rf"{name}: (\d+)/\1 ", said):
            assert "stopping when what is in hand is saved" in said
        assert ledger_of(place, out) >= before
        kept += len(ledger_of(place, out))
        place.made(*words, "--out", out)
        assert metadata(place.folder / out)["digest"] == wanted
    assert once
    tally(f"interrupts-{name}-{workers}", once=once, twice=twice, shards_kept=kept, slowest_seconds=round(slowest, 1))
