"""A corpus: distorted tiles and their pristine references, a record of each sample, a report of each batch.

    corpus/store.json                      format, settings, models, versions, digests, counts
    corpus/pixels.zarr/pristine            (tiles, tile_px, tile_px, 3) uint8: every reference tile once
    corpus/pixels.zarr/distorted/jpeg      (samples, tile_px, tile_px, 3) uint8, one shard for each batch; with several
                                           levels jpeg-1, jpeg-2, ...: one array for each condition
    corpus/records/tiles-00000.parquet     a TileRecord for each reference tile
    corpus/records/jpeg-00000.parquet      a SampleRecord for each sample, one file a batch
    corpus/reports/jpeg-00000.json, .png   statistics of each batch, and a side-by-side of its images
    corpus/truth/tiles-00000.npz           statistics of the true distortions of sampled reference tiles
    corpus/ledger/...                      counts and digests of each finished shard
    corpus/attributions.csv                licence and source of each photograph
    corpus/labels/...                      labels added by `distort-pipeline label`: not in the corpus's digest
    corpus/index.html                      all reports on one page
    corpus/run.json                        time, machine and speed: in no digest

A corpus of whole images has one array for each image instead: pristine/00000000, distorted/jpeg/00000000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distort_pipeline.data.arrays import (
    PIXELS,
    TileArray,
    find_array,
    open_group,
    read_image,
    read_records,
    read_table,
    shard_files,
)
from distort_pipeline.data.corpus_metadata import BatchReport, CorpusMetadata
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.manifests import ATTRIBUTIONS, Attribution, read_attributions
from distort_pipeline.data.plans import sample_runs, tile_shard
from distort_pipeline.data.remote import as_path
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import CONDITION_LABELS, Image, SampleRecord, TileRecord

if TYPE_CHECKING:
    import pandas
    import xarray

    from distort_pipeline.data.corpus_pixels import TrueSamples
    from distort_pipeline.data.torch_corpus import TorchCorpus


PRISTINE = "pristine"


def distorted_array(condition: str) -> str:
    """Return the array name of the samples of a condition (a distortion, or one of its levels)."""
    return f"distorted/{condition}"


def image_array(column: str, slot: int) -> str:
    """Return the array name of one whole image."""
    return f"{column}/{slot:08d}"


def files_of(folder: Path, column: str, slots: Sequence[int], *, whole_images: bool) -> list[Path]:
    """Return the files of the pixels at consecutive `slots` of a column, or the folders of whole images."""
    if whole_images:
        return [folder / PIXELS / image_array(column, slot) for slot in slots]
    return shard_files(folder, open_group(folder)[column], slots[0], slots[-1] + 1)


@dataclass(frozen=True)
class Sample:
    """A distorted tile, its pristine reference and its record; pixels are (H, W, 3) uint8."""

    pristine: Image
    distorted: Image
    record: SampleRecord
    make_true: Callable[[], Image] | None = field(default=None, repr=False, compare=False)

    @property
    def true(self) -> Image:
        """The true distortion of the tile, made again from the whole image; PipelineError without one."""
        if self.make_true is None:
            raise PipelineError(
                "true distortions are made of whole images: name the manifest of the corpus, "
                "open_corpus(path, manifest='manifest.jsonl')"
            )
        return self.make_true()


@dataclass(frozen=True)
class Samples:
    """Several samples: pixels (N, H, W, 3) uint8, and their records."""

    pristine: NDArray[np.uint8]
    distorted: NDArray[np.uint8]
    records: tuple[SampleRecord, ...]


class CorpusStore:
    """A finished corpus, read-only. `len`, indices and slices refer to all samples; pixels are read on access."""

    def __init__(self, folder: Path, manifest: Path | None = None, pairs: Path | None = None) -> None:
        self.folder = folder
        self.metadata = CorpusMetadata.load(folder)
        self._manifest, self._pairs = manifest, pairs
        self._group = open_group(folder)
        self._records: list[SampleRecord] | None = None
        self._tile_arrays: dict[str, TileArray] = {}
        self._chunks: dict[str, tuple[int, NDArray[np.uint8]]] = {}  # by array: number and pixels of the last chunk
        self._last_batch: tuple[str, list[SampleRecord]] = ("", [])  # name and records of the last batch read
        settings = self.metadata.settings
        self._sample_runs = sample_runs(settings.counts, len(self.conditions), settings.samples_per_shard)
        self._starts = [0, *accumulate(run.size for run in self._sample_runs)]
        self._condition_of = {
            (condition.distortion, condition.level): name for name, condition in self.metadata.conditions.items()
        }

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions (each a distortion at one level), in the order of their samples."""
        return tuple(self.metadata.samples)

    @property
    def distortions(self) -> tuple[str, ...]:
        """The names of the distortions (the names of their models), in the order of their samples."""
        return tuple(dict.fromkeys(self.metadata.conditions[name].distortion for name in self.conditions))

    def condition_of(self, record: SampleRecord) -> str:
        """Return the name of the condition of a sample."""
        return self._condition_of[record.distortion, record.level]

    @property
    def whole_images(self) -> bool:
        """Whether samples are whole images of their own sizes."""
        return self.metadata.tile_px is None

    def batch_names(self, distortions: Sequence[str] = ()) -> list[str]:
        """Return the names of all batches, or of the batches of `distortions`, in the corpus's order."""
        size = self.metadata.settings.samples_per_shard
        return [
            f"{name}-{number:05d}"
            for run in self._sample_runs
            for name in [self.conditions[run.condition]]
            if not distortions or self.metadata.conditions[name].distortion in distortions
            for number in range(run.slot // size, -(-(run.slot + run.size) // size))
        ]

    def slots(self) -> Iterator[tuple[str, slice]]:
        """Yield name of the condition and slots of each run of samples, in order."""
        for run in self._sample_runs:
            yield self.conditions[run.condition], slice(run.slot, run.slot + run.size)

    def conditions_of_samples(self) -> NDArray[np.str_]:
        """Return the name of the condition of each sample, in order."""
        runs = self._sample_runs
        return np.repeat([self.conditions[run.condition] for run in runs], [run.size for run in runs])

    def tile_shard_names(self) -> list[str]:
        """Return the names of the shards of reference tiles, in order."""
        return [tile_shard(number) for number in range(self.metadata.tile_shards)]

    @property
    def records(self) -> list[SampleRecord]:
        """The record of every sample, in order."""
        if self._records is None:
            self._records = read_records(self._paths(self.batch_names()), SampleRecord)
        return self._records

    def record(self, index: int) -> SampleRecord:
        """Return the record of one sample; the records of its batch are read and cached."""
        try:
            position = range(len(self))[index]
        except IndexError:
            raise IndexError(f"{self.folder} has {len(self)} samples, 0 to {len(self) - 1}, got {index}") from None
        number = bisect_right(self._starts, position) - 1
        run = self._sample_runs[number]
        slot = run.slot + position - self._starts[number]
        size = self.metadata.settings.samples_per_shard
        batch = f"{self.conditions[run.condition]}-{slot // size:05d}"
        if self._last_batch[0] != batch:
            self._last_batch = (batch, self.batch_records(batch))
        return self._last_batch[1][slot % size]

    def batch_records(self, batch: str) -> list[SampleRecord]:
        """Return the records of one batch, without reading other batches."""
        return read_records(self._paths([batch]), SampleRecord)

    def table(self, *, labels: bool = False) -> pa.Table:
        """Return the records of all samples as an Arrow table; with `labels`, the columns of added labels follow."""
        table = read_table(self._paths(self.batch_names()), SampleRecord)
        if not labels:
            return table
        from distort_pipeline.data.labels import with_labels

        return with_labels(table, self)

    def to_pandas(self, *, labels: bool = False) -> pandas.DataFrame:
        """Return `table` as a pandas data frame, a row for each sample; PipelineError if pandas is not installed."""
        if find_spec("pandas") is None:
            raise PipelineError("to_pandas needs pandas, which is not installed: pip install pandas")
        return self.table(labels=labels).to_pandas()

    def tiles(self) -> list[TileRecord]:
        """Return the record of every reference tile, in order."""
        return read_records(self._paths(self.tile_shard_names()), TileRecord)

    def attributions(self) -> list[Attribution]:
        """Return licence and source of every photograph in the corpus, sorted by name."""
        return read_attributions(self.folder / ATTRIBUTIONS)

    def reports(self) -> list[BatchReport]:
        """Return the report of every batch, in order."""
        return [BatchReport.load(self.folder / "reports" / f"{name}.json") for name in self.batch_names()]

    def ledger(self) -> list[LedgerEntry]:
        """Return the ledger entries of all shards, tiles first."""
        return Ledger(self.folder).entries(self.tile_shard_names() + self.batch_names())

    def pristine(self, tile: int) -> Image:
        """Return one reference tile."""
        return self._image(PRISTINE, tile)

    def images(self, column: str, numbers: Iterable[int]) -> Iterator[Image]:
        """Yield the images `numbers` of `column` (pristine, or a `distorted_array`); fast for ascending numbers."""
        yield from (self._image(column, number) for number in numbers)

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        sizes = "whole images" if self.whole_images else f"tiles of {self.metadata.tile_px} px"
        conditions = ", ".join(f"{count} {name}" for name, count in self.metadata.samples.items())
        return f"<CorpusStore {self.folder}: {len(self)} {sizes} ({conditions})>"

    def __getitem__(self, index: int | slice) -> Any:
        """Return one Sample, or the Samples of a slice (tiles only)."""
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        record = self.record(index)
        distorted = self._image(distorted_array(self.condition_of(record)), record.slot)
        make_true = None if self._manifest is None else partial(self.true, record)
        return Sample(self.pristine(record.tile), distorted, record, make_true)

    def true(self, record: SampleRecord) -> Image:
        """Return the true distortion of a sample's tile, made again; PipelineError without one or a manifest."""
        return self._true_samples.true(record, self.metadata.conditions[self.condition_of(record)])

    @cached_property
    def _true_samples(self) -> TrueSamples:
        from distort_pipeline.data.corpus_pixels import TrueSamples  # codecs are not for every reader

        if self._manifest is None:
            raise PipelineError(f"the true samples of {self.folder} need its manifest")
        return TrueSamples.open(self.metadata, self._manifest, self._pairs)

    def take(self, indices: Sequence[int]) -> Samples:
        """Return the samples at `indices`, in the given order; each chunk is read once, if they ascend in each one."""
        if self.whole_images:
            raise PipelineError(f"{self.folder} holds whole images of different sizes; read them one by one")
        order = sorted(range(len(indices)), key=lambda position: range(len(self))[indices[position]])
        records: list[Any] = [None] * len(indices)
        for position in order:  # ascending, as the records of one batch at a time are in memory
            records[position] = self.record(indices[position])
        distorted = self.empty_tiles(len(indices))
        positions: dict[str, list[int]] = defaultdict(list)
        for position, record in enumerate(records):
            positions[self.condition_of(record)].append(position)
        for name, of_condition in positions.items():
            array, slots = self.tile_array(distorted_array(name)), [records[position].slot for position in of_condition]
            if list(range(of_condition[0], of_condition[-1] + 1)) == of_condition:  # read to where they belong
                array.read(slots, into=distorted[of_condition[0] : of_condition[-1] + 1])
            else:
                distorted[of_condition] = array.read(slots)
        pristine = self.tile_array(PRISTINE).read([record.tile for record in records])
        return Samples(pristine, distorted, tuple(records))

    def empty_tiles(self, count: int) -> NDArray[np.uint8]:
        """Return an uninitialized array for `count` tiles."""
        side = self.metadata.tile_px or 0
        return np.empty((count, side, side, 3), np.uint8)

    def to_torch(self, **options: Any) -> TorchCorpus:
        """Return a map-style PyTorch dataset of this corpus; options as in `TorchCorpus`."""
        from distort_pipeline.data.torch_corpus import TorchCorpus

        return TorchCorpus(self.folder, **options)

    def to_tf(self, **options: Any) -> Any:
        """Return a `tf.data.Dataset` of this corpus; options as in `tensorflow_corpus`."""
        from distort_pipeline.data.framework_corpora import tensorflow_corpus

        return tensorflow_corpus(self, **options)

    def to_xarray(self) -> xarray.Dataset:
        """Return an `xarray.Dataset` of this corpus, one entry for each sample, with lazy pixels."""
        from distort_pipeline.data.framework_corpora import xarray_corpus

        return xarray_corpus(self)

    def select(
        self, distortions: Sequence[str] = (), splits: Sequence[str] = (), levels: Sequence[int] = ()
    ) -> NDArray[np.int64]:
        """Return the indices of the samples of these distortions, splits and levels, in order; empty selects all."""
        for name in distortions:
            if name not in self.distortions:
                raise PipelineError(f"{self.folder} has no {name!r}{did_you_mean(name, self.distortions)}")
        table = self.table().select(["distortion", "split", "level"])
        selected = np.ones(table.num_rows, bool)
        criteria: dict[str, Sequence[Any]] = {"distortion": distortions, "split": splits, "level": levels}
        for column, values in criteria.items():
            if values:
                selected &= np.isin(table[column].to_numpy(), list(values))
        if not selected.any():
            names = [*distortions, *splits, *(f"level {level}" for level in levels)]
            raise PipelineError(f"{self.folder} has no sample of {', '.join(names)}")
        return np.flatnonzero(selected)

    def chunk_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the chunk of pixels of each of `indices`."""
        runs = np.searchsorted(self._starts, indices, side="right") - 1
        starts = np.asarray(self._starts)[runs]
        return runs * len(self) + (indices - starts) // self.metadata.settings.tiles_per_chunk

    def array(self, name: str) -> Any:
        """Return a Zarr array; PipelineError if missing."""
        return find_array(self._group, name, self.folder)

    def tile_array(self, name: str) -> TileArray:
        """Return the tiles of a column; PipelineError if missing."""
        if name not in self._tile_arrays:
            self._tile_arrays[name] = TileArray(self.folder, self.array(name))
        return self._tile_arrays[name]

    def _image(self, column: str, slot: int) -> Image:
        if self.whole_images:
            return read_image(self.folder, image_array(column, slot))
        number, offset = divmod(slot, self.metadata.settings.tiles_per_chunk)
        chunk = self._chunks.get(column)
        if chunk is None or chunk[0] != number:  # the whole chunk is decompressed anyway: neighbours are often next
            chunk = self._chunks[column] = (number, self.tile_array(column).read_chunk(number))
        return chunk[1][offset].copy()

    def _paths(self, names: list[str]) -> list[Path]:
        return [self.folder / "records" / f"{name}.parquet" for name in names]


def open_corpus(
    path: str | Path, *, manifest: str | Path | None = None, pairs: str | Path | None = None
) -> CorpusStore:
    """Return the corpus at `path`, a folder or s3://bucket/name; PipelineError if missing or of another version.

    With the `manifest` of its images, samples have their true distortion as `sample.true`. By default it is the one
    that `generate` wrote beside a corpus of a folder of images, if there is one. Samples of external distortions have
    theirs where their image is a validation image of the pair store `pairs`.
    """
    folder = as_path(path).resolve()  # the working folder may change while it is open
    beside = folder.with_name(f"{folder.name}.manifest.jsonl")
    named = Path(manifest).resolve() if manifest else beside if beside.is_file() else None
    return CorpusStore(folder, named, as_path(pairs).resolve() if pairs else None)


def consecutive(numbers: list[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of the runs of consecutive numbers.

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
    """Raise PipelineError for a label missing from the records of samples.

    >>> require_computed(["psnr", "gmsd", "severity"])
    """
    from distort_pipeline.metrics.full_reference import COMPUTED  # OpenCV is for those who ask for a label

    known = (*COMPUTED, *CONDITION_LABELS)
    for name in labels:
        if name not in known:
            raise PipelineError(f"records of samples have no label {name!r}{did_you_mean(name, known)}")
