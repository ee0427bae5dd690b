"""Ratings of a subjective study, as a CSV: scores of single images, or choices between two.

Scores have the columns `sample` and `score`; choices `left_sample`, `right_sample` and `choice` (left, right or same).
The optional column `session` groups ratings: a sample rated twice in a session counts once, with the mean. Further
columns are ignored. Rows without a sample are trials with a pristine image, rows without a rating unrated trials.
In the completed list of a study, known by its column `stimulus`, scores are from 1 to 5; other tables have any scale.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.lists import Row, csv_table, list_text

RATING, CHOICE = "rating", "choice"  # kinds of ratings
RATING_COLUMNS = ("sample", "score")
CHOICE_COLUMNS = ("left_sample", "right_sample", "choice")
ACR_SCALE = (1.0, 5.0)  # of absolute category rating, ITU-T P.910
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

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        values = [
            value
            for sessions in self.values.values()
            for session_values in sessions.values()
            for value in session_values
        ]
        return min(values), max(values)

    def of_sample(self, sample: int) -> list[float]:
        """Return the mean rating of `sample` in each session with ratings of `sample`."""
        return [math.fsum(values) / len(values) for values in self.values.get(sample, {}).values()]


def read_ratings(path: Path, samples: range) -> Ratings:
    """Return the ratings in the CSV at `path`; PipelineError names the line of an invalid rating.

    `samples` are the sample numbers of the corpus.
    """
    rows = csv_table(list_text(path), str(path), RATING_COLUMNS, CHOICE_COLUMNS)
    rated = not rows or set(RATING_COLUMNS) <= set(rows[0].cells)
    ratings = Ratings(RATING if rated else CHOICE)
    for row in rows:
        # without sessions every row counts separately
        session = row.text("session") or row.where.removeprefix(f"{path}, ")
        (_add_rating if rated else _add_choice)(ratings, row, session, samples)
    return ratings


def _add_rating(ratings: Ratings, row: Row, session: str, samples: range) -> None:
    text, sample = row.text("score"), row.text("sample")
    if text is None:
        ratings.unrated += 1
        return
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise PipelineError(f"{row.where}: score must be a number, got {text!r}")
    if "stimulus" in row.cells and not ACR_SCALE[0] <= score <= ACR_SCALE[1]:
        raise PipelineError(f"{row.where}: score of a study must be from 1 to 5, got {text}")
    if sample is None:
        ratings.pristine += 1
    else:
        ratings.add(_sample(sample, samples, row.where), session, score)


def _add_choice(ratings: Ratings, row: Row, session: str, samples: range) -> None:
    choice, *sides = map(row.text, ("choice", "left_sample", "right_sample"))
    if choice is None:
        ratings.unrated += 1
        return
    if choice not in CHOICES:
        raise PipelineError(f"{row.where}: choice must be {', '.join(CHOICES)} or empty, got {choice!r}")
    if None in sides:
        ratings.pristine += 1
        return
    for side, value in zip(sides, CHOICES[choice], strict=True):
        ratings.add(_sample(str(side), samples, row.where), session, value)


def _sample(text: str, samples: range, where: str) -> int:
    match = INTEGER.fullmatch(text)
    if match is None or int(match[1]) not in samples:
        raise PipelineError(f"{where}: no sample of this corpus has the number {text!r}; it has {len(samples)}")
    return int(match[1])
