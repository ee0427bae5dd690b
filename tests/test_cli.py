"""The command line: what a user types, and what a user can get wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distort_pipeline.cli import main
from distort_pipeline.config import EvaluateConfig

WORDS = (
    *("ingest", "pairs", "train", "evaluate", "generate", "export", "label", "verify", "gallery", "model", "doctor"),
)
HEAVY = ("tensorflow", "keras", "dask", "distributed", "cv2", "zarr", "numpy", "pyarrow")


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def test_help_lists_the_path_in_order() -> None:
    text = typed("--help").output
    places = [text.index(f"\n  {word} ") for word in WORDS]
    assert places == sorted(places)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_has_help_with_an_example(word: str) -> None:
    result = typed(word, "--help")
    assert result.exit_code == 0
    assert f"distort-pipeline {word}" in result.output.split("Examples:")[1]


def test_help_says_the_default_of_a_setting() -> None:
    assert "[default: 2000]" in typed("generate", "--help").output
    assert "[default: jpeg,jp2k,white_noise,pink_noise]" in " ".join(typed("pairs", "--help").output.split())
    assert " ".join(typed("train", "--help").output.split()).count("[default: 16]") == 1


@pytest.mark.parametrize("words", [("--help",), ("ingest", "--help"), ("generate", "--help")])
def test_help_starts_without_the_heavy_libraries(words: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom distort_pipeline.cli import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "distort_pipeline", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("distort-pipeline, version ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ingest", "nowhere"), "nowhere"),
        (("pairs", "nowhere.jsonl"), "nowhere.jsonl"),
        (("train", "nowhere", "--distortion", "jpeg"), "nowhere"),
        (("evaluate", "nowhere"), "nowhere"),
        (("generate", "--count", "0"), "generate.count must be positive, got 0"),
        (("generate", "--count", "-5"), "generate.count must be positive, got -5"),
        (("generate", "--tile-px", "200"), "generate.tile_px must be a positive multiple of 128, got 200"),
        (("export", "nowhere"), "nowhere"),
        (("gallery", "nowhere"), "nowhere"),
        (("model", "export", "nowhere", "--format", "keras"), "nowhere"),
        (("pairs", "x", "--levels", "one"), "whole numbers"),
        (("pairs", "x", "--external-pairs", "camera"), "NAME=PATH"),
        (("--params", "nowhere.yaml", "ingest", "."), "there is no parameter file nowhere.yaml"),
    ],
)
def test_a_users_mistake_is_one_clear_line_and_exit_code_2(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = typed(*words)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("distort-pipeline: ")
    assert said in lines[0]


def test_a_misspelt_word_is_answered_with_the_nearest() -> None:
    result = typed("trian")
    assert result.exit_code == 2
    assert "train" in result.stderr


def test_parameters_here_are_used_only_if_they_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("generate: {count: -1}\n")
    foreign = typed("generate")
    assert "is not used: its first key is not distort_pipeline" in foreign.stderr
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: 3}\n")
    assert "settings from params.yaml" in typed("generate").stderr
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: -1}\n")
    assert "generate.count must be positive, got -1" in typed("generate").stderr


def test_a_typing_error_in_the_parameters_is_answered_with_the_nearest(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text("distort_pipeline: 1\ntrain: {bach: 4}\n")
    result = typed("--params", str(params), "ingest", str(tmp_path))
    assert result.exit_code == 2
    assert "unknown setting train.bach; did you mean batch?" in result.stderr


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distort_pipeline.steps import train

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    result = typed("train", "pairs", "--distortion", "jpeg")
    signal.signal(signal.SIGINT, before)  # the command leaves it to the system for what is left of its process
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


def test_classifiers_can_be_left_out_of_an_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distort_pipeline.records import Report
    from distort_pipeline.steps import evaluate

    monkeypatch.chdir(tmp_path)
    steps: list[int] = []

    def noted(config: EvaluateConfig, *_: Path) -> Report:
        steps.append(config.c2st_steps)
        return Report("evaluate", {}, ())

    monkeypatch.setattr(evaluate, "run", noted)
    typed("evaluate", "pairs")
    typed("evaluate", "pairs", "--c2st-steps", "0")
    assert steps == [EvaluateConfig.c2st_steps, 0]
    assert typed("evaluate", "pairs", "--c2st-steps", "-1").exit_code == 2
    assert len(steps) == 2


@pytest.mark.parametrize(
    ("words", "next_time"),
    [
        (["ingest", "."], "the same command begins again"),
        (["pairs", "."], "the same command goes on where this one was"),
    ],
)
def test_ctrl_c_once_more_while_libraries_close_is_no_traceback(
    tmp_path: Path, words: list[str], next_time: str
) -> None:
    code = f"""
import atexit, os, signal, sys
from distort_pipeline.cli import main
from distort_pipeline.steps import {words[0]}
def stopped(*_, **__):
    raise KeyboardInterrupt
{words[0]}.run = stopped
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
main({words}, prog_name="distort-pipeline")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert next_time in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == -signal.SIGINT
