"""Atomic writing of files too large for memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` on success and deleted on failure.

    PipelineError if the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise PipelineError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> Path:
    """Write a CSV row by row, atomically, and return its path; None is an empty cell."""
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return path
