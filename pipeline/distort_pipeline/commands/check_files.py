"""Checks of models, evaluations, exports and manifests against their metadata and digests."""

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
    check_config_hash,
    check_counts,
    check_digests,
    check_fields,
    check_file,
    check_foreign_files,
    check_json,
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
FIGURE_TOLERANCE = 1e-9  # relative tolerance of recomputed figures: another NumPy may sum in another order


def check_model(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return the problems of the model in `folder`: its weights, its histograms and the figures computed from them."""
    findings = Findings()
    if not check_fields(findings, metadata, {"settings": dict, "figures": dict, "levels": list, "weights_digest": str}):
        return findings
    check_config_hash(findings, metadata)
    with findings.noting():
        weights, _ = read_arrays(folder / WEIGHTS)
        findings.counts["weights"] += len(weights)
        same = arrays_digest(weights) == metadata["weights_digest"]
        findings.expect(same, f"{folder / WEIGHTS}: the digest of the weights differs from store.json")
    with findings.noting():
        try:
            histograms = read_histograms(folder)
        except RuntimeError as error:  # by zipfile, for damaged flags
            raise PipelineError(f"the histograms in {folder} are damaged: {error}") from None
        findings.expect(len(histograms) == len(metadata["levels"]), f"{folder} lacks histograms of some of its levels")
        for level_histograms, level in zip(histograms, metadata["levels"], strict=False):
            findings.counts["histograms"] += len(level_histograms.images)
            _check_histograms(findings, level_histograms, level["figures"])
        if not findings.problems:
            summaries = [summary(level_histograms) for level_histograms in histograms]
            means = {name: fmean(figures[name] for figures in summaries) for name in summaries[0]}
            _check_figures(findings, means, metadata["figures"])
    findings.expect((folder / "README.md").is_file(), f"{folder / 'README.md'} is missing")
    check_foreign_files(findings, folder, {})
    check_listing(findings, folder, metadata, workers)
    return findings


def _check_histograms(findings: Findings, histograms: ValidationHistograms, figures: Mapping[str, Any]) -> None:
    """Check that each tile has three histograms of the same number of values, and recompute the figures."""
    kinds = (histograms.pristine, histograms.true, histograms.generated)
    tiles, values = len(histograms.images), (histograms.tile_px - 1) ** 2  # one product for each diagonal neighbour
    shapes = all(kind.shape == (tiles, COUNTS) for kind in kinds)
    valid = shapes and tiles > 0 and all((kind >= 0).all() and (kind.sum(1) == values).all() for kind in kinds)
    if not findings.expect(
        valid, f"the histograms are not of {tiles} tiles of {histograms.tile_px} px, {values} values each"
    ):
        return
    _check_figures(findings, summary(histograms), figures)


def _check_figures(findings: Findings, computed: Mapping[str, float], figures: Mapping[str, Any]) -> None:
    """Check `figures` against the figures `computed` from the histograms."""
    for name, value in computed.items():
        noted = figures.get(name)
        same = isinstance(noted, float) and math.isclose(
            noted, value, rel_tol=FIGURE_TOLERANCE, abs_tol=FIGURE_TOLERANCE
        )
        findings.expect(same, f"store.json has {name} {noted}, the histograms give {value}")


def check_evaluation(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return the problems of the evaluation in `folder`."""
    findings = Findings()
    if check_fields(findings, metadata, {"settings": dict, "digest": str}):
        check_config_hash(findings, metadata)
        check_json(findings, folder / "metrics.json", metadata["digest"])
        check_page(findings, folder / "index.html")
        check_foreign_files(findings, folder, {})
        check_listing(findings, folder, metadata, workers)
    return findings


@dataclass(frozen=True)
class ExportedPart:
    """The files of a part of an export."""

    folder: Path
    name: str
    files: Mapping[str, str]  # path → SHA-256


def check_export(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> Findings:
    """Return the problems of the export in `folder`; every file is read."""
    findings = Findings()
    if not check_fields(findings, metadata, {"settings": dict, "counts": dict, "parts": list}):
        return findings
    names = [*metadata["parts"], "tables"]
    entries = [ledger_entry(findings, folder, str(name)) for name in names]
    findings.damaged |= {str(name) for name, entry in zip(names, entries, strict=True) if not entry}
    parts = [ExportedPart(folder, entry["shard"], entry["files"]) for entry in entries if entry]
    results = run_tasks(check_exported, parts, workers)
    for part_findings in track(results, total=len(parts), label="verify", unit="parts"):
        findings.add(part_findings)
    check_digests(findings, metadata, entries)
    if all(entries):
        known = {path for part in parts for path in part.files}
        check_counts(findings, metadata, {"files": len(known)})
        bookkeeping = {"store.json", "run.json", *(f"ledger/{name}.json" for name in names)}
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        findings.problems += [
            f"{folder / path} belongs to nothing in this export" for path in sorted(present - known - bookkeeping)
        ]
    return findings


def check_exported(part: ExportedPart) -> Findings:
    """Return the problems of the files of a part."""
    findings = Findings()
    for path, expected in part.files.items():
        check_file(findings, part.folder / path, expected)
    if findings.problems:
        findings.damaged.add(part.name)
    return findings


@dataclass(frozen=True)
class ListedImages:
    """The task of a worker: some rows of a manifest, with the root folder of their paths."""

    root: Path
    records: tuple[ImageRecord, ...]


def check_manifest(path: Path, workers: Workers) -> Findings:
    """Return the problems of the manifest at `path` and its images, all of which are decoded."""
    findings = Findings()
    with findings.noting():
        manifest = read_manifest(path)
        data = path.read_bytes()
        root = str(json.loads(data.partition(b"\n")[0])["root"])
        as_written = data == manifest_bytes(manifest.records, root, manifest.digest)
        findings.expect(as_written, f"{path} was changed: it is not in the exact form written by ingest")
        if not manifest.root.is_dir():
            raise PipelineError(f"its images were not checked: {manifest.root} is no folder")
        tasks = [ListedImages(manifest.root, rows) for rows in _batches(manifest.records, IMAGES_PER_TASK)]
        results = run_tasks(check_images, tasks, workers)
        for image_findings in track(results, total=len(tasks), label="verify", unit="batches"):
            findings.add(image_findings)
    return findings


def check_images(task: ListedImages) -> Findings:
    """Return the problems of some images of a manifest."""
    findings = Findings()
    for record in task.records:
        try:
            data = read_bytes(task.root, record.path)
            findings.counts["images"] += 1
            if hashlib.sha256(data).hexdigest() != record.file_digest:
                findings.problems.append(f"{record.path}: its file was changed")
            if image_digest(decode(data)[0]) != record.image_digest:
                findings.problems.append(f"{record.path} has other pixels than when it was ingested")
        except InvalidImage as invalid:
            findings.problems.append(f"{record.path} cannot be used any more: {invalid.reason}")
    return findings


def _batches(records: Sequence[ImageRecord], size: int) -> Iterator[tuple[ImageRecord, ...]]:
    rest = iter(records)
    while batch := tuple(islice(rest, size)):
        yield batch
