"""Lists of images, as CSV or JSON Lines: a path each, and what is known of it.

The columns `path` or `file`, and if wanted `licence` or `license`, `source` and `split` (train, val or test). Without a
`source`, that is made of `package`, `version` and `author`. Other columns are passed over; an empty cell says nothing.
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
    """One file that may be an image, and what its list, table or manifest says of it."""

    path: str  # relative to the source's root, POSIX
    licence: str | None = None
    source: str | None = None
    split: str | None = None
    image_digest: str | None = None  # which pixels it must have


def list_text(path: Path) -> str:
    """Return the text of the list at `path`; PipelineError if it cannot be read or is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None


def csv_rows(text: str, where: str) -> list[Entry]:
    """Return the rows of a CSV table with a heading; `where` names it in errors."""
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
    """Return the rows of a table in JSON Lines; `where` names it in errors."""
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
    def said(*names: str) -> str | None:
        """Return what stands under the first of `names` that is not empty."""
        for name in names:
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                raise PipelineError(f"{where}: {name} must be text, got {value!r}")
            if value and any("\ud800" <= letter <= "\udfff" for letter in value):  # JSON can spell these
                raise PipelineError(f"{where}: {name} is not Unicode text: {value!r}")
            if value and value.strip():
                return value.strip()
        return None

    path, split = said("path", "file"), said("split")
    if path is None:
        raise PipelineError(f"{where}: path or file is empty")
    if split is not None and split not in SPLITS:
        raise PipelineError(f"{where}: no split is called {split!r}{did_you_mean(split, SPLITS)}")
    source = said("source") or "; ".join(filter(None, map(said, ("package", "version", "author")))) or None
    return Entry(PurePosixPath(path).as_posix(), said("licence", "license"), source, split)


def _heading(name: str) -> str:
    return name.strip().lower()
