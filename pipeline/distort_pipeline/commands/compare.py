"""verify --against: whether two corpora of one plan are the same within a tolerance.

The same models on another processor give other low bits, and so other digests: the records and the reference tiles
must be the same, the distorted pixels may differ by some steps of grey.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.labels import COMPUTED
from distort_pipeline.progress import track
from distort_pipeline.records import SampleRecord
from distort_pipeline.stores.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus

OF_THE_PIXELS = ("pixel_digest", "clipped", *COMPUTED)  # fields of a record that follow from them
OF_A_TARGET = ("severity", "parameters")  # where a quality was asked for, the search for it went by the pixels too
FIELDS = tuple(part.name for part in fields(SampleRecord))


@dataclass(frozen=True)
class BatchOfTwo:
    """One batch that two corpora have."""

    one: Path
    other: Path
    name: str


@dataclass(frozen=True)
class Difference:
    """How far the distorted pixels of two corpora, or of one batch of them, lie apart."""

    values: int = 0
    different: int = 0
    largest: int = 0  # steps of grey
    problems: tuple[str, ...] = ()

    def with_(self, other: Difference) -> Difference:
        """Return the difference over both."""
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


def compare(one: Path, other: Path, *, tolerance: int = 0, workers: Workers | None = None) -> Difference:
    """Return how far two corpora lie apart, with a problem for each batch that differs by more than `tolerance`.

    PipelineError if they were made of other settings, models or images: then nothing can be compared.
    """
    corpora = [open_corpus(folder) for folder in (one, other)]
    if corpora[0].metadata["settings"] != corpora[1].metadata["settings"]:
        raise PipelineError(f"{one} and {other} were made with other settings, models or images; nothing to compare")
    tasks = [BatchOfTwo(one.resolve(), other.resolve(), name) for name in corpora[0].batch_names()]
    found = Difference()
    parts = run_tasks(compare_batch, tasks, workers or Workers())
    for task, part in track(parts, total=len(tasks), label="compare", unit="batches"):
        found = found.with_(part)
        if part.largest > tolerance:
            found = found.with_(Difference(problems=(f"{task.name}: {part.summary}",)))
    return found


def compare_batch(task: BatchOfTwo) -> tuple[BatchOfTwo, Difference]:
    """Return the task, and how far the two corpora lie apart in its batch."""
    one, other = open_corpus(task.one), open_corpus(task.other)
    records, theirs = one.batch_records(task.name), other.batch_records(task.name)
    if list(map(_planned, records)) != list(map(_planned, theirs)):
        return task, Difference(problems=(f"{task.name}: the records differ",))
    found = Difference()
    tiles = sorted({record.tile for record in records})
    if _apart(one, other, PRISTINE, tiles).different:
        found = Difference(problems=(f"{task.name}: the reference tiles differ",))
    column = distorted_array(one.condition_of(records[0]))
    return task, found.with_(_apart(one, other, column, [record.slot for record in records]))


def _planned(record: SampleRecord) -> list[object]:
    """Return what a record says that was known before a pixel was made."""
    made = OF_THE_PIXELS if record.target is None else (*OF_THE_PIXELS, *OF_A_TARGET)
    return [getattr(record, name) for name in FIELDS if name not in made]


def _apart(one: CorpusStore, other: CorpusStore, column: str, numbers: Iterable[int]) -> Difference:
    found = Difference()
    chosen = list(numbers)
    for mine, theirs in zip(one.images(column, chosen), other.images(column, chosen), strict=True):
        steps = np.abs(mine.astype(np.int16) - theirs)
        found = found.with_(Difference(steps.size, int(np.count_nonzero(steps)), int(steps.max())))
    return found
