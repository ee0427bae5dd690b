"""Whether a corpus is what it was when it was made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distort_pipeline.commands.check_listing import check_listing
from distort_pipeline.commands.checks import (
    UNREAD,
    Findings,
    check_counts,
    check_digests,
    check_fields,
    check_file,
    check_foreign_files,
    check_json,
    check_page,
    checked_records,
    ledger_entry,
    stem_in,
)
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.pixels import Image
from distort_pipeline.planning.corpora import tile_shard
from distort_pipeline.progress import track
from distort_pipeline.records import SampleRecord, TileRecord
from distort_pipeline.stores.arrays import pixel_digest
from distort_pipeline.stores.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.stores.models import arrays_digest
from distort_pipeline.stores.truths import read_truth_arrays

NEEDED = {
    "conditions": dict,
    "samples": dict,
    "batches": dict,
    "tile_shards": int,
    "counts": dict,
    "licences": dict,
    "models": dict,
    "settings.models": dict,
    "settings.generate.batch_samples": int,
    "settings.generate.whole_images": bool,
}


@dataclass(frozen=True)
class CorpusShard:
    """One shard of tiles, or one batch: all that a worker needs to check it."""

    folder: Path
    name: str
    number: int
    condition: str | None  # None: reference tiles
    kind: tuple[object, object]  # distortion and level of the condition, as the header has them
    sample_truth: bool  # whether there is a truth file of it
    per_shard: int
    slots: int  # of the whole array
    pixels: bool  # whether the pixels can be opened at all


def check_corpus(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return what is wrong with the corpus in `folder`: every shard is read, one after the other in each worker."""
    found = Findings()
    if not (check_fields(found, metadata, NEEDED) and _counts_are_numbers(found, metadata)):
        return found
    pixels = False
    with found.noting():
        open_corpus(folder)
        pixels = True
    shards = _shards(folder, metadata, pixels)
    for part in track(run_tasks(check_shard, shards, workers), total=len(shards), label="verify", unit="shards"):
        found.add(part)
    ledger = Findings()  # the shards have noted what is wrong with it
    entries = [ledger_entry(ledger, folder, shard.name) for shard in shards]
    check_digests(found, metadata, entries)
    _check_settings(found, metadata)
    if all(entries):
        _check_counts(found, metadata, shards)
    names = [shard.name for shard in shards]
    batches = [shard.name for shard in shards if shard.condition]
    check_foreign_files(
        found,
        folder,
        {
            "ledger": [f"{name}.json" for name in names],
            "records": [f"{name}.parquet" for name in names],
            "reports": [f"{name}.{kind}" for name in batches for kind in ("json", "png")],
            "truth": [f"{shard.name}.npz" for shard in shards if shard.sample_truth],
        },
    )
    check_page(found, folder / "index.html")
    check_listing(
        found,
        folder,
        metadata,
        workers,
        partial(shard_of, per_shard=metadata["settings"]["generate"]["samples_per_shard"]),
    )
    return found


def shard_of(path: str, *, per_shard: int) -> str | None:
    """Return the shard that a file of a corpus belongs to, or None for one of the whole corpus.

    >>> shard_of("pixels.zarr/distorted/jpeg/c.2.0.0.0", per_shard=8), shard_of("reports/jpeg-00002.png", per_shard=8)
    ('jpeg-00002', 'jpeg-00002')
    >>> shard_of("pixels.zarr/pristine/00000017/zarr.json", per_shard=8), shard_of("index.html", per_shard=8)
    ('tiles-00002', None)
    """
    if shard := stem_in(path, ("ledger", "records", "reports", "truth")):
        return shard
    found = re.fullmatch(r"pixels\.zarr/(?:pristine|distorted/([^/]+))/(?:c\.(\d+)\..*|(\d{8})/.*)", path)
    if not found:
        return None
    name, number, image = found.groups()
    return f"{name or 'tiles'}-{int(number) if number else int(image) // per_shard:05d}"


def _counts_are_numbers(found: Findings, metadata: Mapping[str, Any]) -> bool:
    numbers = [*metadata["samples"].values(), *metadata["batches"].values(), metadata["counts"].get("tiles")]
    fine = all(isinstance(number, int) for number in numbers)
    fine &= set(metadata["samples"]) == set(metadata["batches"]) == set(metadata["conditions"])
    fine &= all(
        isinstance(one, dict) and {"distortion", "level"} <= set(one) for one in metadata["conditions"].values()
    )
    return found.expect(
        fine and "tile_px" in metadata, "store.json is damaged: it does not say how much there is of what"
    )


def _shards(folder: Path, metadata: Mapping[str, Any], pixels: bool) -> list[CorpusShard]:
    per_shard = metadata["settings"]["generate"]["samples_per_shard"]
    tiles = metadata["counts"]["tiles"]
    found = [
        CorpusShard(folder, tile_shard(number), number, None, (None, None), True, per_shard, tiles, pixels)
        for number in range(metadata["tile_shards"])
    ]
    for name, samples in metadata["samples"].items():
        kind = (metadata["conditions"][name]["distortion"], metadata["conditions"][name]["level"])
        sample_truth = bool(metadata["conditions"][name].get("sample_truths"))
        found += [
            CorpusShard(folder, f"{name}-{number:05d}", number, name, kind, sample_truth, per_shard, samples, pixels)
            for number in range(metadata["batches"][name])
        ]
    return found


def check_shard(shard: CorpusShard) -> Findings:
    """Return what is wrong with one shard."""
    found = _shard_findings(shard)
    if found.problems:
        found.damaged.add(shard.name)
    return found


def _shard_findings(shard: CorpusShard) -> Findings:
    found = Findings()
    found.counts["shards"] += 1
    entry = ledger_entry(found, shard.folder, shard.name)
    if not entry:
        return found
    if shard.condition is None:
        _check_tiles(found, shard, entry)
    else:
        _check_batch(found, shard, entry)
    return found


def _check_tiles(found: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    records = checked_records(found, shard.folder, shard.name, TileRecord, entry.get("records"))
    found.names |= {f"image {record.image_digest}" for record in records or ()}
    found.sums["tiles"] += entry["tiles"]
    _check_truth(found, shard, entry)
    _check_pixels(found, shard, PRISTINE, entry["tiles"], entry.get("pixels"))


def _check_truth(found: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    with found.noting():
        truth = read_truth_arrays(shard.folder, shard.name)
        found.counts["files"] += 1
        same = arrays_digest(truth) == entry.get("truth")
        found.expect(same, f"truth/{shard.name}.npz was changed: its digest is not the ledger's")


def _check_batch(found: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    assert shard.condition is not None  # check_shard saw to that
    records = checked_records(found, shard.folder, shard.name, SampleRecord, entry.get("records"))
    found.names |= {f"sample {record.pixel_digest}" for record in records or ()}
    found.sums["samples"] += entry["samples"]
    found.sums[f"samples of {shard.condition}"] += entry["samples"]
    found.sums["flagged"] += entry.get("accepted") is False
    report = check_json(found, shard.folder / "reports" / f"{shard.name}.json", entry.get("report"))
    if isinstance(report, dict):
        same = report.get("accepted") == entry.get("accepted")
        found.expect(same, f"{shard.name}: report and ledger do not agree on whether it is within bounds")
    check_file(found, shard.folder / "reports" / f"{shard.name}.png", entry.get("side_by_side"))
    if shard.sample_truth:
        _check_truth(found, shard, entry)
    _check_conditions(found, shard, records or ())
    made = _check_pixels(found, shard, distorted_array(shard.condition), entry["samples"], entry.get("pixels"))
    for record, own in zip(records or (), made, strict=False):
        if not found.expect(record.pixel_digest == own, f"{shard.name}: sample {record.sample} has other pixels"):
            break  # the shard's digest has been named already


def _check_conditions(found: Findings, shard: CorpusShard, records: Sequence[SampleRecord]) -> None:
    """Note records that say another distortion or level than the header does of their condition."""
    same = {(record.distortion, record.level) for record in records} <= {shard.kind}
    found.expect(same, f"{shard.name}: its records are of another distortion or level than store.json says")


def _check_pixels(found: Findings, shard: CorpusShard, column: str, count: int, expected: object) -> list[str]:
    """Return the digest of each image of a shard; note it if together they are not what the ledger says."""
    digests: list[str] = []
    if not shard.pixels:
        return digests
    first = shard.number * shard.per_shard
    with found.noting(shard.name):
        corpus = open_corpus(shard.folder)
        if not corpus.whole_images:
            _require_shape(corpus, column, shard.slots)
        own = pixel_digest(_noting_each(corpus.images(column, range(first, first + count)), digests))
        found.counts["images"] += count
        found.expect(own == expected, f"{shard.name}: the pixels in {column} are not those that the ledger tells of")
    return digests


def _noting_each(images: Iterable[Image], digests: list[str]) -> Iterable[Image]:
    for image in images:
        digests.append(pixel_digest([image]))
        yield image


def _require_shape(corpus: CorpusStore, column: str, slots: int) -> None:
    """Raise PipelineError unless an array is as large as the header says: reading would go by the wrong one."""
    wanted, there = (slots, *(corpus.metadata["tile_px"],) * 2, 3), corpus.array(column).shape
    if there != wanted:
        raise PipelineError(f"the array {column} is of shape {there}, the header says {wanted}")


def _check_counts(found: Findings, metadata: Mapping[str, Any], shards: list[CorpusShard]) -> None:
    batches = Counter(shard.condition for shard in shards if shard.condition)
    check_counts(
        found,
        metadata,
        {
            "samples": found.sums["samples"],
            "tiles": found.sums["tiles"],
            "flagged": found.sums["flagged"],
            "batches": batches.total(),
        },
    )
    for name, samples in metadata["samples"].items():
        there = found.sums[f"samples of {name}"]
        found.expect(samples == there, f"store.json counts {samples} samples of {name}, there are {there}")
    if not found.sums[UNREAD]:
        images, different = (sum(name.startswith(kind) for name in found.names) for kind in ("image ", "sample "))
        check_counts(found, metadata, {"images": images, "duplicates": found.sums["samples"] - different})
        same = sum(metadata["licences"].values()) == images
        found.expect(same, "store.json: its licences are not of as many images")
    found.counts["samples"] = found.sums["samples"]


def _check_settings(found: Findings, metadata: Mapping[str, Any]) -> None:
    models = {name: model.get("digest") for name, model in metadata["models"].items()}
    found.expect(models == metadata["settings"]["models"], "store.json names other models than its settings")
    whole = metadata["settings"]["generate"]["whole_images"]
    tile_px = None if whole else metadata["settings"]["generate"].get("tile_px")
    found.expect(metadata.get("tile_px") == tile_px, "store.json says another tile_px than its settings")
    found.expect(
        metadata.get("manifest_digest") == metadata["settings"].get("manifest_digest"),
        "store.json names another manifest than its settings",
    )
