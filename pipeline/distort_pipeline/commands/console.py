"""Standard output and error of a command: always there, in any encoding; a failed write never stops the work."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

UNPRINTABLE = "distort-pipeline"  # error handler of the streams
ASCII = {"→": "->", "…": "...", "×": "x", "–": "-", "−": "-"}


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
