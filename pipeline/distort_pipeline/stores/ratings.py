"""What people answered in a study, as a CSV: ratings of single images, or choices between two.

Ratings have the columns `sample` and `score`; choices `left_sample`, `right_sample` and `choice` (left, right or same).
`session`, where there is one, says whose answers belong together: a sample that one session saw twice counts once, with
the mean. Further columns are passed over. A row without a sample showed something pristine; one without an answer is a
trial that was not answered.
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

RATING, CHOICE = "rating", "choice"  # kinds of answers
RATING_COLUMNS = ("sample", "score")
CHOICE_COLUMNS = ("left_sample", "right_sample", "choice")
CHOICES = {"left": (1.0, 0.0), "right": (0.0, 1.0), "same": (0.5, 0.5)}  # what either side is worth

WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")  # pandas writes 42.0 where a column has empty cells


@dataclass
class Ratings:
    """The answers of a table, by sample and session."""

    kind: str  # rating or choice
    values: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # sample → session → answers
    pristine: int = 0  # rows of which nothing counts: what they showed is no sample
    unrated: int = 0

    def add(self, sample: int, session: str, value: float) -> None:
        """Take in one answer."""
        self.values.setdefault(sample, {}).setdefault(session, []).append(value)

    def of_sample(self, sample: int) -> list[float]:
        """Return the mean answer of each session that saw `sample`."""
        return [math.fsum(own) / len(own) for own in self.values.get(sample, {}).values()]


def read_ratings(path: Path, samples: range) -> Ratings:
    """Return the answers in the CSV at `path`; PipelineError names the line of one that cannot be.

    `samples` are the numbers that samples of the corpus have.
    """
    table = csv.DictReader(io.StringIO(list_text(path), newline=""))
    try:
        return _ratings(table, path, samples)
    except csv.Error as error:
        raise PipelineError(f"{path}, after line {table.line_num}: this is no CSV: {error}") from None


def _ratings(table: csv.DictReader[str], path: Path, samples: range) -> Ratings:
    columns = [name.strip() for name in table.fieldnames or ()]
    if set(RATING_COLUMNS) <= set(columns):
        answered, take = Ratings(RATING), _rating
    elif set(CHOICE_COLUMNS) <= set(columns):
        answered, take = Ratings(CHOICE), _choice
    else:
        raise PipelineError(
            f"{path}, line 1: there must be columns {' and '.join(RATING_COLUMNS)}, or {', '.join(CHOICE_COLUMNS)}; "
            f"columns are: {', '.join(columns) or 'none'}"
        )
    for row in table:
        where = f"{path}, line {table.line_num}"
        cells = {name.strip(): (value or "").strip() for name, value in row.items() if name}
        # without sessions every row is an answer of its own
        take(answered, cells, cells.get("session") or f"line {table.line_num}", samples, where)
    return answered


def _rating(answered: Ratings, cells: Mapping[str, str], session: str, samples: range, where: str) -> None:
    if not cells["score"]:
        answered.unrated += 1
        return
    try:
        score = float(cells["score"])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise PipelineError(f"{where}: score must be a number, got {cells['score']!r}")
    if cells["sample"]:
        answered.add(_sample(cells["sample"], samples, where), session, score)
    else:
        answered.pristine += 1


def _choice(answered: Ratings, cells: Mapping[str, str], session: str, samples: range, where: str) -> None:
    if not cells["choice"]:
        answered.unrated += 1
        return
    if cells["choice"] not in CHOICES:
        raise PipelineError(f"{where}: choice must be {', '.join(CHOICES)} or empty, got {cells['choice']!r}")
    if not (cells["left_sample"] and cells["right_sample"]):
        answered.pristine += 1
        return
    for side, worth in zip(("left_sample", "right_sample"), CHOICES[cells["choice"]], strict=True):
        answered.add(_sample(cells[side], samples, where), session, worth)


def _sample(text: str, samples: range, where: str) -> int:
    whole = WHOLE.fullmatch(text)
    if whole is None or int(whole[1]) not in samples:
        raise PipelineError(f"{where}: no sample of this corpus has the number {text!r}; it has {len(samples)}")
    return int(whole[1])
