"""SIGKILL to the whole process group at random moments; the same command must end as if nothing had happened."""

import fcntl
import os
import random
import subprocess
import time

import pytest
from commands import kill, metadata
from tally import tally

from distort_pipeline.scratch import LOCK, MEMORY_FOLDER, PREFIX

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_places"]

KILLS = int(os.environ.get("FAULTS_KILLS", "20"))  # of each command


def finished_files(work):
    """Return path → time of writing of the files of finished shards: their records and lines in the ledger."""
    names = [path.stem for path in (work / "ledger").glob("*.json")]
    files = [work / kind for name in names for kind in (f"ledger/{name}.json", f"records/{name}.parquet")]
    return {path.relative_to(work).as_posix(): path.stat().st_mtime_ns for path in files if path.exists()}


def abandoned(place):
    """Return temporary files of the place, and folders in memory whose owner is gone."""
    left = [path for path in place.temporary.iterdir() if "pymp" not in path.name]
    for folder in MEMORY_FOLDER.glob(f"{PREFIX}*/{LOCK}"):
        try:
            descriptor = os.open(folder, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.append(folder.parent)
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return left


def survive(name, place, out, *words, digest):
    """Kill a command KILLS times, each followed by the same command, until stores made that way are like the first."""
    rng = random.Random(name)
    began = time.monotonic()
    place.made(*words, "--out", out)
    seconds = time.monotonic() - began
    wanted = digest(place.folder / out)
    kills = stores = kept = remade = 0
    shards = set()
    while kills < KILLS:
        stores += 1
        out = f"{name}-{stores}"
        while True:
            (*_, work) = [place.folder / out, *place.folder.glob(f".{out}.*.building")]
            before = finished_files(work)
            process = place.start(*words, "--out", out)
            try:
                process.wait(rng.uniform(0, seconds) if kills < KILLS else 600)
            except subprocess.TimeoutExpired:
                kill(process)
                kills += 1
            (*_, work) = [place.folder / out, *place.folder.glob(f".{out}.*.building")]
            after = finished_files(work)
            kept += len(before)
            remade += sum(after.get(path) != written for path, written in before.items())
            shards |= set(after)
            if process.returncode == 0:
                break
            assert process.returncode == -9, place.said()
        store = place.folder / out
        assert digest(store) == wanted
        assert not list(store.rglob("*.partial"))
        assert not list(place.folder.glob(f".{out}.*"))
        assert "all as it was made" in place.made("verify", out)
        assert abandoned(place) == []
    assert remade == 0
    tally(
        f"kills-{name}",
        kills=kills,
        stores=stores,
        same_digest=stores,
        finished_files_kept=kept,
        finished_files_made_again=remade,
        seconds_undisturbed=round(seconds, 1),
    )


def store_digest(store):
    return metadata(store)["digest"]


def weights_digest(store):
    assert not (store / "checkpoints").exists()
    return metadata(store)["weights_digest"]


def test_pairs_survive(place):
    survive("pairs", place, "pairs-0", "pairs", "manifest.jsonl", digest=store_digest)


def test_generate_survives(place, models):
    survive("generate", place, "generate-0", "generate", "--models", models, digest=store_digest)


def test_export_survives(place, placed_corpus):
    survive("export", place, "export-0", "export", placed_corpus, digest=store_digest)


def test_train_survives(place, placed_pairs):
    survive("train", place, "train-0", "train", placed_pairs, "--distortion", "white_noise", digest=weights_digest)
