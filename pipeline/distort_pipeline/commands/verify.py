"""verify: whether what lies on the disk is still what was made; every digest is computed again."""

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

CHECKS: dict[str, tuple[int, Check]] = {  # kind → version, and how a store of it is checked
    pairs.KIND: (pairs.VERSION, check_pairs),
    models.KIND: (models.VERSION, check_model),
    EVALUATION: (1, check_evaluation),
    corpora.KIND: (corpora.VERSION, check_corpus),
    labels.KIND: (labels.VERSION, check_labels),
    exports.KIND: (exports.VERSION, check_export),
}


@dataclass(frozen=True)
class VerifyReport:
    """What was checked, how much of it, and what is wrong: nothing if `problems` is empty."""

    kind: str
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    damaged: frozenset[str] = frozenset()  # shards of the one store
    changed: frozenset[str] = frozenset()  # its files that have other bytes than when they were listed

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        checked = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())) or "nothing"
        wrong = len(self.problems)
        verdict = f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else "all as it was made"
        return f"{self.kind}: {verdict}; checked {checked}"


def verify(path: Path, *, manifest: Path | None = None, workers: Workers | None = None) -> VerifyReport:
    """Return what is wrong with a manifest, pair store, model, evaluation, corpus or export, or a folder of those.

    It reads everything and stops at no problem. With a `manifest`, stores must also have been made of that one.
    PipelineError only if nothing of ours lies at `path`.
    """
    workers = workers or Workers()
    expected = read_manifest(manifest).digest if manifest else None
    found = Findings()
    if path.is_file() and _is_manifest(path):
        return _report("manifest", check_manifest(path, workers))
    if (path / "store.json").is_file():
        kind = _check_store(found, path, expected, workers)
        found.problems += [interrupted(work) for work in work_folders(path.resolve().parent, path.resolve().name)]
        return _report(kind, found)
    if not path.exists():
        raise PipelineError(f"there is nothing at {path}")
    if not path.is_dir():
        raise PipelineError(f"{path} is nothing that `verify` knows: give a manifest, or a folder that a step made")
    _check_folder(found, path, expected, workers)
    return _report("folder", found)


def _report(kind: str, found: Findings) -> VerifyReport:
    return VerifyReport(
        kind, dict(found.counts), tuple(found.problems), frozenset(found.damaged), frozenset(found.changed)
    )


def _check_store(found: Findings, folder: Path, manifest_digest: str | None, workers: Workers) -> str:
    """Add what is wrong with the store in `folder`, and return its kind."""
    kind = "store"
    with found.noting():
        said = read_json(folder / "store.json")
        form = said.get("format") if isinstance(said, dict) else None
        kind = form.removeprefix(OURS) if isinstance(form, str) else kind
        if kind not in CHECKS:
            raise PipelineError(f"{folder / 'store.json'} is of no kind that `verify` knows: its format is {form!r}")
        version, check = CHECKS[kind]
        metadata = read_metadata(folder, kind, version)
        own = check(folder, metadata, workers)
        if not any("store.json" in problem for problem in own.problems):  # else what was changed has been named
            _check_seal(own, folder / "store.json", metadata)
        found.add(own)
        if kind == corpora.KIND:
            _check_added_labels(found, folder, metadata, workers)
        if manifest_digest and metadata.get("manifest_digest", manifest_digest) != manifest_digest:
            raise PipelineError(f"{folder} was made of another manifest")
    return kind


def _check_seal(found: Findings, path: Path, metadata: Mapping[str, Any]) -> None:
    if metadata != sealed(metadata):
        found.problems.append("store.json was changed: its seal is not the one of its fields")
    elif path.read_bytes() != json_bytes(metadata):
        found.problems.append("store.json was changed: its fields are written in another way")


def _check_added_labels(found: Findings, folder: Path, metadata: Mapping[str, Any], workers: Workers) -> None:
    """Add what is wrong with labels that were added to a corpus."""
    for label in sorted((folder / labels.FOLDER).glob("[!.]*")):
        own = Findings()
        _check_store(own, label, None, workers)
        with own.noting():
            if read_json(label / "store.json").get("corpus_digest") != metadata.get("digest"):
                raise PipelineError("it belongs to another corpus")
        own.problems = [f"{label.relative_to(folder)}: {problem}" for problem in own.problems]
        found.add(own)


def _check_folder(found: Findings, folder: Path, manifest_digest: str | None, workers: Workers) -> None:
    """Add what is wrong with all that lies below `folder`, each problem behind the place that it is in."""
    if isinstance(folder, RemotePath):
        raise PipelineError(f"{folder} has no store.json: its store is unfinished, or it holds none")
    before: Counter[str] = Counter()
    seen = False
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if "store.json" in files:
            own = Findings()
            kind = _check_store(own, here, manifest_digest, workers)
            seen, folders[:] = True, []
            before[kind] += 1
            found.problems += [f"{here.relative_to(folder)}: {problem}" for problem in own.problems]
            continue
        for name in sorted(files):
            if name.endswith(".jsonl") and _is_manifest(here / name):
                own = check_manifest(here / name, workers)
                seen = True
                before["manifest"] += 1
                found.problems += [f"{(here / name).relative_to(folder)}: {problem}" for problem in own.problems]
        found.problems += [interrupted(work) for work in work_folders(here)]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    if not seen:
        raise PipelineError(f"nothing that `verify` knows lies in {folder}: no manifest, and no store.json of ours")
    found.counts.update(before)


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return is_manifest(file.readline())
    except (OSError, UnicodeDecodeError):
        return False
