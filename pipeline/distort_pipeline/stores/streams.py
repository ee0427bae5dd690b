"""Files too large to be held in memory, and still whole or not there."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; what stands there is moved to `path` if all went well, and else deleted.

    PipelineError where the disk is full or the folder cannot be written to.
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
    """Write a CSV row by row, whole or not at all, and return its path; None is an empty cell."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return path
