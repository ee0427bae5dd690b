"""The command line: options, help and errors of users."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distort_pipeline.cli import Utility, main
from distort_pipeline.config import EvaluateConfig

COMMANDS = (
    *("ingest", "pairs", "train", "evaluate", "generate", "export", "distort", "list", "score"),
    *("label", "verify", "gallery", "model", "doctor"),
)
HEAVY = ("tensorflow", "keras", "dask", "distributed", "cv2", "zarr", "numpy", "pyarrow")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_help_lists_the_commands_in_order() -> None:
    text = run("--help").output
    positions = [text.index(f"\n  {command} ") for command in COMMANDS]
    assert positions == sorted(positions)


def test_the_list_of_commands_says_what_a_utility_command_says_of_itself() -> None:
    utilities = [command for command in main.commands.values() if isinstance(command, Utility)]
    assert len(utilities) == 8
    for utility in utilities:
        command = utility.load()
        assert (utility.name, utility.short_help) == (command.name, command.get_short_help_str(limit=100))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"distort-pipeline {command}" in result.output.split("Examples:")[1]


def test_help_says_default_and_range_of_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "[default: 2000; x>0]" in " ".join(run("generate", "--help").output.split())
    assert "[default: the four, or none with external pairs]" in " ".join(run("pairs", "--help").output.split())
    assert " ".join(run("train", "--help").output.split()).count("[default: 16; x>0]") == 1


def test_a_parameter_file_changes_the_defaults_that_help_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: 30, target: {ssim: [0.5, 0.9]}}\n")
    assert "[default: 30; x>0]" in " ".join(run("generate", "--help").output.split())
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: -1}\n")
    assert "[default: 2000; x>0]" in " ".join(run("generate", "--help").output.split())


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--count", "0", "x>0"),
        ("--count", "-5", "x>0"),
        ("--max-overlap", "1.5", "0<=x<=1"),
        ("--on-fail", "go", "flag"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(option: str, value: str, allowed: str) -> None:
    result = run("generate", option, value)
    assert result.exit_code == 2
    assert f"'{option}'" in result.stderr
    assert value in result.stderr
    assert allowed in result.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("ingest", "--help"), ("generate", "--help")])
def test_help_starts_without_the_heavy_libraries(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom distort_pipeline.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip().endswith("[]")


def test_the_module_runs_as_the_command() -> None:
    completed = subprocess.run([sys.executable, "-m", "distort_pipeline", "--version"], capture_output=True, text=True)
    assert completed.returncode == 0
    assert completed.stdout.startswith("distort-pipeline, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ingest", "nowhere"), "nowhere"),
        (("pairs", "nowhere.jsonl"), "nowhere.jsonl"),
        (("train", "nowhere", "--distortion", "jpeg"), "nowhere"),
        (("evaluate", "nowhere"), "nowhere"),
        (("generate", "--tile-px", "200"), "--tile-px must be a positive multiple of 128, got 200"),
        (("generate", "--severity", "2"), "--severity must be a number from 0 to 1, or two in ascending order"),
        (("generate", "--severity", "1", "--target", "ssim=0.8"), "--target must be left out if --severity is given"),
        (("pairs", "x", "--external-pairs", "pristine=a"), "--external-pairs must be named with letters"),
        (("export", "x", "--select", "split=vla"), "--select must be among train, val and test"),
        (("export", "nowhere"), "nowhere"),
        (("gallery", "nowhere"), "nowhere"),
        (("model", "export", "nowhere", "--format", "keras"), "nowhere"),
        (("distort", "nowhere", "out", "--with", "jpeg"), "nowhere"),
        (("distort", ".", "out", "--with", "jpge"), "no generator is called 'jpge'; did you mean jpeg?"),
        (("score", "nowhere", "."), "nowhere"),
        (("pairs", "x", "--levels", "one"), "whole numbers"),
        (("pairs", "x", "--external-pairs", "camera"), "NAME=PATH"),
        (("pairs", "x", "--external-pairs", "a=b", "--external-pairs", "a=c"), "--external-pairs has the name a twice"),
        (("verify", ".", "--repair", "--external-pairs", "a=b", "--external-pairs", "a=b"), "the name a twice"),
        (("--params", "nowhere.yaml", "ingest", "."), "there is no parameter file nowhere.yaml"),
    ],
)
def test_a_users_mistake_is_one_clear_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("distort-pipeline: ")
    assert message in lines[0]


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    result = run("trian")
    assert result.exit_code == 2
    assert "train" in result.stderr


def test_parameters_here_are_used_only_if_they_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("generate: {count: -1}\n")
    foreign = run("generate", "--models", "nowhere")
    assert "is not used: its first key is not distort_pipeline" in foreign.stderr
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: 3}\n")
    assert "settings from params.yaml" in run("generate", "--models", "nowhere").stderr
    (tmp_path / "params.yaml").write_text("distort_pipeline: 1\ngenerate: {count: -1}\n")
    assert "generate.count must be positive, got -1" in run("generate").stderr


def test_a_typing_error_in_the_parameters_is_answered_with_the_nearest(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text("distort_pipeline: 1\ntrain: {batchsize: 4}\n")
    result = run("--params", str(params), "ingest", str(tmp_path))
    assert result.exit_code == 2
    assert "unknown setting train.batchsize; did you mean batch_size?" in result.stderr


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distort_pipeline.steps import train

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    result = run("train", "pairs", "--distortion", "jpeg")
    signal.signal(signal.SIGINT, before)  # the command leaves it to the system for the rest of its process
    assert result.exit_code == 130
    assert "the same command resumes" in result.stderr


def test_classifiers_can_be_left_out_of_an_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distort_pipeline.records import Report
    from distort_pipeline.steps import evaluate

    monkeypatch.chdir(tmp_path)
    steps: list[int] = []

    def noted(config: EvaluateConfig, *_: Path) -> Report:
        steps.append(config.c2st_steps)
        return Report("evaluate", {}, ())

    monkeypatch.setattr(evaluate, "run", noted)
    run("evaluate", "pairs")
    run("evaluate", "pairs", "--c2st-steps", "0")
    assert steps == [EvaluateConfig.c2st_steps, 0]
    assert run("evaluate", "pairs", "--c2st-steps", "-1").exit_code == 2
    assert len(steps) == 2


@pytest.mark.parametrize(
    ("command", "next_run"),
    [
        (["ingest", "."], "the same command starts over"),
        (["pairs", "."], "the same command resumes from here"),
    ],
)
def test_ctrl_c_once_more_while_libraries_close_is_no_traceback(
    tmp_path: Path, command: list[str], next_run: str
) -> None:
    code = f"""
import atexit, os, signal, sys
from distort_pipeline.cli import Utility, main
from distort_pipeline.steps import {command[0]}
def stopped(*_, **__):
    raise KeyboardInterrupt
{command[0]}.run = stopped
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
main({command}, prog_name="distort-pipeline")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert next_run in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == -signal.SIGINT


@pytest.mark.parametrize("group", [[], ["model"]])
def test_summaries_of_commands_are_not_cut(group: list[str]) -> None:
    text = CliRunner().invoke(main, [*group, "--help"], terminal_width=78).output  # of 80 columns, as click does
    assert "Commands:" in text
    assert not [line for line in text.split("Commands:")[1].splitlines() if line.endswith("...")]
