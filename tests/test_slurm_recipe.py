"""The SLURM script of docs/clusters.md, its own lines, on loopback; `srun` stands in for SLURM's."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import distort_pipeline
from distort_pipeline.data.corpora import open_corpus

DOCS = Path(__file__).parents[1] / "docs" / "clusters.md"
SRUN = """#!/bin/bash
tasks=1
while [[ $1 == -* ]]; do [[ $1 == --ntasks=* ]] && tasks=${1#*=}; shift; done
for ((i = 0; i < tasks; i++)); do "$@" --host 127.0.0.1 & done
wait
"""
DISTORT_PIPELINE = """#!/bin/bash
exec {python} -m distort_pipeline "$@"
"""
SECONDS = 240  # longer than the recipe takes on a busy machine


@pytest.fixture
def recipe():
    """The script with fewer workers and samples, and without the activation of an environment."""
    text = DOCS.read_text(encoding="utf-8").split("## SLURM")[1].split("```sh\n")[1].split("```")[0]
    for pattern, replacement in (
        (r"source \S+/activate", "true"),
        (r"--ntasks=32", "--ntasks=2"),
        (r"generate manifest\.jsonl --count \d+", "generate --count 16"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    return text


def test_the_recipe_makes_a_corpus_on_the_workers_that_it_starts(recipe, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("distort-pipeline", DISTORT_PIPELINE.format(python=sys.executable))):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(distort_pipeline.__file__).parents[1]),
        "SLURM_JOB_ID": "7",
    }
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            ["bash", "-eu", "-c", recipe],
            cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        process.wait(SECONDS)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # SLURM, too, ends what a job has started
    said = (tmp_path / "output.txt").read_text()
    assert process.returncode == 0, said
    assert (tmp_path / "scheduler-7.json").is_file()
    corpus = open_corpus(tmp_path / "corpus")
    assert len(corpus) == 16
    assert said.count("Registered to:") == 2, said  # both workers
