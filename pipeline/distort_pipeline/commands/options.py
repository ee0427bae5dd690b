"""Shared options of the commands, and the parsing of their texts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from distort_pipeline.data.remote import as_path
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from distort_pipeline.records import Report


EXIT_BROKEN = 1  # of a command that finds damage
EXIT_USER = 2
SELECTABLE = ("distortion", "level", "split")
# settings of options with another name
SETTINGS_OF = {"external_pairs": ("external",), "select": tuple(f"{name}s" for name in SELECTABLE)}
EXPORT_FORMATS = (  # a test compares this with the registry, which --help should not load
    "png_folder, pyiqa_fr, pyiqa_nr, iqadataset, kadid, ranked, webdataset, parquet, imagefolder, tfrecord, study"
)

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Return an epilog of example commands, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  distort-pipeline {line}" for line in lines)


def with_defaults(section: type) -> Callable[[click.Command], click.Command]:
    """Return a decorator that appends the defaults in `section` to the help of options, if plain."""
    values = {field.name: field.default for field in dataclasses.fields(section)}

    def append_defaults(command: click.Command) -> click.Command:
        for option in command.params:
            value = values.get(option.name or "")
            if not isinstance(option, click.Option) or not _is_plain(value) or "[default" in (option.help or ""):
                continue
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            option.help = f"{option.help or ''}  [default: {text}]".lstrip()
        return command

    return append_defaults


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value)
    return isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""


def worker_options(command: Command) -> Command:
    """Return `command` with the options of workers and schedulers."""
    options = (
        click.option("--workers", type=int, help="Local worker processes; 0: run in this process."),
        click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786."),
        click.option(
            "--scheduler-file", type=click.Path(path_type=Path), help="Scheduler file of a running Dask scheduler."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def names_as_typed(message: str, ctx: click.Context) -> str:
    """Return an error message of a step with `--severity` for `generate.severity`, if given on the command line."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            typed = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            settings = "|".join(SETTINGS_OF.get(name, (name,)))
            message = re.sub(rf"\b{ctx.command.name}\.({settings})\b", typed, message)
    return message


def show(report: Report) -> None:
    """Print the report of a step."""
    for line in report.lines:
        click.echo(line)


def say_problems(path: Path, problems: Iterable[str]) -> None:
    """Print the problems of the store at `path`."""
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)


class PathType(click.ParamType[Path]):
    """A folder, or s3://bucket/name."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the path of a folder, or a RemotePath in an object store."""
        return as_path(value)


STORE_PATH = PathType()


def names_in(text: str | None) -> list[str] | None:
    """Return the names in a comma-separated option, or None if `text` is None.

    >>> names_in("jpeg, jp2k"), names_in(""), names_in(None)
    (['jpeg', 'jp2k'], [], None)
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers_in(text: str | None, option: str = "--levels") -> list[int] | None:
    """Return the integers in a comma-separated option, or None if `text` is None."""
    names = names_in(text)
    try:
        return None if names is None else [int(name) for name in names]
    except ValueError:
        raise PipelineError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def range_in(text: str | None, option: str) -> list[float] | None:
    """Return the number or both ends of the range in an option, or None if `text` is None.

    >>> range_in("0.2:0.9", "--severity"), range_in("0.5", "--severity"), range_in(None, "--severity")
    ([0.2, 0.9], [0.5], None)
    """
    try:
        return None if text is None else [float(end) for end in text.split(":", 1)]
    except ValueError:
        raise PipelineError(f"{option} must be a number or a range such as 0.2:0.9, got {text!r}") from None


def target_in(text: str | None) -> dict[str, list[float]] | None:
    """Return metric → value or ends of a range in a --target option, or None if `text` is None.

    >>> target_in("ssim=0.5:0.9"), target_in("psnr=30"), target_in(None)
    ({'ssim': [0.5, 0.9]}, {'psnr': [30.0]}, None)
    """
    if text is None:
        return None
    metric, equals, ends = text.partition("=")
    if not (metric and equals):
        raise PipelineError(f"--target must be METRIC=VALUE or METRIC=LOW:HIGH, such as ssim=0.5:0.9, got {text!r}")
    return {metric: range_in(ends, "--target") or []}


def named_paths(texts: Sequence[str]) -> dict[str, str]:
    """Return name → path in --external-pairs options; PipelineError for a name given twice.

    >>> named_paths(["camera=shots/degraded", "lens=worn"])
    {'camera': 'shots/degraded', 'lens': 'worn'}
    """
    paths: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise PipelineError(f"--external-pairs must be NAME=PATH, got {text!r}")
        if name in paths:
            raise PipelineError(f"--external-pairs has the name {name} twice, for {paths[name]} and {path}: rename one")
        paths[name] = path
    return paths


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
        selected.setdefault(f"{name}s", []).extend(items or ())
    return selected
