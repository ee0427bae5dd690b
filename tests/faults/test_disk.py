"""Disks that are full, read-only, forbidden or another one than that of temporary files."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from commands import kill, metadata
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_places"]

NOBODY = 65534


@contextmanager
def small_disk(folder, size, options=""):
    """A disk in memory of `size` bytes at `folder`, or a reason to skip."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this test mounts a small disk, which needs Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.fixture(scope="module")
def commands(place, models, placed_corpus):  # noqa: ARG001 - the place has the manifest
    """Name → the words of a command, without --out."""
    return {
        "pairs": ("pairs", "manifest.jsonl"),
        "generate": ("generate", "--models", models),
        "export": ("export", placed_corpus),
    }


@pytest.fixture(scope="module")
def wanted(place, commands):
    """Name → digest of the store that an undisturbed run makes."""
    found = {}
    for name, words in commands.items():
        place.made(*words, "--out", f"{name}-wanted")
        found[name] = metadata(place.folder / f"{name}-wanted")["digest"]
    return found


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_disk_that_fills_up_stops_the_run_and_loses_nothing(place, commands, wanted, name):
    """The check beforehand is got past, as something else may take the room during the run."""
    with small_disk(place.folder / "full", 2**30) as disk:
        (disk / "other").write_bytes(bytes(2**20))
        process = place.start(*commands[name], "--out", disk / name)
        while process.poll() is None and not list(disk.glob(f".{name}.*.building/ledger/*.json")):
            pass
        kill(process, signal.SIGSTOP)  # or it would write on while the disk shrinks
        used = shutil.disk_usage(disk).used
        remount(disk, f"size={used + 2**16}")
        kill(process, signal.SIGCONT)
        code = process.wait(300)
        said = place.said()
        assert code == 2, said
        assert "No space left on device" in said
        assert "GB free" in said
        assert "Traceback" not in said
        assert not (disk / name).exists()
        kept = len(list(disk.glob(f".{name}.*.building/ledger/*.json")))
        again, said = place.run(*commands[name], "--out", disk / name)
        assert again == 2
        assert "needs about" in said
        assert "make room" in said
        remount(disk, f"size={2**30}")
        place.made(*commands[name], "--out", disk / name)
        assert metadata(disk / name)["digest"] == wanted[name]
        assert "all as it was made" in place.made("verify", disk / name)
        tally(f"disk-full-{name}", runs=1, shards_kept=kept, same_digest=1)


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_disk_that_is_too_small_is_said_before_the_work(place, commands, name):
    with small_disk(place.folder / "small", 2**16) as disk:
        code, said = place.run(*commands[name], "--out", disk / "store")
        assert code == 2
        assert "needs about" in said
        assert "make room, or name another place with --out" in said
        assert not (disk / "store").exists()


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_read_only_disk_is_said(place, commands, name):
    with small_disk(place.folder / "read-only", 2**26, ",ro") as disk:
        code, said = place.run(*commands[name], "--out", disk / "store")
        assert code == 2
        assert f"cannot write in {disk}: Read-only file system" in said
        assert "Traceback" not in said


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's rights away")
@pytest.mark.parametrize("name", ["pairs", "export"])
def test_a_folder_of_somebody_else_is_said(place, commands, name, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    else:
        folder.chmod(0o555)
    without_rights = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    code, said = place.run(*commands[name], "--out", folder / "store", before=without_rights)
    assert code == 2, said
    assert f"cannot write in {folder}: Permission denied" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_output_on_another_disk_than_temporary_files(place, commands, wanted, name):
    with small_disk(place.folder / "other", 2**30) as disk:
        assert (disk.stat().st_dev) != place.temporary.stat().st_dev
        place.made(*commands[name], "--out", disk / name)
        assert metadata(disk / name)["digest"] == wanted[name]
