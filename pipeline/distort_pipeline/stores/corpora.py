"""A corpus: distorted tiles beside the pristine ones they were made of, a record of each, a report of each batch.

    corpus/store.json                      format, settings, models, versions, digests, counts
    corpus/pixels.zarr/pristine            (tiles, tile_px, tile_px, 3) uint8: every reference tile once
    corpus/pixels.zarr/distorted/jpeg      (samples of it, tile_px, tile_px, 3) uint8, one shard a batch
    corpus/records/tiles-00000.parquet     a TileRecord for each reference tile
    corpus/records/jpeg-00000.parquet      a SampleRecord for each sample, one file a batch
    corpus/reports/jpeg-00000.json, .png   what the statistics of each batch say, and a strip of its pictures
    corpus/truth/tiles-00000.npz           statistics of the true distortions of some reference tiles
    corpus/ledger/...                      counts and digests of each finished shard
    corpus/attributions.csv                under which licence each photograph is, and where it comes from
    corpus/labels/...                      what `distort-pipeline label` added: outside the corpus's digest
    corpus/index.html                      all reports on one page
    corpus/run.json                        when, where and how fast: no part of any digest

A corpus of whole pictures has one array for each picture instead: pristine/00000000, distorted/jpeg/00000000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Picture
from distort_pipeline.records import SampleRecord, TileRecord
from distort_pipeline.stores.arrays import find_array, open_group, read_pixels, shard_files
from distort_pipeline.stores.attributions import ATTRIBUTIONS, Attribution, read_attributions
from distort_pipeline.stores.files import Ledger, read_header, read_json
from distort_pipeline.stores.remote import place_of
from distort_pipeline.stores.tables import read_records, read_table

KIND = "corpus"
VERSION = 1
PRISTINE = "pristine"


def distorted_array(distortion: str) -> str:
    """Return the array name of a distortion's samples."""
    return f"distorted/{distortion}"


def picture_array(column: str, slot: int) -> str:
    """Return the array name of one whole picture."""
    return f"{column}/{slot:08d}"


@dataclass(frozen=True)
class Sample:
    """A distorted tile, the pristine one it was made of, and its record; (H, W, 3) uint8 each."""

    pristine: Picture
    distorted: Picture
    record: SampleRecord


@dataclass(frozen=True)
class Samples:
    """Consecutive samples: (N, H, W, 3) uint8 each, and their records."""

    pristine: NDArray[np.uint8]
    distorted: NDArray[np.uint8]
    records: tuple[SampleRecord, ...]


class CorpusStore:
    """A finished corpus, to read. `len`, an index and a slice go over all samples; pixels are read when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = read_header(folder, KIND, VERSION)
        self._group = open_group(folder)
        self._records: list[SampleRecord] | None = None
        self._starts = [0]
        for name in self.distortions:
            self._starts.append(self._starts[-1] + self.header["samples"][name])

    @property
    def distortions(self) -> tuple[str, ...]:
        """The models' names, in the order of their samples."""
        return tuple(self.header["samples"])

    @property
    def whole_pictures(self) -> bool:
        """Whether samples are whole pictures of their own sizes."""
        return self.header["tile_px"] is None

    def batch_names(self) -> list[str]:
        """Return the names of all batches, in the corpus's order."""
        return [f"{name}-{number:05d}" for name in self.distortions for number in range(self.header["batches"][name])]

    def tile_shard_names(self) -> list[str]:
        """Return the names of the shards of reference tiles, in order."""
        return [f"tiles-{number:05d}" for number in range(self.header["tile_shards"])]

    @property
    def records(self) -> list[SampleRecord]:
        """The record of every sample, in order."""
        if self._records is None:
            self._records = read_records(self._paths(self.batch_names()), SampleRecord)
        return self._records

    def batch_records(self, batch: str) -> list[SampleRecord]:
        """Return the records of one batch, without reading those of the others."""
        return read_records(self._paths([batch]), SampleRecord)

    def table(self) -> pa.Table:
        """Return the records of all samples as an Arrow table."""
        return read_table(self._paths(self.batch_names()), SampleRecord)

    def tiles(self) -> list[TileRecord]:
        """Return the record of every reference tile, in order."""
        return read_records(self._paths(self.tile_shard_names()), TileRecord)

    def attributions(self) -> list[Attribution]:
        """Return licence and origin of every photograph that is in the corpus, in the order of their names."""
        return read_attributions(self.folder / ATTRIBUTIONS)

    def reports(self) -> list[dict[str, Any]]:
        """Return the report of every batch, in order."""
        return [read_json(self.folder / "reports" / f"{name}.json") for name in self.batch_names()]

    def ledger(self) -> list[dict[str, Any]]:
        """Return the ledger entries of all shards, tiles first."""
        return Ledger(self.folder).entries(self.tile_shard_names() + self.batch_names())

    def pristine(self, tile: int) -> Picture:
        """Return one reference tile."""
        return self._one(PRISTINE, tile)

    def pictures(self, column: str, numbers: Iterable[int]) -> Iterator[Picture]:
        """Yield the pictures `numbers` of `column` (pristine, or a `distorted_array`); fast where they ascend."""
        if self.whole_pictures:
            yield from (self._one(column, number) for number in numbers)
            return
        array = self.array(column)
        per_chunk = array.chunks[0]
        held, chunk = -1, np.empty(0, np.uint8)
        for number in numbers:
            if number // per_chunk != held:
                held = number // per_chunk
                chunk = self._read(array, slice(held * per_chunk, min((held + 1) * per_chunk, array.shape[0])))
            yield chunk[number % per_chunk]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int | slice) -> Any:
        """Return one Sample, or the Samples of a slice (of tiles; whole pictures do not stack)."""
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        place = range(len(self))[index]
        record = self.records[place]
        return Sample(self.pristine(record.tile), self._one(distorted_array(record.distortion), record.slot), record)

    def _slice(self, places: range) -> Samples:
        if self.whole_pictures:
            raise PipelineError(f"{self.folder} holds whole pictures of different sizes; read them one by one")
        if places.step < 0:  # Zarr only steps forwards
            there = self._slice(places[::-1])
            return Samples(there.pristine[::-1], there.distorted[::-1], there.records[::-1])
        tile_px = self.header["tile_px"]
        distorted = np.empty((len(places), tile_px, tile_px, 3), np.uint8)
        pristine = np.empty_like(distorted)
        records = tuple(self.records[place] for place in places)
        for start, stop in _runs(places, self._starts):
            first, last = records[start], records[stop - 1]
            source = self.array(distorted_array(first.distortion))
            distorted[start:stop] = self._read(source, slice(first.slot, last.slot + 1, places.step))
        for start, stop in _consecutive([record.tile for record in records]):
            source = self.array(PRISTINE)
            pristine[start:stop] = self._read(source, slice(records[start].tile, records[stop - 1].tile + 1))
        return Samples(pristine, distorted, records)

    def array(self, name: str) -> Any:
        """Return a Zarr array; PipelineError if it is missing."""
        return find_array(self._group, name, self.folder)

    def _one(self, column: str, slot: int) -> Picture:
        if self.whole_pictures:
            whole = self.array(picture_array(column, slot))
            return self._read(whole, slice(whole.shape[0]))
        return self._read(self.array(column), slice(slot, slot + 1))[0]

    def _read(self, array: Any, part: slice) -> NDArray[np.uint8]:
        """Return a part of `array` along its first axis; PipelineError if it is damaged, or a file of it is missing."""
        return read_pixels(array, part, shard_files(self.folder, array, part.start or 0, part.stop))

    def _paths(self, names: list[str]) -> list[Path]:
        return [self.folder / "records" / f"{name}.parquet" for name in names]


def open_corpus(path: str | Path) -> CorpusStore:
    """Return the corpus at `path`, a folder or s3://bucket/name; PipelineError if there is none of this version."""
    return CorpusStore(place_of(path))


def _runs(places: range, starts: list[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of the stretches of an ascending `places` that lie between two of `starts`.

    >>> _runs(range(1, 9, 2), [0, 4, 10])
    [(0, 2), (2, 4)]
    """
    runs: list[tuple[int, int]] = []
    for position, place in enumerate(places):
        own = bisect_right(starts, place)
        if runs and bisect_right(starts, places[position - 1]) == own:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs


def _consecutive(numbers: list[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of the stretches in which numbers grow by one.

    >>> _consecutive([4, 5, 6, 0, 1])
    [(0, 3), (3, 5)]
    """
    runs: list[tuple[int, int]] = []
    for position, number in enumerate(numbers):
        if runs and number == numbers[position - 1] + 1:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs
