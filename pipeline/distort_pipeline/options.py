"""What the words of the command line share: how options are written, and what their texts mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.remote import as_path

if TYPE_CHECKING:
    from distort_pipeline.records import Report

EXIT_BROKEN = 1  # of a word that finds something broken
SELECTABLE = ("distortion", "level", "split")
EXPORT_FORMATS = (  # a test holds it against the registry, which --help should not load
    "png_folder, pyiqa_fr, pyiqa_nr, iqadataset, kadid, ranked, webdataset, parquet, imagefolder, tfrecord, study"
)

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Return an epilog of example commands, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  distort-pipeline {line}" for line in lines)


def with_defaults(section: type) -> Callable[[click.Command], click.Command]:
    """Return a decorator that ends the help of each option with its default in `section`, where it has a plain one."""
    values = {field.name: field.default for field in dataclasses.fields(section)}

    def tell(command: click.Command) -> click.Command:
        for option in command.params:
            value = values.get(option.name or "")
            if not isinstance(option, click.Option) or not _tellable(value) or "[default" in (option.help or ""):
                continue
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            option.help = f"{option.help or ''}  [default: {text}]".lstrip()
        return command

    return tell


def _tellable(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value)
    return isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""


def worker_options(command: Command) -> Command:
    """Add the options that say where tasks run."""
    options = (
        click.option("--workers", type=int, help="Local processes; 0 runs everything here, one task after another."),
        click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786."),
        click.option("--scheduler-file", type=click.Path(path_type=Path), help="File that a Dask scheduler wrote."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def show(report: Report) -> None:
    """Print what a step did."""
    for line in report.lines:
        click.echo(line)


def say_problems(path: Path, problems: Iterable[str]) -> None:
    """Print what is wrong with the store at `path`."""
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)


class PathType(click.ParamType[Path]):
    """A folder, or s3://bucket/name."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the path of a folder, or what stands for it in an object store."""
        return as_path(value)


STORE_PATH = PathType()


def names_in(text: str | None) -> list[str] | None:
    """Return the names of a comma-separated option, or None if it was not given.

    >>> names_in("jpeg, jp2k"), names_in(""), names_in(None)
    (['jpeg', 'jp2k'], [], None)
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers_in(text: str | None, option: str = "--levels") -> list[int] | None:
    """Return the whole numbers of a comma-separated option, or None if it was not given."""
    names = names_in(text)
    try:
        return None if names is None else [int(name) for name in names]
    except ValueError:
        raise PipelineError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def ends_in(text: str | None, option: str) -> list[float] | None:
    """Return the number, or the two ends of the range, that an option has; None if it was not given.

    >>> ends_in("0.2:0.9", "--severity"), ends_in("0.5", "--severity"), ends_in(None, "--severity")
    ([0.2, 0.9], [0.5], None)
    """
    try:
        return None if text is None else [float(end) for end in text.split(":", 1)]
    except ValueError:
        raise PipelineError(f"{option} must be a number or a range such as 0.2:0.9, got {text!r}") from None


def target_in(text: str | None) -> dict[str, list[float]] | None:
    """Return measure → value, or ends of the range, of a --target option; None if it was not given.

    >>> target_in("ssim=0.5:0.9"), target_in("psnr=30"), target_in(None)
    ({'ssim': [0.5, 0.9]}, {'psnr': [30.0]}, None)
    """
    if text is None:
        return None
    measure, equals, ends = text.partition("=")
    if not (measure and equals):
        raise PipelineError(f"--target wants MEASURE=VALUE or MEASURE=LOW:HIGH, such as ssim=0.5:0.9, got {text!r}")
    return {measure: ends_in(ends, "--target") or []}


def named_path(text: str) -> tuple[str, str]:
    """Return name and path of a NAME=PATH option.

    >>> named_path("camera=shots/degraded")
    ('camera', 'shots/degraded')
    """
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise PipelineError(f"--external-pairs wants NAME=PATH, got {text!r}")
    return name, path


def selection(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the settings that --select options name: distortions, levels and splits.

    >>> selection(["distortion=jpeg, jp2k", "level=1"])
    {'distortions': ['jpeg', 'jp2k'], 'levels': [1]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in SELECTABLE or not names_in(values):
            raise PipelineError(f"--select wants {', '.join(f'{known}=…' for known in SELECTABLE)}, got {text!r}")
        wanted = numbers_in(values, "--select level") if name == "level" else names_in(values)
        found.setdefault(f"{name}s", []).extend(wanted or ())
    return found
