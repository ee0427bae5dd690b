"""Whether models, evaluations, exports and manifests are what they were when they were made."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from distort_pipeline.commands.check_listing import check_listing
from distort_pipeline.commands.checks import (
    Findings,
    check_counts,
    check_digests,
    check_fields,
    check_file,
    check_foreign_files,
    check_json,
    check_key,
    check_page,
    ledger_entry,
)
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.progress import track
from distort_pipeline.records import ImageRecord
from distort_pipeline.statistics.histograms import COUNTS
from distort_pipeline.stores.images import InvalidImage, decode, image_digest
from distort_pipeline.stores.manifests import manifest_bytes, read_manifest
from distort_pipeline.stores.models import WEIGHTS, ValidationHistograms, arrays_digest, read_arrays, read_histograms
from distort_pipeline.stores.sources import read_bytes
from distort_pipeline.training.validation import summary

IMAGES_PER_TASK = 16
CLOSE = 1e-9  # figures are computed again: another NumPy may add in another order


def check_model(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return what is wrong with the model in `folder`: its weights, its histograms and the figures drawn from them."""
    found = Findings()
    if not check_fields(found, metadata, {"settings": dict, "figures": dict, "levels": list, "weights_digest": str}):
        return found
    check_key(found, metadata)
    with found.noting():
        weights, _ = read_arrays(folder / WEIGHTS)
        found.counts["weights"] += len(weights)
        same = arrays_digest(weights) == metadata["weights_digest"]
        found.expect(same, f"{folder / WEIGHTS}: the weights are not those with the digest in store.json")
    with found.noting():
        try:
            histograms = read_histograms(folder)
        except RuntimeError as error:  # zipfile, of a file whose flags were damaged
            raise PipelineError(f"the histograms in {folder} are damaged: {error}") from None
        found.expect(len(histograms) == len(metadata["levels"]), f"{folder} lacks histograms of some of its levels")
        for own, level in zip(histograms, metadata["levels"], strict=False):
            found.counts["histograms"] += len(own.images)
            _check_histograms(found, own, level["figures"])
        if not found.problems:
            summaries = [summary(own) for own in histograms]
            means = {name: fmean(own[name] for own in summaries) for name in summaries[0]}
            _check_figures(found, means, metadata["figures"])
    found.expect((folder / "README.md").is_file(), f"{folder / 'README.md'} is missing")
    check_foreign_files(found, folder, {})
    check_listing(found, folder, metadata, workers)
    return found


def _check_histograms(found: Findings, histograms: ValidationHistograms, figures: Mapping[str, Any]) -> None:
    """Check that three histograms of as many values belong to each tile, and that the figures follow from them."""
    kinds = (histograms.pristine, histograms.true, histograms.generated)
    tiles, values = len(histograms.images), (histograms.tile_px - 1) ** 2  # one product for each diagonal neighbour
    shapes = all(kind.shape == (tiles, COUNTS) for kind in kinds)
    fine = shapes and tiles > 0 and all((kind >= 0).all() and (kind.sum(1) == values).all() for kind in kinds)
    if not found.expect(
        fine, f"the histograms are not of {tiles} tiles of {histograms.tile_px} px, {values} values each"
    ):
        return
    _check_figures(found, summary(histograms), figures)


def _check_figures(found: Findings, drawn: Mapping[str, float], figures: Mapping[str, Any]) -> None:
    """Check that `figures` are those that were `drawn` from the histograms."""
    for name, value in drawn.items():
        said = figures.get(name)
        same = isinstance(said, float) and math.isclose(said, value, rel_tol=CLOSE, abs_tol=CLOSE)
        found.expect(same, f"store.json says {name} {said}, the histograms say {value}")


def check_evaluation(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return what is wrong with the evaluation in `folder`."""
    found = Findings()
    if check_fields(found, metadata, {"settings": dict, "digest": str}):
        check_key(found, metadata)
        check_json(found, folder / "metrics.json", metadata["digest"])
        check_page(found, folder / "index.html")
        check_foreign_files(found, folder, {})
        check_listing(found, folder, metadata, workers)
    return found


@dataclass(frozen=True)
class ExportedPart:
    """The files of one part of an export."""

    folder: Path
    name: str
    files: Mapping[str, str]  # path → SHA-256


def check_export(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return what is wrong with the export in `folder`: every file is read."""
    found = Findings()
    if not check_fields(found, metadata, {"settings": dict, "counts": dict, "parts": list}):
        return found
    names = [*metadata["parts"], "tables"]
    entries = [ledger_entry(found, folder, str(name)) for name in names]
    found.damaged |= {str(name) for name, entry in zip(names, entries, strict=True) if not entry}
    parts = [ExportedPart(folder, entry["shard"], entry["files"]) for entry in entries if entry]
    for own in track(run_tasks(check_exported, parts, workers), total=len(parts), label="verify", unit="parts"):
        found.add(own)
    check_digests(found, metadata, entries)
    if all(entries):
        known = {path for part in parts for path in part.files}
        check_counts(found, metadata, {"files": len(known)})
        ours = {"store.json", "run.json", *(f"ledger/{name}.json" for name in names)}
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        found.problems += [
            f"{folder / path} belongs to nothing in this export" for path in sorted(there - known - ours)
        ]
    return found


def check_exported(part: ExportedPart) -> Findings:
    """Return what is wrong with the files of one part."""
    found = Findings()
    for path, expected in part.files.items():
        check_file(found, part.folder / path, expected)
    if found.problems:
        found.damaged.add(part.name)
    return found


@dataclass(frozen=True)
class ListedImages:
    """Some rows of a manifest, and the folder that their paths start from."""

    root: Path
    records: tuple[ImageRecord, ...]


def check_manifest(path: Path, workers: Workers) -> Findings:
    """Return what is wrong with the manifest at `path`, and with the images that it lists: every one is decoded."""
    found = Findings()
    with found.noting():
        manifest = read_manifest(path)
        data = path.read_bytes()
        root = str(json.loads(data.partition(b"\n")[0])["root"])
        as_written = data == manifest_bytes(manifest.records, root, manifest.digest)
        found.expect(as_written, f"{path} was changed: it is not written the way ingest writes")
        if not manifest.root.is_dir():
            raise PipelineError(f"its images should lie in {manifest.root}, which is no folder: they were not checked")
        tasks = [ListedImages(manifest.root, some) for some in _some(manifest.records, IMAGES_PER_TASK)]
        for part in track(run_tasks(check_images, tasks, workers), total=len(tasks), label="verify", unit="lots"):
            found.add(part)
    return found


def check_images(task: ListedImages) -> Findings:
    """Return what is wrong with some images of a manifest."""
    found = Findings()
    for record in task.records:
        try:
            data = read_bytes(task.root, record.path)
            found.counts["images"] += 1
            if hashlib.sha256(data).hexdigest() != record.file_digest:
                found.problems.append(f"{record.path}: its file was changed")
            if image_digest(decode(data)[0]) != record.image_digest:
                found.problems.append(f"{record.path} has other pixels than when it was ingested")
        except InvalidImage as unusable:
            found.problems.append(f"{record.path} is no use any more: {unusable.reason}")
    return found


def _some(records: Sequence[ImageRecord], size: int) -> Iterator[tuple[ImageRecord, ...]]:
    left = iter(records)
    while some := tuple(islice(left, size)):
        yield some
