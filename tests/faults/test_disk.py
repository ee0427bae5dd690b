"""Disks that are full, read-only or forbidden, and output on another disk than temporary files."""

import os
import shutil
import signal

import pytest
from commands import kill, leave_room, metadata, remount, small_disk
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

NOBODY = 65534


@pytest.fixture(scope="module")
def commands(workdir, models, workdir_corpus):  # noqa: ARG001 - the workdir has the manifest
    """Name → the arguments of a command, without --out."""
    return {
        "pairs": ("pairs", "manifest.jsonl"),
        "generate": ("generate", "--models", models),
        "export": ("export", workdir_corpus),
    }


@pytest.fixture(scope="module")
def expected(workdir, commands):
    """Name → digest of the store of an undisturbed run."""
    digests = {}
    for name, args in commands.items():
        workdir.succeed(*args, "--out", f"{name}-expected")
        digests[name] = metadata(workdir.folder / f"{name}-expected")["digest"]
    return digests


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_disk_that_fills_up_stops_the_run_and_loses_nothing(workdir, commands, expected, name):
    """The check before the run passes, as another program may fill the disk during the run."""
    with small_disk(workdir.folder / "full", 2**30) as disk:
        (disk / "other").write_bytes(bytes(2**20))
        process = workdir.start(*commands[name], "--out", disk / name)
        while process.poll() is None and not list(disk.glob(f".{name}.*.building/ledger/*.json")):
            pass
        kill(process, signal.SIGSTOP)  # no writes while the disk shrinks
        leave_room(disk, 2**16)
        kill(process, signal.SIGCONT)
        code = process.wait(300)
        output = workdir.output()
        assert code == 2, output
        assert "No space left on device" in output
        assert "GB free" in output
        assert "Traceback" not in output
        assert not (disk / name).exists()
        kept = len(list(disk.glob(f".{name}.*.building/ledger/*.json")))
        code, output = workdir.run(*commands[name], "--out", disk / name)
        assert code == 2
        assert "needs about" in output
        assert "make room" in output
        remount(disk, f"size={2**30}")
        workdir.succeed(*commands[name], "--out", disk / name)
        assert metadata(disk / name)["digest"] == expected[name]
        assert "all as it was made" in workdir.succeed("verify", disk / name)
        tally(f"disk-full-{name}", runs=1, shards_kept=kept, same_digest=1)


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_disk_that_is_too_small_is_an_error_before_the_work(workdir, commands, name):
    with small_disk(workdir.folder / "small", 2**16) as disk:
        code, output = workdir.run(*commands[name], "--out", disk / "store")
        assert code == 2
        assert "needs about" in output
        assert "make room, or choose another folder with --out" in output
        assert not (disk / "store").exists()


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_a_read_only_disk_is_an_error(workdir, commands, name):
    with small_disk(workdir.folder / "read-only", 2**26, ",ro") as disk:
        code, output = workdir.run(*commands[name], "--out", disk / "store")
        assert code == 2
        assert f"cannot write {disk}/store: Read-only file system" in output
        assert "Traceback" not in output


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's rights away")
@pytest.mark.parametrize("name", ["pairs", "export"])
def test_a_folder_of_another_user_is_an_error(workdir, commands, name, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    else:
        folder.chmod(0o555)
    without_rights = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    code, output = workdir.run(*commands[name], "--out", folder / "store", before=without_rights)
    assert code == 2, output
    assert f"cannot write {folder}/store: Permission denied" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_output_on_another_disk_than_temporary_files(workdir, commands, expected, name):
    with small_disk(workdir.folder / "other", 2**30) as disk:
        assert (disk.stat().st_dev) != workdir.temporary.stat().st_dev
        workdir.succeed(*commands[name], "--out", disk / name)
        assert metadata(disk / name)["digest"] == expected[name]
