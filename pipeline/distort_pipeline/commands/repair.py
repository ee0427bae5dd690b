"""verify --repair: makes the damaged shards of a store again, beside the store, and replaces its damaged files.

Nothing in the store is touched before all of it is made and known to be right.
"""

from __future__ import annotations

import filecmp
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distort_pipeline.commands.inputs import known_models
from distort_pipeline.commands.params import parse_section
from distort_pipeline.config import ExportConfig, GenerateConfig, PairsConfig
from distort_pipeline.data.arrays import group_metadata
from distort_pipeline.data.builds import (
    DISK_FAULTS,
    OtherInputsError,
    StagedStore,
    require_writable,
    share_files,
)
from distort_pipeline.data.corpus_metadata import EXTENDED_FROM, CorpusSettings
from distort_pipeline.data.files import (
    LABELS,
    LISTING,
    cannot_write,
    from_json,
    is_sealed,
    read_json,
    read_listing,
    store_files,
    write_bytes,
)
from distort_pipeline.data.leases import Ledger, hold_lease
from distort_pipeline.data.remote import is_remote
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import Report
from distort_pipeline.steps import export, generate, pairs

STAGING = ".repair.building"
SHARDED = ("pairs", "corpus", "export")
REMEDIES = {  # for what has no shards
    "model": "move it away and train it again",
    "evaluation": "move it away and evaluate again",
    "labels": "delete it and run `label` again",
    "manifest": "ingest again",
    "folder": "name the damaged store in it",
}


def repair(path: Path, kind: str, changed: Collection[str], make: Callable[[Path], object]) -> None:
    """Make the shards of the `changed` files of the store at `path` again, and no others.

    `make` runs the step of the store for another folder. PipelineError if the store has no shards, if its metadata are
    damaged, or if anything for the repair is missing; the store is then as it was.
    """
    damaged = {name for name in changed if not name.startswith(f"{LABELS}/")}
    if kind not in SHARDED:
        raise PipelineError(f"{path} has no shards to repair: {REMEDIES.get(kind, 'repeat its command elsewhere')}")
    if is_remote(path):
        raise PipelineError(f"stores in an object store are not repaired: delete {path} and repeat its command")
    if changed and not damaged:
        raise PipelineError(f"labels are not repaired: delete the damaged folder in {path / LABELS} and label again")
    metadata = read_json(path / "store.json")
    if not is_sealed(metadata):
        raise PipelineError(
            f"{path / 'store.json'} is damaged, and with it the settings of the store: {path} cannot be repaired and "
            "stays as it was; repeat its command in another folder"
        )
    if not damaged:  # files that belong to nothing are for the user to delete
        return
    store = path.resolve()
    with _unchanged(path):
        for folder in {next(folder for folder in (store / name).parents if folder.exists()) for name in damaged}:
            require_writable(folder)
        make(path)  # on a finished store: returns at once, or finds other settings or inputs
    with _staging(store, path) as staging:
        out = staging / "store"
        with _unchanged(path):
            _share(store, StagedStore(out, metadata["config_hash"]).start(), damaged)
            make(out)
            _require_same(store, out, damaged)
        _replace(store, out)


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raise an error of the block as a PipelineError with the remark that the store at `path` was not touched."""
    cannot = f"{path} cannot be repaired and stays as it was"
    try:
        yield
    except OtherInputsError:
        raise PipelineError(
            f"{cannot}: it was made with other settings or inputs than these; name its own with --manifest, --models, "
            "--external-pairs or --corpus"
        ) from None
    except PipelineError as error:
        raise PipelineError(f"{cannot}: {error}") from error
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise PipelineError(f"{cannot}: {cannot_write(path, error)}") from error


@contextmanager
def _staging(store: Path, path: Path) -> Iterator[Path]:
    """Yield a new folder inside the store, so on its disk, deleted at the end in any case."""
    with hold_lease(store / ".lease", path):
        staging = store / STAGING
        shutil.rmtree(staging, ignore_errors=True)  # left of a killed repair
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _share(store: Path, work: Path, damaged: Collection[str]) -> None:
    """Fill the unfinished store `work` with the intact files of the store at `store`.

    Without its entry in the ledger, a shard counts as unfinished: one with a damaged file, and all shards of an earlier
    version, whose entries name no files.
    """
    if LISTING in damaged:
        return  # no file is known to be intact
    listing = read_listing(store)
    files: dict[str, set[str]] = {}
    for shard, name, _ in Ledger(store).every_file():
        files.setdefault(f"ledger/{shard}.json", set()).add(name)
    intact = {entry for entry, names in files.items() if names.isdisjoint(damaged)}
    kept = [name for name in listing if name not in damaged and (name in intact or not name.startswith("ledger/"))]
    share_files(store, work, kept)
    group = group_metadata()  # same in every store, and written by no step where all below it is finished
    for name in damaged:
        if listing[name] == hashlib.sha256(group).hexdigest():
            write_bytes(work / name, group)


def _require_same(store: Path, rebuilt: Path, damaged: Collection[str]) -> None:
    """Raise PipelineError unless the rebuilt store has the digest and the files of the store at `store`."""
    lost = set() if LISTING in damaged else set(read_listing(store)) - set(read_listing(rebuilt))
    if lost:
        raise PipelineError(f"rebuilt, it lacks {min(lost)}")
    if read_json(store / "store.json")["digest"] != read_json(rebuilt / "store.json")["digest"]:
        raise PipelineError(
            "rebuilt, it has another digest: by another version of a codec, another processor, or an unreadable image; "
            "compare the versions in `distort-pipeline doctor` and store.json"
        )


def _replace(store: Path, rebuilt: Path) -> None:
    """Replace each file of the store at `store` that differs from the rebuilt store; the metadata last."""
    for name in (*store_files(rebuilt), LISTING, "store.json"):
        new, old = rebuilt / name, store / name
        if not (old.is_file() and (new.samefile(old) or filecmp.cmp(new, old, shallow=False))):
            write_bytes(old, new.read_bytes())


@dataclass(frozen=True)
class Inputs:
    """Inputs of any kind of store; each kind needs some of these."""

    manifest: Path = Path("manifest.jsonl")
    models: Path | None = None  # None: the folder `models` here, and the pretrained generators
    corpus: Path = Path("corpus")
    root: Path | None = None  # folder of the manifest's images, if they have moved
    external: Mapping[str, str] = field(default_factory=dict)


def rebuilder(path: Path, inputs: Inputs, workers: Workers) -> Callable[[Path], Report]:
    """Return a function that makes the sharded store at `path` again in another folder, with the same settings."""
    where, root, manifest = "store.json", inputs.root, inputs.manifest

    def rebuild(out: Path) -> Report:
        settings = read_json(path / where)["settings"]
        if settings["format"] == "pairs":
            pair_values = {**settings["pairs"], "external": dict(inputs.external)}
            pair_config = parse_section(PairsConfig, pair_values, where=where)
            return pairs.run(pair_config, manifest, out, root=root, workers=workers)
        if settings["format"] == "export":
            config = parse_section(ExportConfig, settings["export"], where=where)
            # without labels added after the export
            return export.run(config, inputs.corpus, out, workers=workers, labels=tuple(settings["labels"]))
        values = {name: value for name, value in settings["generate"].items() if name != EXTENDED_FROM}
        models = {name: folder for name, folder in known_models(inputs.models).items() if name in settings["models"]}
        corpus_config = parse_section(GenerateConfig, values, where=where)
        earlier = from_json(CorpusSettings, settings, Path(where))
        return generate.run(corpus_config, manifest, models, out, root=root, workers=workers, earlier=earlier)

    return rebuild
