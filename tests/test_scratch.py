import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from distort_pipeline import process
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import scratch_folder, sweep


@pytest.fixture
def temp_root(tmp_path, monkeypatch):
    """The folder for temporary files in this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(process, "MEMORY_FOLDER", tmp_path / "none")
    return tmp_path


def test_a_temporary_folder_that_cannot_be_written_to_is_named_with_the_remedy(temp_root):
    refused = pytest.raises(PipelineError, match=r"cannot write to the temporary folder .*/gone: .*TMPDIR")
    with refused, scratch_folder(temp_root / "gone"):
        pass


def test_a_folder_exists_inside_the_block_only(temp_root):
    with scratch_folder() as folder:
        (folder / "image.jp2").write_bytes(b"")
        assert folder.parent == temp_root
        assert sweep() == 0  # its owner lives
    assert list(temp_root.iterdir()) == []
    with pytest.raises(RuntimeError), scratch_folder():
        raise RuntimeError
    assert list(temp_root.iterdir()) == []


def test_only_folders_of_killed_processes_are_swept(temp_root):
    code = (
        "import sys; from pathlib import Path; from distort_pipeline.process import scratch_folder;"
        f"context = scratch_folder(Path({str(temp_root)!r})); (context.__enter__() / 'half').write_bytes(b'');"
        "print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    (temp_root / "distort-pipeline-notes").mkdir()  # not ours: no lock in it
    assert sweep() == 0
    process.kill()
    process.wait()
    assert len(list(temp_root.iterdir())) == 2
    assert sweep() == 1
    assert [path.name for path in temp_root.iterdir()] == ["distort-pipeline-notes"]


def test_an_old_folder_without_a_lock_is_swept(temp_root):
    unlocked = Path(tempfile.mkdtemp(prefix=process.UNLOCKED, dir=temp_root))
    sweep()
    assert unlocked.exists()
    os.utime(unlocked, (0, 0))
    sweep()
    assert not unlocked.exists()
