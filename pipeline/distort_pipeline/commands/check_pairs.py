"""Checks of a pair store against its metadata, ledger and digests."""

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
    """An array of the pair store: pristine, or a distortion at a level."""

    name: str  # as in the ledger
    distortion: str | None
    level_index: int


@dataclass(frozen=True)
class PairShard:
    """The task of a worker: a shard of training tiles, or a validation image."""

    folder: Path
    split: str
    number: int
    per_shard: int
    tile_px: int
    columns: tuple[PairColumn, ...]
    pixels: bool  # whether the pixel arrays can be opened

    @property
    def name(self) -> str:
        """The name in the ledger and of the record file."""
        return f"{self.split}-{self.number:05d}"


def check_pairs(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return the problems of the pair store in `folder`; workers read every shard."""
    findings = Findings()
    if not check_fields(findings, metadata, NEEDED):
        return findings
    columns = _columns(findings, metadata["recipes"])
    pixels = False
    with findings.noting():
        open_pairs(folder)
        pixels = True
    settings = metadata["settings"]["pairs"]
    shards = [
        PairShard(folder, split, number, settings["tiles_per_shard"], settings["tile_px"], columns, pixels)
        for split in ("train", "val")
        for number in range(metadata["shards"][split])
    ]
    results = run_tasks(check_shard, shards, workers)
    for shard_findings in track(results, total=len(shards), label="verify", unit="shards"):
        findings.add(shard_findings)
    ignored = Findings()  # problems of the ledger are noted with the shards
    entries = [ledger_entry(ignored, folder, shard.name) for shard in shards]
    check_digests(findings, metadata, entries)
    if all(entries):
        names = ("pairs", "train_tiles", "val_images", "missing")
        check_counts(findings, metadata, {name: findings.sums[name] for name in names})
        missing = [absent for entry in entries for absent in entry["missing"]]
        findings.expect(metadata.get("missing") == missing, "store.json and the ledger do not agree on missing images")
    findings.expect(
        metadata.get("manifest_digest") == metadata["settings"].get("manifest_digest"),
        "store.json: its manifest_digest differs from its settings",
    )
    check_foreign_files(
        findings,
        folder,
        {
            "ledger": [f"{shard.name}.json" for shard in shards],
            "records": [f"{shard.name}.parquet" for shard in shards],
        },
    )
    findings.counts["pairs"] = findings.sums["pairs"]
    check_listing(findings, folder, metadata, workers, partial(shard_of, images=_validation_images(folder, shards)))
    return findings


def shard_of(path: str, *, images: Mapping[str, str]) -> str | None:
    """Return the shard of a file in a pair store, or None for a file of the whole store.

    `images` maps each validation image to its shard.

    >>> shard_of("pixels.zarr/train/jpeg/c.0.3.0.0.0", images={}), shard_of("ledger/val-00001.json", images={})
    ('train-00003', 'val-00001')
    >>> shard_of("pixels.zarr/val/wren-1/pristine/zarr.json", images={"wren-1": "val-00000"})
    'val-00000'
    """
    if shard := stem_in(path, ("ledger", "records")):
        return shard
    if match := re.fullmatch(r"pixels\.zarr/train/[^/]+/c\.\d+\.(\d+)\..*", path):
        return f"train-{int(match[1]):05d}"
    match = re.fullmatch(r"pixels\.zarr/val/([^/]+)/.*", path)
    return images.get(match[1]) if match else None


def _validation_images(folder: Path, shards: list[PairShard]) -> dict[str, str]:
    """Return validation image → shard, without shards of unreadable records."""
    shard_names: dict[str, str] = {}
    for shard in shards:
        if shard.split == "val":
            with suppress(PipelineError, ValueError):
                records = read_records([folder / "records" / f"{shard.name}.parquet"], PairRecord)
                shard_names |= {record.image: shard.name for record in records}
    return shard_names


def _columns(findings: Findings, recipes: list[Any]) -> tuple[PairColumn, ...]:
    columns = [PairColumn("pristine", None, 0)]
    for recipe in recipes:
        valid = isinstance(recipe, dict) and {"distortion", "level", "level_index"} <= set(recipe)
        if findings.expect(valid, f"store.json is damaged: {recipe!r} is no recipe"):
            name = distorted_column(recipe["distortion"], recipe["level"])
            columns.append(PairColumn(name, recipe["distortion"], recipe["level_index"]))
    return tuple(columns)


def check_shard(shard: PairShard) -> Findings:
    """Return the problems of a shard."""
    findings = _shard_findings(shard)
    if findings.problems:
        findings.damaged.add(shard.name)
    return findings


def _shard_findings(shard: PairShard) -> Findings:
    findings = Findings()
    findings.counts["shards"] += 1
    entry = ledger_entry(findings, shard.folder, shard.name)
    if not entry:
        return findings
    records = checked_records(findings, shard.folder, shard.name, PairRecord, entry["records"])
    if records is not None:
        findings.expect(
            len(records) == entry["pairs"], f"{shard.name}: it has {len(records)} records of {entry['pairs']} pairs"
        )
    findings.sums["pairs"] += entry["pairs"]
    findings.sums["missing"] += len(entry["missing"])
    findings.sums["train_tiles" if shard.split == "train" else "val_images"] += entry["tiles"]
    same = set(entry["arrays"]) == {column.name for column in shard.columns}
    findings.expect(same, f"ledger/{shard.name}.json: its arrays differ from the recipes in store.json")
    images = [record.image for record in records or ()] + [absent["image"] for absent in entry["missing"]]
    for column in shard.columns:
        if not (shard.pixels and column.name in entry["arrays"]):
            continue
        with findings.noting(f"{shard.name}, {column.name}"):
            if shard.split == "train":
                actual = pixel_digest([_tiles(shard, column, entry["tiles"])])
            elif _is_missing(column, entry["missing"]):
                actual = pixel_digest([])
            elif images:
                actual = pixel_digest([_whole_image(shard, column, images[0])])
            else:
                continue  # without its records, noted above, the image is unknown
            findings.counts["arrays"] += 1
            if actual != entry["arrays"][column.name]:
                raise PipelineError("the digest of the pixels differs from the ledger's")
    return findings


def _is_missing(column: PairColumn, missing: list[dict[str, str]]) -> bool:
    return any(absent["distortion"] == column.distortion for absent in missing)


def _tiles(shard: PairShard, column: PairColumn, count: int) -> NDArray[np.uint8]:
    """Return the tiles of a shard of a training array, (count, tile_px, tile_px, 3)."""
    name = "train/pristine" if column.distortion is None else f"train/{column.distortion}"
    array = open_pairs(shard.folder).array(name)
    first = shard.number * shard.per_shard
    if array.shape[2:] != (shard.tile_px, shard.tile_px, 3) or array.shape[1] < first + count:
        raise PipelineError(f"the array {name} is of shape {array.shape}, unlike in store.json")
    files = shard_files(shard.folder, array, first, first + count, axis=1, level=column.level_index)
    return read_pixels(array, (column.level_index, slice(first, first + count)), files)


def _whole_image(shard: PairShard, column: PairColumn, image_id: str) -> NDArray[np.uint8]:
    array = open_pairs(shard.folder).array(val_name(image_id, column.name))
    return read_pixels(array, ..., shard_files(shard.folder, array, 0, array.shape[0]))
