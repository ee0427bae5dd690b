"""Standard streams that are missing, full, or of another encoding."""

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "distort_pipeline"]


def run(*arguments, redirections="", **variables):
    """Return the finished command, run by a shell with `redirections`."""
    line = f'exec "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, *arguments],
        capture_output=True,
        env={**os.environ, **variables},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp437"])
def test_help_is_printed_in_any_encoding(encoding):
    completed = run("--help", PYTHONIOENCODING=encoding)
    assert completed.returncode == 0
    assert "ingest -> pairs" in completed.stdout.decode(encoding)


def test_help_keeps_its_arrows_where_it_can():
    assert "ingest → pairs" in run("--help", PYTHONIOENCODING="utf-8").stdout.decode()


@pytest.mark.parametrize("redirections", ["2>&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_a_step_is_done_without_its_streams(tmp_path, monkeypatch, small_manifest, redirections):
    monkeypatch.chdir(tmp_path)
    completed = run(
        "ingest",
        str(small_manifest.parent),
        "--min-side-px",
        "64",
        "--val-count",
        "1",
        "--out",
        "m.jsonl",
        redirections=redirections,
    )
    assert completed.returncode == 0
    assert (tmp_path / "m.jsonl").is_file()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_lost_is_told_in_one_line(unbuffered):
    completed = run("--help", redirections=">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert completed.returncode == 2
    assert completed.stderr.decode() == "distort-pipeline: standard output is incomplete: No space left on device\n"


def test_a_closed_pipe_ends_the_command_silently():
    reader, writer = os.pipe()
    os.close(reader)
    completed = subprocess.run([*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (completed.returncode, completed.stderr) == (1, b"")
