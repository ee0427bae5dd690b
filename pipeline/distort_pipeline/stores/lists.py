"""Lists of images, as CSV or JSON Lines: paths with optional licence, source and split.

Required is the column `path` or `file`; optional are `licence` or `license`, `source` and `split` (train, val or test).
A missing `source` is joined from `package`, `version` and `author`. Other columns and empty cells are ignored.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.stores.manifests import SPLITS


@dataclass(frozen=True)
class Entry:
    """One file, possibly an image, with its fields in a list, table or manifest."""

    path: str  # relative to the source's root, POSIX
    licence: str | None = None
    source: str | None = None
    split: str | None = None
    image_digest: str | None = None  # expected digest of the pixels


def list_text(path: Path) -> str:
    """Return the text of the list at `path`; PipelineError if unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None


def csv_rows(text: str, where: str) -> list[Entry]:
    """Return the rows of a CSV table with a heading; `where` names the table in errors."""
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = [(table.line_num, {_heading(name): value for name, value in row.items() if name}) for row in table]
    except csv.Error as error:
        raise PipelineError(f"{where}, line {table.line_num}: not a CSV table: {error}") from None
    headings = [_heading(name) for name in table.fieldnames or ()]
    if not {"path", "file"} & set(headings):
        raise PipelineError(f"{where}, line 1: no column is called path or file; columns are: {', '.join(headings)}")
    return [_entry(row, f"{where}, line {number}") for number, row in rows]


def jsonl_rows(text: str, where: str) -> list[Entry]:
    """Return the rows of a table in JSON Lines; `where` names the table in errors."""
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise PipelineError(f"{where}, line {number}: not a line of JSON") from None
        if not isinstance(row, dict):
            raise PipelineError(f"{where}, line {number}: not a mapping with path or file")
        entries.append(_entry(row, f"{where}, line {number}"))
    return entries


def _entry(row: Mapping[str, object], where: str) -> Entry:
    def field(*names: str) -> str | None:
        """Return the first non-empty field among `names`."""
        for name in names:
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                raise PipelineError(f"{where}: {name} must be text, got {value!r}")
            if value and any("\ud800" <= letter <= "\udfff" for letter in value):  # surrogates, possible in JSON
                raise PipelineError(f"{where}: {name} is not Unicode text: {value!r}")
            if value and value.strip():
                return value.strip()
        return None

    path, split = field("path", "file"), field("split")
    if path is None:
        raise PipelineError(f"{where}: path or file is empty")
    if split is not None and split not in SPLITS:
        raise PipelineError(f"{where}: no split is called {split!r}{did_you_mean(split, SPLITS)}")
    source = field("source") or "; ".join(filter(None, map(field, ("package", "version", "author")))) or None
    return Entry(PurePosixPath(path).as_posix(), field("licence", "license"), source, split)


def _heading(name: str) -> str:
    return name.strip().lower()
