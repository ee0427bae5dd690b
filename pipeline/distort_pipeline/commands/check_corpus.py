"""Checks of a corpus against its metadata, ledger and digests."""

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
    "settings.generate.samples_per_shard": int,
    "settings.generate.whole_images": bool,
}


@dataclass(frozen=True)
class CorpusShard:
    """The task of a worker: a shard of tiles, or a batch."""

    folder: Path
    name: str
    number: int
    condition: str | None  # None: reference tiles
    kind: tuple[object, object]  # distortion and level of the condition in the metadata
    sample_truth: bool  # whether the shard has a truth file
    per_shard: int
    slots: int  # of the whole array
    pixels: bool  # whether the pixel arrays can be opened


def check_corpus(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return the problems of the corpus in `folder`; workers read every shard."""
    findings = Findings()
    if not (check_fields(findings, metadata, NEEDED) and _counts_are_numbers(findings, metadata)):
        return findings
    pixels = False
    with findings.noting():
        open_corpus(folder)
        pixels = True
    shards = _shards(folder, metadata, pixels)
    results = run_tasks(check_shard, shards, workers)
    for shard_findings in track(results, total=len(shards), label="verify", unit="shards"):
        findings.add(shard_findings)
    ignored = Findings()  # problems of the ledger are noted with the shards
    entries = [ledger_entry(ignored, folder, shard.name) for shard in shards]
    check_digests(findings, metadata, entries)
    _check_settings(findings, metadata)
    if all(entries):
        _check_counts(findings, metadata, shards)
    names = [shard.name for shard in shards]
    batches = [shard.name for shard in shards if shard.condition]
    check_foreign_files(
        findings,
        folder,
        {
            "ledger": [f"{name}.json" for name in names],
            "records": [f"{name}.parquet" for name in names],
            "reports": [f"{name}.{kind}" for name in batches for kind in ("json", "png")],
            "truth": [f"{shard.name}.npz" for shard in shards if shard.sample_truth],
        },
    )
    check_page(findings, folder / "index.html")
    check_listing(
        findings,
        folder,
        metadata,
        workers,
        partial(shard_of, per_shard=metadata["settings"]["generate"]["samples_per_shard"]),
    )
    return findings


def shard_of(path: str, *, per_shard: int) -> str | None:
    """Return the shard of a file in a corpus, or None for a file of the whole corpus.

    >>> shard_of("pixels.zarr/distorted/jpeg/c.2.0.0.0", per_shard=8), shard_of("reports/jpeg-00002.png", per_shard=8)
    ('jpeg-00002', 'jpeg-00002')
    >>> shard_of("pixels.zarr/pristine/00000017/zarr.json", per_shard=8), shard_of("index.html", per_shard=8)
    ('tiles-00002', None)
    """
    if shard := stem_in(path, ("ledger", "records", "reports", "truth")):
        return shard
    match = re.fullmatch(r"pixels\.zarr/(?:pristine|distorted/([^/]+))/(?:c\.(\d+)\..*|(\d{8})/.*)", path)
    if not match:
        return None
    name, number, image = match.groups()
    return f"{name or 'tiles'}-{int(number) if number else int(image) // per_shard:05d}"


def _counts_are_numbers(findings: Findings, metadata: Mapping[str, Any]) -> bool:
    numbers = [*metadata["samples"].values(), *metadata["batches"].values(), metadata["counts"].get("tiles")]
    valid = all(isinstance(number, int) for number in numbers)
    valid &= set(metadata["samples"]) == set(metadata["batches"]) == set(metadata["conditions"])
    valid &= all(
        isinstance(condition, dict) and {"distortion", "level"} <= set(condition)
        for condition in metadata["conditions"].values()
    )
    return findings.expect(valid and "tile_px" in metadata, "store.json is damaged: its counts are incomplete")


def _shards(folder: Path, metadata: Mapping[str, Any], pixels: bool) -> list[CorpusShard]:
    per_shard = metadata["settings"]["generate"]["samples_per_shard"]
    tiles = metadata["counts"]["tiles"]
    shards = [
        CorpusShard(folder, tile_shard(number), number, None, (None, None), True, per_shard, tiles, pixels)
        for number in range(metadata["tile_shards"])
    ]
    for name, samples in metadata["samples"].items():
        kind = (metadata["conditions"][name]["distortion"], metadata["conditions"][name]["level"])
        sample_truth = bool(metadata["conditions"][name].get("sample_truths"))
        shards += [
            CorpusShard(folder, f"{name}-{number:05d}", number, name, kind, sample_truth, per_shard, samples, pixels)
            for number in range(metadata["batches"][name])
        ]
    return shards


def check_shard(shard: CorpusShard) -> Findings:
    """Return the problems of a shard."""
    findings = _shard_findings(shard)
    if findings.problems:
        findings.damaged.add(shard.name)
    return findings


def _shard_findings(shard: CorpusShard) -> Findings:
    findings = Findings()
    findings.counts["shards"] += 1
    entry = ledger_entry(findings, shard.folder, shard.name)
    if not entry:
        return findings
    if shard.condition is None:
        _check_tiles(findings, shard, entry)
    else:
        _check_batch(findings, shard, entry)
    return findings


def _check_tiles(findings: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    records = checked_records(findings, shard.folder, shard.name, TileRecord, entry.get("records"))
    findings.names |= {f"image {record.image_digest}" for record in records or ()}
    findings.sums["tiles"] += entry["tiles"]
    _check_truth(findings, shard, entry)
    _check_pixels(findings, shard, PRISTINE, entry["tiles"], entry.get("pixels"))


def _check_truth(findings: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    with findings.noting():
        truth = read_truth_arrays(shard.folder, shard.name)
        findings.counts["files"] += 1
        same = arrays_digest(truth) == entry.get("truth")
        findings.expect(same, f"truth/{shard.name}.npz was changed: its digest differs from the ledger's")


def _check_batch(findings: Findings, shard: CorpusShard, entry: Mapping[str, Any]) -> None:
    assert shard.condition is not None  # as `_shard_findings` checked
    records = checked_records(findings, shard.folder, shard.name, SampleRecord, entry.get("records"))
    findings.names |= {f"sample {record.pixel_digest}" for record in records or ()}
    findings.sums["samples"] += entry["samples"]
    findings.sums[f"samples of {shard.condition}"] += entry["samples"]
    findings.sums["flagged"] += entry.get("accepted") is False
    report = check_json(findings, shard.folder / "reports" / f"{shard.name}.json", entry.get("report"))
    if isinstance(report, dict):
        same = report.get("accepted") == entry.get("accepted")
        findings.expect(same, f"{shard.name}: report and ledger do not agree on its acceptance")
    check_file(findings, shard.folder / "reports" / f"{shard.name}.png", entry.get("side_by_side"))
    if shard.sample_truth:
        _check_truth(findings, shard, entry)
    _check_conditions(findings, shard, records or ())
    pixel_digests = _check_pixels(
        findings, shard, distorted_array(shard.condition), entry["samples"], entry.get("pixels")
    )
    for record, actual in zip(records or (), pixel_digests, strict=False):
        if not findings.expect(record.pixel_digest == actual, f"{shard.name}: sample {record.sample} has other pixels"):
            break  # the digest of the shard is noted already


def _check_conditions(findings: Findings, shard: CorpusShard, records: Sequence[SampleRecord]) -> None:
    """Note records whose distortion or level differs from their condition in the metadata."""
    same = {(record.distortion, record.level) for record in records} <= {shard.kind}
    findings.expect(same, f"{shard.name}: the distortion or level in its records differs from store.json")


def _check_pixels(findings: Findings, shard: CorpusShard, column: str, count: int, expected: object) -> list[str]:
    """Return the digest of each image of a shard; note a mismatch between the ledger and all images together."""
    digests: list[str] = []
    if not shard.pixels:
        return digests
    first = shard.number * shard.per_shard
    with findings.noting(shard.name):
        corpus = open_corpus(shard.folder)
        if not corpus.whole_images:
            _require_shape(corpus, column, shard.slots)
        actual = pixel_digest(_with_digests(corpus.images(column, range(first, first + count)), digests))
        findings.counts["images"] += count
        findings.expect(
            actual == expected, f"{shard.name}: the digest of the pixels in {column} differs from the ledger's"
        )
    return digests


def _with_digests(images: Iterable[Image], digests: list[str]) -> Iterable[Image]:
    for image in images:
        digests.append(pixel_digest([image]))
        yield image


def _require_shape(corpus: CorpusStore, column: str, slots: int) -> None:
    """Raise PipelineError unless the shape of an array matches the metadata."""
    expected, shape = (slots, *(corpus.metadata["tile_px"],) * 2, 3), corpus.array(column).shape
    if shape != expected:
        raise PipelineError(f"the array {column} is of shape {shape}, not of {expected} as in store.json")


def _check_counts(findings: Findings, metadata: Mapping[str, Any], shards: list[CorpusShard]) -> None:
    batches = Counter(shard.condition for shard in shards if shard.condition)
    check_counts(
        findings,
        metadata,
        {
            "samples": findings.sums["samples"],
            "tiles": findings.sums["tiles"],
            "flagged": findings.sums["flagged"],
            "batches": batches.total(),
        },
    )
    for name, samples in metadata["samples"].items():
        counted = findings.sums[f"samples of {name}"]
        findings.expect(samples == counted, f"store.json counts {samples} samples of {name}, there are {counted}")
    if not findings.sums[UNREAD]:
        images, different = (sum(name.startswith(kind) for name in findings.names) for kind in ("image ", "sample "))
        check_counts(findings, metadata, {"images": images, "duplicates": findings.sums["samples"] - different})
        same = sum(metadata["licences"].values()) == images
        findings.expect(same, "store.json: its licences do not add up to its images")
    findings.counts["samples"] = findings.sums["samples"]


def _check_settings(findings: Findings, metadata: Mapping[str, Any]) -> None:
    models = {name: model.get("digest") for name, model in metadata["models"].items()}
    findings.expect(models == metadata["settings"]["models"], "store.json: its models differ from its settings")
    whole = metadata["settings"]["generate"]["whole_images"]
    tile_px = None if whole else metadata["settings"]["generate"].get("tile_px")
    findings.expect(metadata.get("tile_px") == tile_px, "store.json: its tile_px differs from its settings")
    findings.expect(
        metadata.get("manifest_digest") == metadata["settings"].get("manifest_digest"),
        "store.json: its manifest_digest differs from its settings",
    )
