"""The pair store: pristine tiles and images with their distorted versions, and a record of each distorted image.

pairs/store.json                    format, settings, versions, digests, counts
pairs/pixels.zarr/train/pristine    (1, slots, tile_px, tile_px, 3) uint8
pairs/pixels.zarr/train/jpeg        (levels, slots, tile_px, tile_px, 3) uint8, likewise for each distortion
pairs/pixels.zarr/val/<id>/...      pristine, jpeg-1, ...: whole images (H, W, 3)
pairs/records/<shard>.parquet       a PairRecord for each distorted tile or image
pairs/ledger/<shard>.json           counts and digests of each finished shard
pairs/run.json                      time, machine and speed: in no digest
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distort_pipeline.data.arrays import TileArray, open_group, read_image, read_records, read_table
from distort_pipeline.data.files import STORE, from_json, read_metadata, to_json
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.remote import as_path
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import Image, Json, PairRecord

KIND = "pairs"
VERSION = 2


def val_name(image_id: str, column: str) -> str:
    """Return the array name of one whole validation image; `column` is pristine or `distorted_column`."""
    return f"val/{image_id}/{column}"


def distorted_column(distortion: str, level: int) -> str:
    """Return the name of a distorted image among a validation image's arrays."""
    return f"{distortion}-{level}"


@dataclass(frozen=True)
class Recipe:
    """A column of a pair store: a distortion at one level, or external distorted images."""

    distortion: str
    level: int
    level_index: int
    parameters: Mapping[str, float]
    external: bool = False

    @property
    def column(self) -> str:
        """The name of a distorted image among a validation image's arrays."""
        return distorted_column(self.distortion, self.level)


@dataclass(frozen=True)
class PairCounts:
    """The counts of a pair store."""

    images: int  # of the manifest
    pairs: int
    train_tiles: int
    val_images: int
    too_small: int  # training images
    missing: int  # images that could not be used under a distortion


@dataclass(frozen=True)
class PairsMetadata:
    """The metadata of a finished pair store, in its store.json."""

    digest: str  # of the settings and all shards
    settings: Mapping[str, Any]  # all settings and inputs with an effect on the bytes
    distortions: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    shards: Mapping[str, int]  # by split
    counts: PairCounts
    missing: tuple[Mapping[str, str], ...]  # image, distortion and reason
    manifest_digest: str
    packages: Mapping[str, str]  # versions
    codecs: Mapping[str, str]

    def to_json(self) -> dict[str, Json]:
        """Return the metadata as JSON values."""
        return {"format": f"distort-pipeline/{KIND}", "version": VERSION, **to_json(self)}

    @classmethod
    def load(cls, folder: Path) -> PairsMetadata:
        """Return the metadata of the store in `folder`; PipelineError if missing, damaged or of another version."""
        return from_json(cls, read_metadata(folder, KIND, VERSION), folder / STORE)


@dataclass(frozen=True)
class Pair:
    """Pristine and distorted, (H, W, 3) for one pair or (N, H, W, 3) for a slice of tiles, and the records."""

    pristine: NDArray[np.uint8]
    distorted: NDArray[np.uint8]
    records: tuple[PairRecord, ...]


class PairStore:
    """A finished pair store, read-only. `len`, indices and slices refer to the training pairs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = PairsMetadata.load(folder)
        self._group = open_group(folder)
        self._records: dict[str, list[PairRecord]] = {}
        self._tile_arrays: dict[str, TileArray] = {}

    @property
    def distortions(self) -> tuple[str, ...]:
        """The distortions and external pairs in this store."""
        return self.metadata.distortions

    def levels(self, distortion: str) -> tuple[int, ...]:
        """Return the levels of `distortion`, in the order of its arrays' first axis."""
        return tuple(recipe.level for recipe in self.recipes(distortion))

    def recipes(self, distortion: str) -> list[Recipe]:
        """Return the recipe of each level of `distortion`; PipelineError if not in the store."""
        recipes = [recipe for recipe in self.metadata.recipes if recipe.distortion == distortion]
        if not recipes:
            hint = did_you_mean(distortion, self.distortions)
            raise PipelineError(f"{self.folder} holds no pairs of {distortion!r}{hint}")
        return recipes

    def shard_names(self, split: str) -> list[str]:
        """Return the names of the shards of `split`, in order."""
        return [f"{split}-{number:05d}" for number in range(self.metadata.shards[split])]

    def records(self, split: str = "train") -> list[PairRecord]:
        """Return the records of `split`, in the store's order."""
        if split not in self._records:
            self._records[split] = read_records(self._record_paths(split), PairRecord)
        return self._records[split]

    def table(self, split: str = "train") -> pa.Table:
        """Return the records of `split` as an Arrow table."""
        return read_table(self._record_paths(split), PairRecord)

    def ledger(self) -> list[LedgerEntry]:
        """Return the ledger entries of all shards, in order."""
        return Ledger(self.folder).entries(self.shard_names("train") + self.shard_names("val"))

    def array(self, name: str) -> Any:
        """Return the Zarr array called `name`, such as train/pristine; PipelineError if missing."""
        try:
            return self._group[name]
        except (KeyError, FileNotFoundError, ValueError) as error:
            raise PipelineError(f"{self.folder} lacks its array {name}: {error}") from None

    def tile_array(self, name: str) -> TileArray:
        """Return the training tiles of a column, such as train/pristine; PipelineError if missing."""
        if name not in self._tile_arrays:
            self._tile_arrays[name] = TileArray(self.folder, self.array(name))
        return self._tile_arrays[name]

    def validation(self, distortion: str, level: int | None = None) -> Iterator[tuple[PairRecord, Image, Image]]:
        """Yield (record, pristine, distorted) for each whole validation image of `distortion`."""
        level = self.levels(distortion)[0] if level is None else level
        for record in self.records("val"):
            if (record.distortion, record.level) == (distortion, level):
                yield record, self.val_image(record.image), self.val_image(record.image, distortion, level)

    def val_image(self, image_id: str, distortion: str | None = None, level: int = 1) -> Image:
        """Return a whole validation image, pristine or distorted."""
        column = "pristine" if distortion is None else distorted_column(distortion, level)
        return read_image(self.folder, val_name(image_id, column))

    def __len__(self) -> int:
        return len(self.records())

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Pair: ...
    def __getitem__(self, index: int | slice) -> Pair:
        """Return one training pair, cropped to the image's extent, or a slice of whole stored tiles."""
        if isinstance(index, slice):
            records = tuple(self.records()[index])
            pristine = self.tile_array("train/pristine").read([record.slot for record in records])
            distorted = np.empty_like(pristine)
            for row, record in enumerate(records):
                distorted[row] = self._tile(f"train/{record.distortion}", record.level_index, record.slot)
            return Pair(pristine, distorted, records)
        record = self.records()[index]
        extent = (slice(record.height), slice(record.width))
        return Pair(
            self._tile("train/pristine", 0, record.slot)[extent],
            self._tile(f"train/{record.distortion}", record.level_index, record.slot)[extent],
            (record,),
        )

    def _tile(self, name: str, level_index: int, slot: int) -> Image:
        return self.tile_array(name).read([slot], level_index=level_index)[0]

    def _record_paths(self, split: str) -> list[Path]:
        return [self.folder / "records" / f"{name}.parquet" for name in self.shard_names(split)]


def open_pairs(path: str | Path) -> PairStore:
    """Return the pair store at `path`, a folder or s3://bucket/name; PipelineError if missing or of another version."""
    return PairStore(as_path(path).resolve())  # the working folder may change while it is open
