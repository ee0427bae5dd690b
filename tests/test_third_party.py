"""A wheel of somebody else, built and unpacked here, adds a distortion, an export format and a logger."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.pairs import open_pairs

pytest_plugins = ["corpus_fixtures"]

PROJECT = Path(__file__).parent / "third_party"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs Python, and its worker processes, where the wheel is installed."""
    folder = tmp_path_factory.mktemp("third_party")
    project = shutil.copytree(PROJECT, folder / "project")  # a build writes beside it
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # as pip would
    subprocess.run([sys.executable, "-c", build, folder], cwd=project, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")
    paths = [str(folder / "site"), str(PROJECT.parents[1] / "pipeline")]

    def run_python(*arguments, cwd=folder):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_python


def test_workers_make_pairs_of_its_distortion_at_its_levels_and_record_its_version(run, small_manifest, tmp_path):
    options = ["--distortions", "posterize", "--preset", "five_levels", "--levels", "1,3", "--workers", 1]
    run("-m", "distort_pipeline", "pairs", small_manifest, "--out", tmp_path / "pairs", *options)
    store = open_pairs(tmp_path / "pairs")
    assert [recipe.parameters for recipe in store.recipes("posterize")] == [{"values": 32}, {"values": 8}]
    assert store.metadata.codecs == {"iqa-extras": "2.5"}
    worst = max(range(len(store)), key=lambda index: store.records()[index].level)
    assert len({*store[worst].distorted.flat}) <= 8


def test_its_severity_scale_lies_between_its_levels_and_all_three_parts_are_listed(run, tmp_path):
    code = """
import distort_pipeline as d
from click.testing import CliRunner
from pathlib import Path
from distort_pipeline.cli import main
from distort_pipeline.distortions import LevelScale, declared_scale
from distort_pipeline.training.loop import open_log

scale = LevelScale('posterize', d.presets()['five_levels']['posterize'], declared_scale('posterize'))
print(scale.severities[2], scale.parameters_at(0.5), scale.parameters_at(0.4))
open_log(Path('live'), -1, ('json_lines',)).log(10, {'l1': 0.5})
for words in (['list'], ['train', '--help']):
    print('----')
    print(CliRunner().invoke(main, words, catch_exceptions=False).output)
"""
    scales, listed, training = run("-c", code, cwd=tmp_path).split("----\n")
    assert scales == "0.5 {'values': 8} {'values': 12}\n"
    assert "posterize: values; presets paper_like, five_levels" in listed
    assert json.loads((tmp_path / "live" / "figures.jsonl").read_text()) == {"step": 10, "l1": 0.5}
    assert "json_lines" in training


def test_its_export_format_is_an_option(run, finished_corpus, tmp_path):
    run("-m", "distort_pipeline", "export", finished_corpus, "--format", "plain_csv", "--workers", 0, "--out", "out",
        cwd=tmp_path)  # fmt: skip
    rows = (tmp_path / "out" / "plain.csv").read_text().splitlines()
    assert rows[0] == "distorted,reference,distortion"
    assert len(rows) == 1 + len(open_corpus(finished_corpus))
