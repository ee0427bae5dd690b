"""verify --repair: a damaged store becomes unfinished work again, without what is damaged, and its step goes on."""

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
    path: Path, found: VerifyReport, make: Callable[[], object], *, workers: Workers | None = None
) -> VerifyReport:
    """Make the damaged shards of the store at `path` again, and no others; return what `verify` says then.

    `make` is the command that made the store: on a finished store it does nothing, or says that settings or inputs are
    other ones. PipelineError if the store has no shards, or its header is damaged: nothing else says how it was made.
    """
    if not found.problems:
        return found
    if found.kind not in SHARDED:
        raise PipelineError(f"{path} has no shards to repair: {MAKE_AGAIN.get(found.kind, 'make it again')}")
    if all(problem.startswith(f"{LABELS}/") for problem in found.problems):
        raise PipelineError(f"labels are not repaired: delete the damaged folder in {path / LABELS}, and label again")
    metadata = read_json(path / "store.json")
    if metadata != sealed(metadata):
        raise PipelineError(
            f"{path / 'store.json'} is damaged, and nothing else says how the store was made: delete {path}, and run "
            "the command that made it again"
        )
    make()
    work = reopen(path, found)
    try:
        make()
    except BaseException:
        if work.exists() and not path.exists():
            print(f"what is left of {path} lies in {work}; the command that made it goes on there", file=sys.stderr)
        raise
    after = verify(path, workers=workers)
    made = read_json(path / "store.json")
    if made.get("digest") != metadata["digest"]:
        raise PipelineError(
            f"{path} was made again and has another digest than before: another version of a codec or another "
            "processor, perhaps; `distort-pipeline doctor` tells the versions, store.json those of then"
        )
    return after


def reopen(path: Path, found: VerifyReport) -> Path:
    """Return the work folder that the store at `path` was turned into, without what is damaged in it."""
    build = StagedStore(path, str(read_json(path / "store.json")["config_hash"]))
    if isinstance(path, RemotePath):
        raise PipelineError(f"a store in an object store is not repaired in place: delete {path}, and make it again")
    if build.work.exists():
        raise PipelineError(f"{build.work} is of a run that did not end; run its command again, or delete it")
    gone = {*found.changed, *(f"ledger/{shard}.json" for shard in found.damaged), LISTING, "store.json"}
    for name in sorted(gone):
        (path / name).unlink(missing_ok=True)
    path.rename(build.work)
    return build.work
