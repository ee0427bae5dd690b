"""Export formats: one file each, found by name. A format turns a corpus into files that other tools open.

A format is a class without state. Its `write_part` runs in a worker, once for each part and perhaps again after a kill:
it writes only files that belong to that part, the same ones each time. What can be said only of the whole (tables,
cards) is written by `finish`, afterwards and in one place; it can name every file again from the records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Picture
from distort_pipeline.records import SampleRecord
from distort_pipeline.registry import Registry
from distort_pipeline.stores.arrays import pixel_digest
from distort_pipeline.stores.corpora import CorpusStore, distorted_array

KIND = "export"
VERSION = 1


@dataclass(frozen=True)
class Part:
    """One batch of a corpus, or its first samples where a limit cuts it."""

    batch: str  # its name in the corpus
    distortion: str
    samples: int
    new_tiles: tuple[int, ...]  # reference tiles that no earlier part of this export has, for formats that share them

    def records(self, corpus: CorpusStore) -> list[SampleRecord]:
        """Return the records of the part's samples, in order."""
        return corpus.batch_records(self.batch)[: self.samples]


class ExportFormat(Protocol):
    """What every format does; both give the files they wrote, all below `out`."""

    def write_part(self, corpus: CorpusStore, part: Part, out: Path) -> Sequence[Path]:
        """Write the files of one part."""

    def finish(self, corpus: CorpusStore, parts: Sequence[Part], out: Path) -> Sequence[Path]:
        """Write what belongs to all parts."""


EXPORTS: Registry[type[ExportFormat]] = Registry("export format", "distort_pipeline.exports")


def distorted_pictures(
    corpus: CorpusStore, distortion: str, records: Iterable[SampleRecord]
) -> Iterator[tuple[SampleRecord, Picture]]:
    """Yield `records`, all of one distortion, each with its pixels; PipelineError if these are not as recorded."""
    kept = list(records)
    found = corpus.pictures(distorted_array(distortion), [record.slot for record in kept])
    for record, picture in zip(kept, found, strict=True):
        if pixel_digest([picture]) != record.pixel_digest:
            raise PipelineError(
                f"{corpus.folder}: sample {record.sample} has other pixels than when it was made; "
                "`distort-pipeline verify` names all that is damaged"
            )
        yield record, picture
