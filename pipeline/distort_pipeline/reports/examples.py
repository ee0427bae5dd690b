"""Samples of a corpus to look at: pristine, generated and, where that is kept, true, with what each changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from distort_pipeline.ranges import Picture
from distort_pipeline.records import SampleRecord
from distort_pipeline.reports.strips import amplified_residual
from distort_pipeline.stores.corpora import PRISTINE, CorpusStore, distorted_array
from distort_pipeline.stores.truths import Truth, middle, read_truth

GAIN = 4  # of a residual
COLUMNS = ("pristine", "generated", "true", "generated residual", "true residual")


@dataclass(frozen=True)
class Example:
    """One sample of a corpus, the middle of it if it is large; `true` is None where no true picture is kept."""

    record: SampleRecord
    pristine: Picture
    generated: Picture
    true: Picture | None

    def cells(self) -> dict[str, Picture]:
        """Return its pictures by COLUMNS, all of one size: those there are, residuals amplified by GAIN."""
        found = {"pristine": self.pristine, "generated": self.generated}
        if self.true is not None:
            found["true"] = self.true
        found["generated residual"] = amplified_residual(self.pristine, self.generated, GAIN)
        if self.true is not None:
            found["true residual"] = amplified_residual(self.pristine, self.true, GAIN)
        return found


def batch_examples(corpus: CorpusStore, batch: str, count: int) -> list[Example]:
    """Return at most `count` examples of a batch: samples whose true pictures the corpus keeps, else its first ones."""
    records = corpus.batch_records(batch)
    per_shard = corpus.header["settings"]["generate"]["batch_samples"]
    shards = dict.fromkeys(record.tile // per_shard for record in records)
    kept = (pair for shard in shards for pair in _kept(read_truth(corpus.folder, shard), records))
    chosen: list[tuple[SampleRecord, Any]] = list(islice(kept, count)) or [(one, None) for one in records[:count]]
    return [_example(corpus, record, true) for record, true in chosen]


def _kept(truth: Truth, records: list[SampleRecord]) -> Iterator[tuple[SampleRecord, Picture]]:
    """Yield the first of `records` of each tile whose true picture is kept, and that picture."""
    true = truth.examples.get(records[0].distortion)
    first = {record.tile: record for record in reversed(records)}
    for turn, row in enumerate(truth.example_rows):
        record = first.get(truth.first_tile + int(row))
        if true is not None and record is not None:
            yield record, true[turn]


def _example(corpus: CorpusStore, record: SampleRecord, true: Picture | None) -> Example:
    (pristine,) = corpus.pictures(PRISTINE, [record.tile])
    (generated,) = corpus.pictures(distorted_array(record.distortion), [record.slot])
    return Example(record, middle(pristine), middle(generated), true)
