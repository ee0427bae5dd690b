"""Ratings of a subjective study, as a CSV: scores of single images, or choices between two.

Scores have the columns `sample` and `score`; choices `left_sample`, `right_sample` and `choice` (left, right or same).
The optional column `session` groups ratings: a sample rated twice in a session counts once, with the mean. Further
columns are ignored. Rows without a sample are trials with a pristine image, rows without a rating unrated trials.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.lists import list_text

RATING, CHOICE = "rating", "choice"  # kinds of ratings
RATING_COLUMNS = ("sample", "score")
CHOICE_COLUMNS = ("left_sample", "right_sample", "choice")
CHOICES = {"left": (1.0, 0.0), "right": (0.0, 1.0), "same": (0.5, 0.5)}  # rating of the left and the right sample

INTEGER = re.compile(r"([0-9]+)(?:\.0*)?")  # pandas writes 42.0 in columns with empty cells


@dataclass
class Ratings:
    """The ratings of a table, by sample and session."""

    kind: str  # rating or choice
    values: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # sample → session → ratings
    pristine: int = 0  # rows not counted: trials with a pristine image
    unrated: int = 0

    def add(self, sample: int, session: str, value: float) -> None:
        """Add a rating."""
        self.values.setdefault(sample, {}).setdefault(session, []).append(value)

    def of_sample(self, sample: int) -> list[float]:
        """Return the mean rating of `sample` in each session with ratings of `sample`."""
        return [math.fsum(values) / len(values) for values in self.values.get(sample, {}).values()]


def read_ratings(path: Path, samples: range) -> Ratings:
    """Return the ratings in the CSV at `path`; PipelineError names the line of an invalid rating.

    `samples` are the sample numbers of the corpus.
    """
    table = csv.DictReader(io.StringIO(list_text(path), newline=""))
    try:
        return _ratings(table, path, samples)
    except csv.Error as error:
        raise PipelineError(f"{path}, after line {table.line_num}: this is no CSV: {error}") from None


def _ratings(table: csv.DictReader[str], path: Path, samples: range) -> Ratings:
    columns = [name.strip() for name in table.fieldnames or ()]
    if set(RATING_COLUMNS) <= set(columns):
        ratings, add_row = Ratings(RATING), _add_rating
    elif set(CHOICE_COLUMNS) <= set(columns):
        ratings, add_row = Ratings(CHOICE), _add_choice
    else:
        raise PipelineError(
            f"{path}, line 1: there must be columns {' and '.join(RATING_COLUMNS)}, or {', '.join(CHOICE_COLUMNS)}; "
            f"columns are: {', '.join(columns) or 'none'}"
        )
    for row in table:
        where = f"{path}, line {table.line_num}"
        cells = {name.strip(): (value or "").strip() for name, value in row.items() if name}
        # without sessions every row counts separately
        add_row(ratings, cells, cells.get("session") or f"line {table.line_num}", samples, where)
    return ratings


def _add_rating(ratings: Ratings, cells: Mapping[str, str], session: str, samples: range, where: str) -> None:
    if not cells["score"]:
        ratings.unrated += 1
        return
    try:
        score = float(cells["score"])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise PipelineError(f"{where}: score must be a number, got {cells['score']!r}")
    if cells["sample"]:
        ratings.add(_sample(cells["sample"], samples, where), session, score)
    else:
        ratings.pristine += 1


def _add_choice(ratings: Ratings, cells: Mapping[str, str], session: str, samples: range, where: str) -> None:
    if not cells["choice"]:
        ratings.unrated += 1
        return
    if cells["choice"] not in CHOICES:
        raise PipelineError(f"{where}: choice must be {', '.join(CHOICES)} or empty, got {cells['choice']!r}")
    if not (cells["left_sample"] and cells["right_sample"]):
        ratings.pristine += 1
        return
    for side, value in zip(("left_sample", "right_sample"), CHOICES[cells["choice"]], strict=True):
        ratings.add(_sample(cells[side], samples, where), session, value)


def _sample(text: str, samples: range, where: str) -> int:
    match = INTEGER.fullmatch(text)
    if match is None or int(match[1]) not in samples:
        raise PipelineError(f"{where}: no sample of this corpus has the number {text!r}; it has {len(samples)}")
    return int(match[1])
