"""verify: recomputes every digest of a store, model, export or manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline import exports
from distort_pipeline.commands.check_corpus import check_corpus
from distort_pipeline.commands.check_files import check_evaluation, check_export, check_manifest, check_model
from distort_pipeline.commands.check_labels import check_labels
from distort_pipeline.commands.check_pairs import check_pairs
from distort_pipeline.commands.checks import Findings, interrupted, work_folders
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.stores import corpora, labels, models, pairs
from distort_pipeline.stores.files import json_bytes, read_json, read_metadata, sealed
from distort_pipeline.stores.manifests import is_manifest, read_manifest
from distort_pipeline.stores.remote import RemotePath

EVALUATION = "evaluation"
OURS = "distort-pipeline/"
Check = Callable[[Path, Mapping[str, Any], Workers], Findings]

CHECKS: dict[str, tuple[int, Check]] = {  # kind → version and check
    pairs.KIND: (pairs.VERSION, check_pairs),
    models.KIND: (models.VERSION, check_model),
    EVALUATION: (2, check_evaluation),
    corpora.KIND: (corpora.VERSION, check_corpus),
    labels.KIND: (labels.VERSION, check_labels),
    exports.KIND: (exports.VERSION, check_export),
}


@dataclass(frozen=True)
class VerifyReport:
    """Counts of checked items, and the problems; an intact store has none."""

    kind: str
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    damaged: frozenset[str] = frozenset()  # shards of a single store
    changed: frozenset[str] = frozenset()  # files whose bytes differ from the listing

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        checked = ", ".join(f"{count} {unit}" for unit, count in sorted(self.counts.items())) or "nothing"
        problems = len(self.problems)
        verdict = f"{problems} problem{'s' if problems > 1 else ''}" if problems else "all as it was made"
        return f"{self.kind}: {verdict}; checked {checked}"


def verify(path: Path, *, manifest: Path | None = None, workers: Workers | None = None) -> VerifyReport:
    """Return the problems of a manifest, pair store, model, evaluation, corpus or export, or of a folder of stores.

    Everything is read; problems do not stop the check. With a `manifest`, stores must be made of this manifest.
    PipelineError only if `path` holds no store or manifest of ours.
    """
    workers = workers or Workers()
    expected = read_manifest(manifest).digest if manifest else None
    findings = Findings()
    if path.is_file() and _is_manifest(path):
        return _report("manifest", check_manifest(path, workers))
    if (path / "store.json").is_file():
        kind = _check_store(findings, path, expected, workers)
        findings.problems += [interrupted(work) for work in work_folders(path.resolve().parent, path.resolve().name)]
        return _report(kind, findings)
    if not path.exists():
        raise PipelineError(f"there is nothing at {path}")
    if not path.is_dir():
        raise PipelineError(f"`verify` cannot check {path}: give a manifest, or the output folder of a step")
    _check_folder(findings, path, expected, workers)
    return _report("folder", findings)


def _report(kind: str, findings: Findings) -> VerifyReport:
    return VerifyReport(
        kind, dict(findings.counts), tuple(findings.problems), frozenset(findings.damaged), frozenset(findings.changed)
    )


def _check_store(findings: Findings, folder: Path, manifest_digest: str | None, workers: Workers) -> str:
    """Return the kind of the store in `folder`, whose problems are added to `findings`."""
    kind = "store"
    with findings.noting():
        document = read_json(folder / "store.json")
        store_format = document.get("format") if isinstance(document, dict) else None
        kind = store_format.removeprefix(OURS) if isinstance(store_format, str) else kind
        if kind not in CHECKS:
            raise PipelineError(f"{folder / 'store.json'} has a format unknown to `verify`: {store_format!r}")
        version, check = CHECKS[kind]
        metadata = read_metadata(folder, kind, version)
        store_findings = check(folder, metadata, workers)
        if not any("store.json" in problem for problem in store_findings.problems):  # otherwise noted already
            _check_seal(store_findings, folder / "store.json", metadata)
        findings.add(store_findings)
        if kind == corpora.KIND:
            _check_added_labels(findings, folder, metadata, workers)
        if manifest_digest and metadata.get("manifest_digest", manifest_digest) != manifest_digest:
            raise PipelineError(f"{folder} was made of another manifest")
    return kind


def _check_seal(findings: Findings, path: Path, metadata: Mapping[str, Any]) -> None:
    if metadata != sealed(metadata):
        findings.problems.append("store.json was changed: its seal differs from the digest of its fields")
    elif path.read_bytes() != json_bytes(metadata):
        findings.problems.append("store.json was changed: its fields are not in canonical form")


def _check_added_labels(findings: Findings, folder: Path, metadata: Mapping[str, Any], workers: Workers) -> None:
    """Add the problems of labels added to a corpus."""
    for label in sorted((folder / labels.FOLDER).glob("[!.]*")):
        label_findings = Findings()
        _check_store(label_findings, label, None, workers)
        with label_findings.noting():
            if read_json(label / "store.json").get("corpus_digest") != metadata.get("digest"):
                raise PipelineError("it belongs to another corpus")
        prefix = label.relative_to(folder)
        label_findings.problems = [f"{prefix}: {problem}" for problem in label_findings.problems]
        findings.add(label_findings)


def _check_folder(findings: Findings, folder: Path, manifest_digest: str | None, workers: Workers) -> None:
    """Add the problems of all stores and manifests below `folder`, each with its path."""
    if isinstance(folder, RemotePath):
        raise PipelineError(f"{folder} has no store.json: the store is unfinished or missing")
    kinds: Counter[str] = Counter()
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        if "store.json" in files:
            store_findings = Findings()
            kinds[_check_store(store_findings, here, manifest_digest, workers)] += 1
            folders[:] = []
            findings.problems += [f"{here.relative_to(folder)}: {problem}" for problem in store_findings.problems]
            continue
        for name in sorted(files):
            if name.endswith(".jsonl") and _is_manifest(here / name):
                kinds["manifest"] += 1
                problems = check_manifest(here / name, workers).problems
                findings.problems += [f"{(here / name).relative_to(folder)}: {problem}" for problem in problems]
        findings.problems += [interrupted(work) for work in work_folders(here)]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    if not kinds:
        raise PipelineError(f"`verify` cannot check {folder}: no manifest, and no store.json of ours")
    findings.counts.update(kinds)


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return is_manifest(file.readline())
    except (OSError, UnicodeDecodeError):
        return False
