"""verify --against: compares two corpora of the same plan within a tolerance.

The same models on another processor give other low bits and so other digests. Records and pristine tiles must be equal;
distorted pixels may differ by a few 8-bit levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.metrics.full_reference import COMPUTED
from distort_pipeline.process import track
from distort_pipeline.records import SampleRecord

PIXEL_FIELDS = ("pixel_digest", "clipped", *COMPUTED)  # fields computed from pixels
TARGET_FIELDS = ("severity", "parameters")  # also computed from pixels if a target was requested
FIELDS = tuple(field.name for field in fields(SampleRecord))


@dataclass(frozen=True)
class BatchPair:
    """A batch of two corpora."""

    left: Path
    right: Path
    name: str


@dataclass(frozen=True)
class Difference:
    """The difference between the distorted pixels of two corpora, or of one batch."""

    values: int = 0
    different: int = 0
    largest: int = 0  # 8-bit levels
    problems: tuple[str, ...] = ()

    def with_(self, other: Difference) -> Difference:
        """Return the difference over the pixels of both."""
        return Difference(
            self.values + other.values,
            self.different + other.different,
            max(self.largest, other.largest),
            self.problems + other.problems,
        )

    @property
    def summary(self) -> str:
        """The difference in one line."""
        share = self.different / self.values if self.values else 0.0
        return f"{share:.3%} of {self.values} pixel values differ, by at most {self.largest} of 255"


def compare(left: Path, right: Path, *, tolerance: int = 0, workers: Workers | None = None) -> Difference:
    """Return the difference between two corpora, with a problem for each batch above `tolerance` 8-bit levels.

    PipelineError if settings, models or images differ.
    """
    corpora = [open_corpus(folder) for folder in (left, right)]
    if corpora[0].metadata.settings != corpora[1].metadata.settings:
        raise PipelineError(f"{left} and {right} cannot be compared: their settings, models or images differ")
    tasks = [BatchPair(left.resolve(), right.resolve(), name) for name in corpora[0].batch_names()]
    total = Difference()
    results = run_tasks(compare_batch, tasks, workers or Workers())
    for task, difference in track(results, total=len(tasks), label="compare", unit="batches"):
        total = total.with_(difference)
        if difference.largest > tolerance:
            total = total.with_(Difference(problems=(f"{task.name}: {difference.summary}",)))
    return total


def compare_batch(task: BatchPair) -> tuple[BatchPair, Difference]:
    """Return the task and the difference of its batch."""
    left, right = open_corpus(task.left), open_corpus(task.right)
    records = left.batch_records(task.name)
    if list(map(_planned, records)) != list(map(_planned, right.batch_records(task.name))):
        return task, Difference(problems=(f"{task.name}: the records differ",))
    problems: tuple[str, ...] = ()
    tiles = sorted({record.tile for record in records})
    if _difference(left, right, PRISTINE, tiles).different:
        problems = (f"{task.name}: the pristine tiles differ",)
    column = distorted_array(left.condition_of(records[0]))
    difference = _difference(left, right, column, [record.slot for record in records])
    return task, difference.with_(Difference(problems=problems))


def _planned(record: SampleRecord) -> list[object]:
    """Return the planned fields of a record, known before any pixel."""
    computed = PIXEL_FIELDS if record.target is None else (*PIXEL_FIELDS, *TARGET_FIELDS)
    return [getattr(record, name) for name in FIELDS if name not in computed]


def _difference(left: CorpusStore, right: CorpusStore, column: str, numbers: Iterable[int]) -> Difference:
    total = Difference()
    indices = list(numbers)
    for image, other in zip(left.images(column, indices), right.images(column, indices), strict=True):
        levels_8bit = np.abs(image.astype(np.int16) - other)
        total = total.with_(Difference(levels_8bit.size, int(np.count_nonzero(levels_8bit)), int(levels_8bit.max())))
    return total
