"""Labels added to a finished corpus: a folder for each label, not in the corpus's digest.

corpus/labels/lpips/store.json                   metric, version and corpus digest
corpus/labels/lpips/values/jpeg-00000.parquet    a MeasuredValue or a Rating for each sample, one file for each batch
corpus/labels/lpips/ledger/jpeg-00000.json       digest of the values of a batch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from distort_pipeline.errors import PipelineError
from distort_pipeline.metric_names import label_column
from distort_pipeline.records import digest, digest_rows
from distort_pipeline.stores.corpora import CorpusStore
from distort_pipeline.stores.files import Ledger, read_metadata
from distort_pipeline.stores.ratings import RATING
from distort_pipeline.stores.tables import ARROW, read_records, write_table

KIND = "labels"
VERSION = 2
FOLDER = "labels"
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


def write_values(folder: Path, batch: str, values: Sequence[Any], kind: type[Any]) -> None:
    """Write the values of one batch, then the ledger entry."""
    path = value_path(folder, batch)
    write_table(path, values, kind)
    entry = {"shard": batch, "samples": len(values), "values": digest_rows(values)}
    Ledger(folder).note(batch, {**entry, "digest": digest(entry)}, [path])


def with_labels(table: pa.Table, corpus: CorpusStore) -> pa.Table:
    """Return the `table` of all samples of `corpus` with the columns of its added labels."""
    for store in labels_of(corpus):
        rows = [row for batch in corpus.batch_names() for row in store.rows(batch)]
        for column, kind in store.columns.items():
            table = table.append_column(column, pa.array([row[column] for row in rows], ARROW[kind]))
    return table


def labels_of(corpus: CorpusStore) -> tuple[LabelStore, ...]:
    """Return the labels added to `corpus`, sorted by name; PipelineError for a label of another corpus."""
    folder = corpus.folder / FOLDER
    names = [] if not folder.is_dir() else sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    stores = tuple(LabelStore(folder / name) for name in names)
    for store in stores:
        if store.metadata["corpus_digest"] != corpus.metadata["digest"]:
            raise PipelineError(f"{store.folder} belongs to another corpus; delete it, and label this one again")
    return stores
