"""Whether a pair store is what it was when it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.commands.check_listing import check_listing
from distort_pipeline.commands.checks import (
    Findings,
    check_counts,
    check_digests,
    check_fields,
    check_foreign_files,
    checked_records,
    ledger_entry,
    stem_in,
)
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.progress import track
from distort_pipeline.records import PairRecord
from distort_pipeline.stores.arrays import pixel_digest, read_pixels, shard_files
from distort_pipeline.stores.pairs import distorted_column, open_pairs, val_name
from distort_pipeline.stores.tables import read_records

NEEDED = {
    "recipes": list,
    "counts": dict,
    "shards.train": int,
    "shards.val": int,
    "settings.pairs.tile_px": int,
    "settings.pairs.tiles_per_shard": int,
}


@dataclass(frozen=True)
class PairColumn:
    """One array of the pair store: pristine, or a distortion at a level."""

    name: str  # as the ledger calls it
    distortion: str | None
    level_index: int


@dataclass(frozen=True)
class PairShard:
    """One shard of training tiles, or one validation image: all that a worker needs to check it."""

    folder: Path
    split: str
    number: int
    per_shard: int
    tile_px: int
    columns: tuple[PairColumn, ...]
    pixels: bool  # whether the pixels can be opened at all

    @property
    def name(self) -> str:
        """Its name in the ledger and among the record files."""
        return f"{self.split}-{self.number:05d}"


def check_pairs(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return what is wrong with the pair store in `folder`."""
    found = Findings()
    if not check_fields(found, metadata, NEEDED):
        return found
    columns = _columns(found, metadata["recipes"])
    pixels = False
    with found.noting():
        open_pairs(folder)
        pixels = True
    settings = metadata["settings"]["pairs"]
    shards = [
        PairShard(folder, split, number, settings["tiles_per_shard"], settings["tile_px"], columns, pixels)
        for split in ("train", "val")
        for number in range(metadata["shards"][split])
    ]
    for part in track(run_tasks(check_shard, shards, workers), total=len(shards), label="verify", unit="shards"):
        found.add(part)
    ledger = Findings()  # the shards have noted what is wrong with it
    entries = [ledger_entry(ledger, folder, shard.name) for shard in shards]
    check_digests(found, metadata, entries)
    if all(entries):
        names = ("pairs", "train_tiles", "val_images", "missing")
        check_counts(found, metadata, {name: found.sums[name] for name in names})
        missing = [absent for entry in entries for absent in entry["missing"]]
        found.expect(metadata.get("missing") == missing, "store.json and the ledger do not agree on what is missing")
    found.expect(
        metadata.get("manifest_digest") == metadata["settings"].get("manifest_digest"),
        "store.json names another manifest than its settings",
    )
    check_foreign_files(
        found,
        folder,
        {
            "ledger": [f"{shard.name}.json" for shard in shards],
            "records": [f"{shard.name}.parquet" for shard in shards],
        },
    )
    found.counts["pairs"] = found.sums["pairs"]
    check_listing(found, folder, metadata, workers, partial(shard_of, images=_validation_images(folder, shards)))
    return found


def shard_of(path: str, *, images: Mapping[str, str]) -> str | None:
    """Return the shard that a file of a pair store belongs to, or None for one of the whole store.

    `images` says the shard of each validation image.

    >>> shard_of("pixels.zarr/train/jpeg/c.0.3.0.0.0", images={}), shard_of("ledger/val-00001.json", images={})
    ('train-00003', 'val-00001')
    >>> shard_of("pixels.zarr/val/wren-1/pristine/zarr.json", images={"wren-1": "val-00000"})
    'val-00000'
    """
    if shard := stem_in(path, ("ledger", "records")):
        return shard
    if found := re.fullmatch(r"pixels\.zarr/train/[^/]+/c\.\d+\.(\d+)\..*", path):
        return f"train-{int(found[1]):05d}"
    found = re.fullmatch(r"pixels\.zarr/val/([^/]+)/.*", path)
    return images.get(found[1]) if found else None


def _validation_images(folder: Path, shards: list[PairShard]) -> dict[str, str]:
    """Return validation image → shard, of those shards whose records can be read: others are damaged anyway."""
    found: dict[str, str] = {}
    for shard in shards:
        if shard.split == "val":
            with suppress(PipelineError, ValueError):
                records = read_records([folder / "records" / f"{shard.name}.parquet"], PairRecord)
                found |= {record.image: shard.name for record in records}
    return found


def _columns(found: Findings, recipes: list[Any]) -> tuple[PairColumn, ...]:
    columns = [PairColumn("pristine", None, 0)]
    for recipe in recipes:
        fine = isinstance(recipe, dict) and {"distortion", "level", "level_index"} <= set(recipe)
        if found.expect(fine, f"store.json is damaged: {recipe!r} is no recipe"):
            name = distorted_column(recipe["distortion"], recipe["level"])
            columns.append(PairColumn(name, recipe["distortion"], recipe["level_index"]))
    return tuple(columns)


def check_shard(shard: PairShard) -> Findings:
    """Return what is wrong with one shard."""
    found = _shard_findings(shard)
    if found.problems:
        found.damaged.add(shard.name)
    return found


def _shard_findings(shard: PairShard) -> Findings:
    found = Findings()
    found.counts["shards"] += 1
    entry = ledger_entry(found, shard.folder, shard.name)
    if not entry:
        return found
    records = checked_records(found, shard.folder, shard.name, PairRecord, entry["records"])
    if records is not None:
        found.expect(len(records) == entry["pairs"], f"{shard.name}: there are {len(records)} records of its pairs")
    found.sums["pairs"] += entry["pairs"]
    found.sums["missing"] += len(entry["missing"])
    found.sums["train_tiles" if shard.split == "train" else "val_images"] += entry["tiles"]
    same = set(entry["arrays"]) == {column.name for column in shard.columns}
    found.expect(same, f"ledger/{shard.name}.json tells of other arrays than the recipes in store.json")
    images = [record.image for record in records or ()] + [absent["image"] for absent in entry["missing"]]
    for column in shard.columns:
        if not (shard.pixels and column.name in entry["arrays"]):
            continue
        with found.noting(f"{shard.name}, {column.name}"):
            if shard.split == "train":
                own = pixel_digest([_tiles(shard, column, entry["tiles"])])
            elif _is_missing(column, entry["missing"]):
                own = pixel_digest([])
            elif images:
                own = pixel_digest([_whole_image(shard, column, images[0])])
            else:
                continue  # its records are gone, which has been noted: nothing says which image it was
            found.counts["arrays"] += 1
            if own != entry["arrays"][column.name]:
                raise PipelineError("the pixels are not those that the ledger tells of")
    return found


def _is_missing(column: PairColumn, missing: list[dict[str, str]]) -> bool:
    return any(absent["distortion"] == column.distortion for absent in missing)


def _tiles(shard: PairShard, column: PairColumn, count: int) -> NDArray[np.uint8]:
    """Return the tiles of one shard of a training array, (count, tile_px, tile_px, 3)."""
    name = "train/pristine" if column.distortion is None else f"train/{column.distortion}"
    array = open_pairs(shard.folder).array(name)
    first = shard.number * shard.per_shard
    if array.shape[2:] != (shard.tile_px, shard.tile_px, 3) or array.shape[1] < first + count:
        raise PipelineError(f"the array {name} is of shape {array.shape}, which is not what store.json says")
    files = shard_files(shard.folder, array, first, first + count, axis=1, level=column.level_index)
    return read_pixels(array, (column.level_index, slice(first, first + count)), files)


def _whole_image(shard: PairShard, column: PairColumn, image_id: str) -> NDArray[np.uint8]:
    array = open_pairs(shard.folder).array(val_name(image_id, column.name))
    return read_pixels(array, ..., shard_files(shard.folder, array, 0, array.shape[0]))
