"""Commands as a user types them, in a process group of their own that can be killed at any moment."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import distort_pipeline

SECONDS = 300  # longer than any command here takes on a busy machine: what runs on is taken for a hang


class PathType:
    """A folder to type commands in, with settings, a home and a folder for temporary files of its own."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.home, self.temporary = folder / "home", folder / "temporary"
        for needed in (self.home, self.temporary):
            needed.mkdir(parents=True)
        (folder / "params.yaml").write_text(json.dumps({"distort_pipeline": 1, **settings}), encoding="utf-8")
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(Path(distort_pipeline.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, *words, before=()):
        """Return the started process of a command, behind the words `before`; its output goes to a file."""
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [*before, sys.executable, "-m", "distort_pipeline", *map(str, words)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *words, seconds=SECONDS, **options):
        """Return exit code and output of a command; a hang is an error."""
        process = self.start(*words, **options)
        try:
            process.wait(seconds)
        finally:
            kill(process)
        return process.returncode, self.said()

    def made(self, *words, **options):
        """Run a command that has to succeed, and return its output."""
        code, said = self.run(*words, **options)
        assert code == 0, said
        return said

    def said(self):
        """Return what the last command has said so far."""
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")


def kill(process, number=signal.SIGKILL):
    """Send a signal to the whole group of a process that `Place.start` started, if it is still there."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    if number == signal.SIGKILL:
        process.wait()


def metadata(store):
    """Return the store.json of a store."""
    return json.loads((store / "store.json").read_text(encoding="utf-8"))
