"""Commands as typed by a user, each in its own process group, killable at any moment."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import distort_pipeline

SECONDS = 300  # longer than any command here on a busy machine: beyond it, a hang


class Workdir:
    """A working folder for commands, with its own settings, home and folder for temporary files."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.home, self.temporary = folder / "home", folder / "temporary"
        for subfolder in (self.home, self.temporary):
            subfolder.mkdir(parents=True)
        (folder / "params.yaml").write_text(json.dumps({"distort_pipeline": 1, **settings}), encoding="utf-8")
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(Path(distort_pipeline.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, *args, before=()):
        """Return the started process of a command, prefixed by `before`; its output goes to a file."""
        with (self.folder / "output.txt").open("wb") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-m", "distort_pipeline", *map(str, args)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *args, seconds=SECONDS, **options):
        """Return exit code and output of a command; a hang is an error."""
        process = self.start(*args, **options)
        try:
            process.wait(seconds)
        finally:
            kill(process)
        return process.returncode, self.output()

    def succeed(self, *args, **options):
        """Run a command, assert success, and return its output."""
        code, output = self.run(*args, **options)
        assert code == 0, output
        return output

    def output(self):
        """Return the output of the last command so far."""
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")


def kill(process, number=signal.SIGKILL):
    """Send a signal to the whole group of a process started by `Workdir.start`, if alive."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    if number == signal.SIGKILL:
        process.wait()


def metadata(store):
    """Return the store.json of a store."""
    return json.loads((store / "store.json").read_text(encoding="utf-8"))


@contextmanager
def small_disk(folder, size, options=""):
    """A disk in memory of `size` bytes at `folder`, or a reason to skip."""
    folder.mkdir(exist_ok=True)
    args = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(args, capture_output=True).returncode:
        pytest.skip("this test mounts a small disk, which needs Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, options):
    """Change the mount options of a small disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def leave_room(folder, size):
    """Shrink a small disk until `size` bytes are free; processes that were just stopped end a write first."""
    for _ in range(100):
        try:
            return remount(folder, f"size={shutil.disk_usage(folder).used + size}")
        except subprocess.CalledProcessError:  # more was written meanwhile
            time.sleep(0.1)
    return pytest.fail(f"{folder} is written to without end")
