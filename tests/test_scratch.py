import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from distort_pipeline import scratch
from distort_pipeline.scratch import scratch_folder, sweep


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for temporary files of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "MEMORY_FOLDER", tmp_path / "none")
    return tmp_path


def test_a_folder_is_there_inside_and_gone_behind(place):
    with scratch_folder() as folder:
        (folder / "image.jp2").write_bytes(b"")
        assert folder.parent == place
        assert sweep() == 0  # its owner lives
    assert list(place.iterdir()) == []
    with pytest.raises(RuntimeError), scratch_folder():
        raise RuntimeError
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(place):
    code = (
        "import sys; from pathlib import Path; from distort_pipeline.scratch import scratch_folder;"
        f"one = scratch_folder(Path({str(place)!r})); (one.__enter__() / 'half').write_bytes(b'');"
        "print('made', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"made\n"
    (place / "distort-pipeline-notes").mkdir()  # not ours: no lock in it
    assert sweep() == 0
    process.kill()
    process.wait()
    assert len(list(place.iterdir())) == 2
    assert sweep() == 1
    assert [path.name for path in place.iterdir()] == ["distort-pipeline-notes"]


def test_a_folder_that_was_never_locked_is_swept_when_it_is_old(place):
    unborn = Path(tempfile.mkdtemp(prefix=scratch.UNBORN, dir=place))
    sweep()
    assert unborn.exists()
    os.utime(unborn, (0, 0))
    sweep()
    assert not unborn.exists()
