"""A corpus: distorted tiles beside the pristine ones they were made of, a record of each, a report of each batch.

    corpus/store.json                      format, settings, models, versions, digests, counts
    corpus/pixels.zarr/pristine            (tiles, tile_px, tile_px, 3) uint8: every reference tile once
    corpus/pixels.zarr/distorted/jpeg      (samples of it, tile_px, tile_px, 3) uint8, one shard a batch; of several
                                           levels, jpeg-1, jpeg-2, ...: each such condition has arrays and batches its own
    corpus/records/tiles-00000.parquet     a TileRecord for each reference tile
    corpus/records/jpeg-00000.parquet      a SampleRecord for each sample, one file a batch
    corpus/reports/jpeg-00000.json, .png   what the statistics of each batch say, and a strip of its images
    corpus/truth/tiles-00000.npz           statistics of the true distortions of some reference tiles
    corpus/ledger/...                      counts and digests of each finished shard
    corpus/attributions.csv                under which licence each photograph is, and where it comes from
    corpus/labels/...                      what `distort-pipeline label` added: outside the corpus's digest
    corpus/index.html                      all reports on one page
    corpus/run.json                        when, where and how fast: no part of any digest

A corpus of whole images has one array for each image instead: pristine/00000000, distorted/jpeg/00000000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.labels import COMPUTED
from distort_pipeline.pixels import Image
from distort_pipeline.planning.corpora import tile_shard
from distort_pipeline.records import SampleRecord, TileRecord
from distort_pipeline.stores.arrays import find_array, open_group, read_pixels, shard_files
from distort_pipeline.stores.attributions import ATTRIBUTIONS, Attribution, read_attributions
from distort_pipeline.stores.files import Ledger, read_json, read_metadata
from distort_pipeline.stores.remote import as_path
from distort_pipeline.stores.tables import read_records, read_table

if TYPE_CHECKING:
    import xarray

    from distort_pipeline.stores.torch_corpus import TorchCorpus

KIND = "corpus"
VERSION = 3
PRISTINE = "pristine"


def distorted_array(condition: str) -> str:
    """Return the array name of the samples of a condition: a distortion, or one of several levels of it."""
    return f"distorted/{condition}"


def image_array(column: str, slot: int) -> str:
    """Return the array name of one whole image."""
    return f"{column}/{slot:08d}"


@dataclass(frozen=True)
class Sample:
    """A distorted tile, the pristine one it was made of, and its record; (H, W, 3) uint8 each."""

    pristine: Image
    distorted: Image
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
        self.metadata = read_metadata(folder, KIND, VERSION)
        _require_fields(folder, self.metadata)
        self._group = open_group(folder)
        self._records: list[SampleRecord] | None = None
        self._chunks: dict[str, tuple[int, NDArray[np.uint8]]] = {}  # the last chunk of each array, by its number
        self._held: tuple[str, list[SampleRecord]] = ("", [])  # a batch, and its records
        self._starts = [0]
        for name in self.conditions:
            self._starts.append(self._starts[-1] + self.metadata["samples"][name])
        told = self.metadata["conditions"].items()
        self._condition_of = {(one["distortion"], one["level"]): name for name, one in told}

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions, one distortion at one level each, in the order of their samples."""
        return tuple(self.metadata["samples"])

    @property
    def distortions(self) -> tuple[str, ...]:
        """The names of the distortions, which are those of models, in the order of their samples."""
        return tuple(dict.fromkeys(self.metadata["conditions"][name]["distortion"] for name in self.conditions))

    def condition_of(self, record: SampleRecord) -> str:
        """Return the name of the condition that a sample belongs to."""
        return self._condition_of[record.distortion, record.level]

    @property
    def whole_images(self) -> bool:
        """Whether samples are whole images of their own sizes."""
        return self.metadata["tile_px"] is None

    def batch_names(self, distortions: Sequence[str] = ()) -> list[str]:
        """Return the names of all batches, or of those of `distortions`, in the corpus's order."""
        return [
            f"{name}-{number:05d}"
            for name in self.conditions
            if not distortions or self.metadata["conditions"][name]["distortion"] in distortions
            for number in range(self.metadata["batches"][name])
        ]

    def tile_shard_names(self) -> list[str]:
        """Return the names of the shards of reference tiles, in order."""
        return [tile_shard(number) for number in range(self.metadata["tile_shards"])]

    @property
    def records(self) -> list[SampleRecord]:
        """The record of every sample, in order."""
        if self._records is None:
            self._records = read_records(self._paths(self.batch_names()), SampleRecord)
        return self._records

    def record(self, index: int) -> SampleRecord:
        """Return the record of one sample; only those of its batch are read, and kept while the next ask for them."""
        place = range(len(self))[index]
        which = bisect_right(self._starts, place) - 1
        slot = place - self._starts[which]
        size = self.metadata["settings"]["generate"]["samples_per_shard"]
        batch = f"{self.conditions[which]}-{slot // size:05d}"
        if self._held[0] != batch:
            self._held = (batch, self.batch_records(batch))
        return self._held[1][slot % size]

    def batch_records(self, batch: str) -> list[SampleRecord]:
        """Return the records of one batch, without reading those of the others."""
        return read_records(self._paths([batch]), SampleRecord)

    def table(self, *, labels: bool = False) -> pa.Table:
        """Return the records of all samples as an Arrow table; with `labels` those that were added stand behind."""
        table = read_table(self._paths(self.batch_names()), SampleRecord)
        if not labels:
            return table
        from distort_pipeline.stores.labels import with_labels  # it knows corpora

        return with_labels(table, self)

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

    def pristine(self, tile: int) -> Image:
        """Return one reference tile."""
        return self._one(PRISTINE, tile)

    def images(self, column: str, numbers: Iterable[int]) -> Iterator[Image]:
        """Yield the images `numbers` of `column` (pristine, or a `distorted_array`); fast where they ascend."""
        if self.whole_images:
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
        """Return one Sample, or the Samples of a slice (of tiles; whole images do not stack)."""
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        record = self.record(index)
        distorted = self._one(distorted_array(self.condition_of(record)), record.slot)
        return Sample(self.pristine(record.tile), distorted, record)

    def _slice(self, places: range) -> Samples:
        if self.whole_images:
            raise PipelineError(f"{self.folder} holds whole images of different sizes; read them one by one")
        if places.step < 0:  # Zarr only steps forwards
            there = self._slice(places[::-1])
            return Samples(there.pristine[::-1], there.distorted[::-1], there.records[::-1])
        pristine, distorted = (self.empty_tiles(len(places)) for _ in range(2))
        records = tuple(self.record(place) for place in places)
        for start, stop in _runs(places, self._starts):
            first, last = records[start], records[stop - 1]
            source = self.array(distorted_array(self.condition_of(first)))
            distorted[start:stop] = self._read(source, slice(first.slot, last.slot + 1, places.step))
        for start, stop in consecutive([record.tile for record in records]):
            source = self.array(PRISTINE)
            pristine[start:stop] = self._read(source, slice(records[start].tile, records[stop - 1].tile + 1))
        return Samples(pristine, distorted, records)

    def take(self, places: Sequence[int]) -> Samples:
        """Return the samples at `places`, in that order; each chunk that holds some of them is read once."""
        if self.whole_images:
            raise PipelineError(f"{self.folder} holds whole images of different sizes; read them one by one")
        order = sorted(range(len(places)), key=lambda turn: range(len(self))[places[turn]])
        records = [self.record(places[turn]) for turn in order]
        pristine, distorted = (self.empty_tiles(len(places)) for _ in range(2))
        for name, own in groupby(zip(order, records, strict=True), key=lambda one: self.condition_of(one[1])):
            turns, slots = zip(*((turn, record.slot) for turn, record in own), strict=True)
            distorted[list(turns)] = list(self.images(distorted_array(name), slots))
        by_tile = sorted(zip(order, records, strict=True), key=lambda one: one[1].tile)
        for (turn, _), tile in zip(by_tile, self.images(PRISTINE, [one.tile for _, one in by_tile]), strict=True):
            pristine[turn] = tile
        ordered = dict(zip(order, records, strict=True))
        return Samples(pristine, distorted, tuple(ordered[turn] for turn in range(len(places))))

    def empty_tiles(self, count: int) -> NDArray[np.uint8]:
        """Return room for `count` tiles."""
        return np.empty((count, self.metadata["tile_px"], self.metadata["tile_px"], 3), np.uint8)

    def to_torch(self, **options: Any) -> TorchCorpus:
        """Return a map-style PyTorch dataset of this corpus; options are those of `TorchCorpus`."""
        from distort_pipeline.stores.torch_corpus import TorchCorpus

        return TorchCorpus(self.folder, **options)

    def to_tf(self, **options: Any) -> Any:
        """Return a `tf.data.Dataset` of this corpus; options are those of `tensorflow_corpus`."""
        from distort_pipeline.stores.tensorflow_corpus import tensorflow_corpus

        return tensorflow_corpus(self, **options)

    def to_xarray(self) -> xarray.Dataset:
        """Return an `xarray.Dataset` of this corpus, one entry a sample, whose pixels are read when they are needed."""
        from distort_pipeline.stores.xarray_corpus import xarray_corpus

        return xarray_corpus(self)

    def select(
        self, distortions: Sequence[str] = (), splits: Sequence[str] = (), levels: Sequence[int] = ()
    ) -> NDArray[np.int64]:
        """Return the places of the samples of these distortions, splits and levels, in order; none named: of all."""
        for name in distortions:
            if name not in self.distortions:
                raise PipelineError(f"{self.folder} has no {name!r}{did_you_mean(name, self.distortions)}")
        table = self.table().select(["distortion", "split", "level"])
        wanted = np.ones(table.num_rows, bool)
        chosen: dict[str, Sequence[Any]] = {"distortion": distortions, "split": splits, "level": levels}
        for column, values in chosen.items():
            if values:
                wanted &= np.isin(table[column].to_numpy(), list(values))
        if not wanted.any():
            said = [*distortions, *splits, *(f"level {level}" for level in levels)]
            raise PipelineError(f"{self.folder} has no sample of {', '.join(said)}")
        return np.flatnonzero(wanted)

    def chunk_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for each of `places` that those in one chunk of pixels share."""
        which = np.searchsorted(self._starts, places, side="right") - 1
        starts = np.asarray(self._starts)[which]
        return which * len(self) + (places - starts) // self.metadata["settings"]["generate"]["tiles_per_chunk"]

    def array(self, name: str) -> Any:
        """Return a Zarr array; PipelineError if it is missing."""
        return find_array(self._group, name, self.folder)

    def read(self, name: str, part: slice) -> NDArray[np.uint8]:
        """Return a part of the array `name` along its first axis, checked."""
        return self._read(self.array(name), part)

    def _one(self, column: str, slot: int) -> Image:
        if self.whole_images:
            whole = self.array(image_array(column, slot))
            return self._read(whole, slice(whole.shape[0]))
        number, place = divmod(slot, self.metadata["settings"]["generate"]["tiles_per_chunk"])
        held = self._chunks.get(column)
        if held is None or held[0] != number:  # the neighbours have been decompressed as well: they may be next
            first = slot - place
            array = self.array(column)
            held = (number, self._read(array, slice(first, min(first + array.chunks[0], array.shape[0]))))
            self._chunks[column] = held
        return held[1][place].copy()

    def _read(self, array: Any, part: slice) -> NDArray[np.uint8]:
        """Return a part of `array` along its first axis; PipelineError if it is damaged, or a file of it is missing."""
        return read_pixels(array, part, shard_files(self.folder, array, part.start or 0, part.stop))

    def _paths(self, names: list[str]) -> list[Path]:
        return [self.folder / "records" / f"{name}.parquet" for name in names]


def _require_fields(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Raise PipelineError if a field that reading depends on is missing, or is of another kind."""
    conditions, samples, batches = (metadata.get(name) for name in ("conditions", "samples", "batches"))
    told = isinstance(conditions, dict) and all(
        isinstance(one, dict) and isinstance(one.get("distortion"), str) and isinstance(one.get("level"), int)
        for one in conditions.values()
    )
    counted = all(
        isinstance(counts, dict) and all(isinstance(count, int) for count in counts.values())
        for counts in (samples, batches)
    )
    same = told and counted and set(conditions or ()) == set(samples or ()) == set(batches or ())
    sized = "tile_px" in metadata and (metadata["tile_px"] is None or isinstance(metadata["tile_px"], int))
    if not (same and sized and isinstance(metadata.get("tile_shards"), int)):
        raise PipelineError(f"{folder / 'store.json'} is damaged: it lacks its conditions, samples or tiles")


def open_corpus(path: str | Path) -> CorpusStore:
    """Return the corpus at `path`, a folder or s3://bucket/name; PipelineError if there is none of this version."""
    return CorpusStore(as_path(path))


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


def consecutive(numbers: list[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of the stretches in which numbers grow by one.

    >>> consecutive([4, 5, 6, 0, 1])
    [(0, 3), (3, 5)]
    """
    runs: list[tuple[int, int]] = []
    for position, number in enumerate(numbers):
        if runs and number == numbers[position - 1] + 1:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs


def require_computed(labels: Iterable[str]) -> None:
    """Raise PipelineError for a label that the records of samples do not have.

    >>> require_computed(["psnr", "gmsd"])
    """
    for name in labels:
        if name not in COMPUTED:
            raise PipelineError(f"records of samples have no label {name!r}{did_you_mean(name, COMPUTED)}")
