"""verify --repair: turns a damaged store into unfinished work without its damaged files, and resumes its step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from distort_pipeline.commands.verify import VerifyReport, verify
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.stores.builds import StagedStore
from distort_pipeline.stores.files import LISTING, read_json, sealed
from distort_pipeline.stores.labels import FOLDER as LABELS
from distort_pipeline.stores.remote import RemotePath

SHARDED = ("pairs", "corpus", "export")
MAKE_AGAIN = {"model": "train it again", "evaluation": "delete it and evaluate again", "manifest": "ingest again"}


def repair(
    path: Path, report: VerifyReport, make: Callable[[], object], *, workers: Workers | None = None
) -> VerifyReport:
    """Return the report of `verify` after the damaged shards of the store at `path`, and no others, are rebuilt.

    `make` runs the step of the store: on a finished store it returns at once, or raises PipelineError if settings or
    inputs differ. PipelineError if the store has no shards, or if its metadata are damaged.
    """
    if not report.problems:
        return report
    if report.kind not in SHARDED:
        raise PipelineError(f"{path} has no shards to repair: {MAKE_AGAIN.get(report.kind, 'make it again')}")
    if all(problem.startswith(f"{LABELS}/") for problem in report.problems):
        raise PipelineError(
            f"labels are not repaired: delete the damaged folder in {path / LABELS} and run `label` again"
        )
    metadata = read_json(path / "store.json")
    if metadata != sealed(metadata):
        raise PipelineError(
            f"{path / 'store.json'} is damaged, and with it the settings of the store: delete {path} and repeat "
            "its command"
        )
    make()
    work = reopen(path, report)
    try:
        make()
    except BaseException:
        if work.exists() and not path.exists():
            print(f"the rest of {path} is in {work}; its command resumes from there", file=sys.stderr)
        raise
    after = verify(path, workers=workers)
    rebuilt = read_json(path / "store.json")
    if rebuilt.get("digest") != metadata["digest"]:
        raise PipelineError(
            f"{path} was rebuilt with another digest than before: another version of a codec or another "
            "processor, perhaps; compare the versions in `distort-pipeline doctor` and store.json"
        )
    return after


def reopen(path: Path, report: VerifyReport) -> Path:
    """Return the work folder made of the store at `path`, without damaged files."""
    staged = StagedStore(path, str(read_json(path / "store.json")["config_hash"]))
    if isinstance(path, RemotePath):
        raise PipelineError(f"stores in an object store are not repaired: delete {path} and repeat its command")
    if staged.work.exists():
        raise PipelineError(f"{staged.work} is left of an interrupted run; repeat its command, or delete the folder")
    damaged = {*report.changed, *(f"ledger/{shard}.json" for shard in report.damaged), LISTING, "store.json"}
    for name in sorted(damaged):
        (path / name).unlink(missing_ok=True)
    path.rename(staged.work)
    return staged.work
