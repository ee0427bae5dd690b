"""SIGKILL to the whole process group at random moments; the same command must give the same store."""

import fcntl
import os
import random
import subprocess
import time

import pytest
from commands import kill, metadata
from tally import tally

from distort_pipeline.process import LOCK, MEMORY_FOLDER, PREFIX

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

KILLS = int(os.environ.get("FAULTS_KILLS", "20"))  # of each command


def finished_files(work):
    """Return path → modification time of the files of finished shards: records and ledger entries."""
    names = [path.stem for path in (work / "ledger").glob("*.json")]
    files = [work / kind for name in names for kind in (f"ledger/{name}.json", f"records/{name}.parquet")]
    return {path.relative_to(work).as_posix(): path.stat().st_mtime_ns for path in files if path.exists()}


def abandoned(workdir):
    """Return temporary files of the workdir, and memory folders of ended processes."""
    leftovers = [path for path in workdir.temporary.iterdir() if "pymp" not in path.name]
    for folder in MEMORY_FOLDER.glob(f"{PREFIX}*/{LOCK}"):
        try:
            descriptor = os.open(folder, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftovers.append(folder.parent)
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return leftovers


def survive(name, workdir, out, *args, digest):
    """Kill a command KILLS times, repeat the same command each time, and compare the stores with the first."""
    rng = random.Random(name)
    began = time.monotonic()
    workdir.succeed(*args, "--out", out)
    seconds = time.monotonic() - began
    expected = digest(workdir.folder / out)
    kills = stores = kept = remade = 0
    shards = set()
    while kills < KILLS:
        stores += 1
        out = f"{name}-{stores}"
        while True:
            (*_, work) = [workdir.folder / out, *workdir.folder.glob(f".{out}.*.building")]
            before = finished_files(work)
            process = workdir.start(*args, "--out", out)
            try:
                process.wait(rng.uniform(0, seconds) if kills < KILLS else 600)
            except subprocess.TimeoutExpired:
                kill(process)
                kills += 1
            (*_, work) = [workdir.folder / out, *workdir.folder.glob(f".{out}.*.building")]
            after = finished_files(work)
            kept += len(before)
            remade += sum(after.get(path) != written for path, written in before.items())
            shards |= set(after)
            if process.returncode == 0:
                break
            assert process.returncode == -9, workdir.output()
        store = workdir.folder / out
        assert digest(store) == expected
        assert not list(store.rglob("*.partial"))
        assert not list(workdir.folder.glob(f".{out}.*"))
        assert "all as it was made" in workdir.succeed("verify", out)
        assert abandoned(workdir) == []
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


def test_pairs_survive(workdir):
    survive("pairs", workdir, "pairs-0", "pairs", "manifest.jsonl", digest=store_digest)


def test_generate_survives(workdir, models):
    survive("generate", workdir, "generate-0", "generate", "--models", models, digest=store_digest)


def test_export_survives(workdir, workdir_corpus):
    survive("export", workdir, "export-0", "export", workdir_corpus, digest=store_digest)


def test_train_survives(workdir, workdir_pairs):
    survive("train", workdir, "train-0", "train", workdir_pairs, "--distortion", "white_noise", digest=weights_digest)
