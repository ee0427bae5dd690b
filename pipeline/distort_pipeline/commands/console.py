"""How a command runs: errors of users as one line, signals, and standard streams.

Standard output and error are always there, in any encoding; a failed write never stops the work.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from distort_pipeline.commands.options import EXIT_USER, SELECTABLE
from distort_pipeline.errors import PipelineError

EXIT_CLOSED_PIPE = 1
EXIT_INTERRUPTED = 130
RESUMABLE = ("pairs", "train", "generate", "export", "label")  # commands that keep finished work when stopped
SELECTED = "|".join(f"{name}s" for name in SELECTABLE)  # settings of --select

UNPRINTABLE = "distort-pipeline"  # error handler of the streams
ASCII = {"→": "->", "…": "...", "×": "x", "–": "-", "−": "-"}


class StepCommand(click.Command):
    """A pipeline step, whose errors name each setting as typed: the option, or the setting of a parameter file."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the step and return its result."""
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            error.args = (names_as_typed(str(error), ctx),)
            raise


def names_as_typed(message: str, ctx: click.Context) -> str:
    """Return an error message of a step with `--severity` for `generate.severity`, if given on the command line."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            typed = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            settings = SELECTED if name == "select" else name
            message = re.sub(rf"\b{ctx.command.name}\.({settings})\b", typed, message)
    return message


class OrderedGroup(click.Group):
    """The group of commands, in order of the pipeline; prints a PipelineError as one line, with exit code 2."""

    command_class = StepCommand

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the pipeline, as registered in this module."""
        return list(self.commands)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line with any standard streams; lost output is an error at the end."""
        prepare_streams()
        try:
            return super().main(*args, **options)
        finally:
            if (failure := output_failure()) is not None:
                if is_closed_pipe(failure):
                    sys.exit(EXIT_CLOSED_PIPE)
                click.echo(f"distort-pipeline: standard output is incomplete: {failure.strerror}", err=True)
                sys.exit(EXIT_USER)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a SIGTERM, as sent by batch systems, stops like Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(f"distort-pipeline: {error}", err=True)
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt:
            next_run = "resumes from here" if ctx.invoked_subcommand in RESUMABLE else "starts over"
            click.echo(f"\ndistort-pipeline: stopped; the same command {next_run}", err=True)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # a further Ctrl-C ends exit handlers silently
            ctx.exit(EXIT_INTERRUPTED)


class _Enduring(io.RawIOBase):
    """An open stream of bytes that keeps its first failure and takes all further bytes."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return int(self._raw.write(data) or 0)
            except OSError as error:
                self.failure = error
        return len(data)


def prepare_streams() -> None:
    """Open missing standard streams on the null device, and let the others endure failed writes and any text."""
    codecs.register_error(UNPRINTABLE, _printable)
    for descriptor in range(3):  # otherwise the next opened file would be taken for standard error by C libraries
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            raw = _Enduring(getattr(stream.buffer, "raw", stream.buffer))
            setattr(
                sys,
                name,
                io.TextIOWrapper(
                    io.BufferedWriter(raw),
                    encoding=stream.encoding,
                    errors=UNPRINTABLE,
                    line_buffering=stream.line_buffering or name == "stderr",
                ),
            )
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNPRINTABLE)


def output_failure() -> OSError | None:
    """Return the first failure of standard output, after a flush; None if all was written."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Enduring):
        return None
    sys.stdout.flush()
    return raw.failure


def is_closed_pipe(error: OSError) -> bool:
    """Return whether the reader of a pipe has gone, as `head` does."""
    return error.errno in (errno.EPIPE, errno.EINVAL)  # Windows reports EINVAL


def _printable(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that the encoding lacks, with a backslash for those without a likeness."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in text)
    return "".join(escaped), error.end
