"""Check of the files of a store against the listing of its publication, byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.commands.checks import Findings, check_file
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.stores.files import LISTING, file_digest, read_listing

FILES_PER_TASK = 64


@dataclass(frozen=True)
class ListedFiles:
    """The task of a worker: some files of a store, path → SHA-256."""

    folder: Path
    digests: dict[str, str]


def check_listing(
    findings: Findings,
    folder: Path,
    metadata: Mapping[str, Any],
    workers: Workers,
    shard_of: Callable[[str], str | None] = lambda _: None,
) -> None:
    """Note each listed file that is missing or changed, unless named in a problem already.

    Other checks read values and miss changes without effect on values: a bit of padding, the order of keys.
    `shard_of` returns the shard of a file, or None for a file of the whole store. Only shards of changed files count as
    damaged: others may be unreadable because of a file of the whole store.
    """
    expected = metadata.get("files", {}).get(LISTING)
    if expected is None:
        return
    check_file(findings, folder / LISTING, expected)
    if any(LISTING in problem for problem in findings.problems):
        findings.changed.add(LISTING)
        return
    items = list(read_listing(folder).items())
    tasks = [
        ListedFiles(folder, dict(items[start : start + FILES_PER_TASK]))
        for start in range(0, len(items), FILES_PER_TASK)
    ]
    noted = "\n".join(findings.problems)
    findings.damaged.clear()
    for changed in run_tasks(changed_files, tasks, workers):
        for name, change in changed.items():
            findings.changed.add(name)
            if shard := shard_of(name):
                findings.damaged.add(shard)
            findings.expect(name in noted, f"{folder / name} {change}")
    findings.counts["listed files"] += len(items)


def changed_files(listed: ListedFiles) -> dict[str, str]:
    """Return path → problem of each file that differs from the listing."""
    problems = {}
    for name, expected in listed.digests.items():
        try:
            if file_digest(listed.folder / name) != expected:
                problems[name] = "was changed: its bytes differ from the listing"
        except OSError as error:
            problems[name] = f"cannot be read: {error.strerror}"
    return problems
