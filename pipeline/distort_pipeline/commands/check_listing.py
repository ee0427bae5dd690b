"""Whether the files of a store are those that were listed when it was published, byte by byte."""

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
    """Some files of a store: path → SHA-256."""

    folder: Path
    digests: dict[str, str]


def check_listing(
    found: Findings,
    folder: Path,
    metadata: Mapping[str, Any],
    workers: Workers,
    shard_of: Callable[[str], str | None] = lambda _: None,
) -> None:
    """Note each listed file that is missing or changed, unless a problem names it already.

    Other checks go by what is in the files, and see no change that alters no value: a bit of padding, the order of
    keys. `shard_of` says which shard a file belongs to, or None if to no single one: those shards are the damaged
    ones, others only cannot be read because of what belongs to all.
    """
    expected = metadata.get("files", {}).get(LISTING)
    if expected is None:
        return
    check_file(found, folder / LISTING, expected)
    if any(LISTING in problem for problem in found.problems):
        found.changed.add(LISTING)
        return
    items = list(read_listing(folder).items())
    lots = [
        ListedFiles(folder, dict(items[start : start + FILES_PER_TASK]))
        for start in range(0, len(items), FILES_PER_TASK)
    ]
    said = "\n".join(found.problems)
    found.damaged.clear()
    for changed in run_tasks(changed_files, lots, workers):
        for name, what in changed.items():
            found.changed.add(name)
            if shard := shard_of(name):
                found.damaged.add(shard)
            found.expect(name in said, f"{folder / name} {what}")
    found.counts["listed files"] += len(items)


def changed_files(listed: ListedFiles) -> dict[str, str]:
    """Return path → what is wrong with it, of those files that are not as they were listed."""
    wrong = {}
    for name, expected in listed.digests.items():
        try:
            if file_digest(listed.folder / name) != expected:
                wrong[name] = "was changed: it has other bytes than when it was made"
        except OSError as error:
            wrong[name] = f"cannot be read: {error.strerror}"
    return wrong
