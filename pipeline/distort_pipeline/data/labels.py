"""Labels added to a finished corpus: a folder for each label, not in the corpus's digest.

corpus/labels/lpips/store.json                   metric, version and corpus digest
corpus/labels/lpips/values/jpeg-00000.parquet    a MeasuredValue or a Rating for each sample, one file for each batch
corpus/labels/lpips/ledger/jpeg-00000.json       digest of the values of a batch

A label is a metric computed for every sample, or the ratings of a subjective study, read from a CSV.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from distort_pipeline.data.arrays import ARROW, read_records, write_table
from distort_pipeline.data.corpora import CorpusStore
from distort_pipeline.data.files import LABELS, read_metadata
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.lists import Row, csv_table, list_text
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import label_column
from distort_pipeline.records import digest_rows

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

    Scores of single images have the columns `sample` and `score`; choices between two `left_sample`, `right_sample` and
    `choice` (left, right or same). The optional column `session` groups ratings: a sample rated twice in a session
    counts once, with the mean. Further columns are ignored. Rows without a sample are trials with a pristine image,
    rows without a rating unrated trials. In the completed list of a study, known by its column `stimulus`, scores are
    from 1 to 5; other tables have any scale.

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


KIND = "labels"
VERSION = 2
PEOPLE, METRIC = "people", "metric"  # origin of the values


@dataclass(frozen=True)
class MeasuredValue:
    """The value of a metric for one sample."""

    sample: int
    value: float | None  # None if not finite


@dataclass(frozen=True)
class Rating:
    """The ratings of one sample."""

    sample: int
    mean: float | None  # None without ratings
    std: float | None  # with n - 1; None for fewer than two ratings
    count: int


class LabelStore:
    """The values of one label, for each sample of a corpus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = read_metadata(folder, KIND, VERSION)
        self.name: str = self.metadata["name"]

    @property
    def of_people(self) -> bool:
        """Whether the values are ratings by people."""
        return bool(self.metadata["origin"] == PEOPLE)

    @property
    def rated(self) -> bool:
        """Whether people rated single images; pairwise choices do not count."""
        return self.of_people and bool(self.metadata["settings"]["rating_kind"] == RATING)

    @property
    def extremes(self) -> tuple[float, float] | None:
        """The lowest and the highest rating by people; None if unknown."""
        extremes = self.metadata.get("extremes")
        return (float(extremes[0]), float(extremes[1])) if extremes else None

    @property
    def column(self) -> str:
        """The table column of the value usable as a score."""
        name = f"{self.name}_mean" if self.of_people else self.name
        return label_column(name, lower_better=self.metadata["lower_better"])

    @property
    def columns(self) -> dict[str, type]:
        """All table columns of the label, and the types of their values."""
        if not self.of_people:
            return {self.column: float}
        return {self.column: float, f"{self.name}_std": float, f"{self.name}_count": int}

    def rows(self, batch: str) -> list[dict[str, float | int | None]]:
        """Return column → value for each sample of a batch, in order; PipelineError if damaged."""
        path = value_path(self.folder, batch)
        if self.of_people:
            ratings = read_records([path], Rating)
            self._check(batch, ratings)
            return [dict(zip(self.columns, (rating.mean, rating.std, rating.count), strict=True)) for rating in ratings]
        values = read_records([path], MeasuredValue)
        self._check(batch, values)
        return [{self.column: entry.value} for entry in values]

    def _check(self, batch: str, values: Sequence[Any]) -> None:
        (entry,) = Ledger(self.folder).entries([batch])
        if entry.get("values") != digest_rows(values):
            raise PipelineError(
                f"{self.folder}: the values of {batch} have changed since they were written; delete the folder, "
                "and label again"
            )


def value_path(folder: Path, batch: str) -> Path:
    """Return the path of the values of a batch."""
    return folder / "values" / f"{batch}.parquet"


def write_values(folder: Path, batch: str, values: Sequence[Any], kind: type[Any]) -> LedgerEntry:
    """Write the values of one batch, then the ledger entry; return the entry."""
    path = value_path(folder, batch)
    write_table(path, values, kind)
    return Ledger(folder).note(batch, {"samples": len(values), "values": digest_rows(values)}, [path])


def with_labels(table: pa.Table, corpus: CorpusStore) -> pa.Table:
    """Return the `table` of all samples of `corpus` with the columns of its added labels."""
    for store in labels_of(corpus):
        rows = [row for batch in corpus.batch_names() for row in store.rows(batch)]
        for column, kind in store.columns.items():
            table = table.append_column(column, pa.array([row[column] for row in rows], ARROW[kind]))
    return table


def labels_of(corpus: CorpusStore) -> tuple[LabelStore, ...]:
    """Return the labels added to `corpus`, sorted by name; PipelineError for a label of another corpus."""
    folder = corpus.folder / LABELS
    names = [] if not folder.is_dir() else sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    stores = tuple(LabelStore(folder / name) for name in names)
    for store in stores:
        if store.metadata["corpus_digest"] != corpus.metadata.digest:
            raise PipelineError(f"{store.folder} belongs to another corpus; delete it, and label this one again")
    return stores
