"""verify: compares every file of a store, model, export or manifest with its checksum."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from distort_pipeline.commands.options import (
    EXIT_BROKEN,
    EXIT_USER,
    JSON,
    PATH,
    STORE_PATH,
    examples,
    named_paths,
    scheduler_options,
    show_json,
    workers_of,
)
from distort_pipeline.config import WORKERS_HELP
from distort_pipeline.data import corpus_metadata, labels, pairs
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.files import (
    LISTING,
    file_digest,
    is_litter,
    is_sealed,
    is_unfinished,
    json_bytes,
    read_json,
    read_listing,
    store_files,
)
from distort_pipeline.data.manifests import Manifest, is_manifest, manifest_bytes, read_manifest
from distort_pipeline.data.remote import is_remote
from distort_pipeline.data.sources import read_bytes
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.models import card
from distort_pipeline.process import track

FILES_PER_TASK = 64


@dataclass(frozen=True)
class ListedFiles:
    """The task of a worker: some files of a store, or images of a manifest, with their SHA-256."""

    root: Path
    digests: tuple[tuple[str, str], ...]
    images: bool = False  # perhaps in archives


def changed_files(folder: Path, listing_digest: object, workers: Workers) -> dict[str, str]:
    """Return path → problem of each file of a store that is missing or differs from the listing.

    A damaged listing is the only entry: without it, any file may have changed.
    """
    problem = _problem_of(folder / LISTING, listing_digest)
    if problem:
        return {LISTING: problem}
    return _changed(folder, read_listing(folder).items(), workers)


def changed_images(manifest: Manifest, root: Path, workers: Workers) -> dict[str, str]:
    """Return path → problem of each image file of a manifest, below `root`, that is missing or was changed."""
    if not root.is_dir():
        raise PipelineError(f"its images were not checked: {root} is no folder; name the new one with --root")
    digests = [(record.path, record.file_digest) for record in manifest.records]
    return _changed(root.resolve(), digests, workers, images=True)


def _changed(
    root: Path, digests: Iterable[tuple[str, str]], workers: Workers, *, images: bool = False
) -> dict[str, str]:
    listed = list(digests)
    starts = range(0, len(listed), FILES_PER_TASK)
    tasks = [ListedFiles(root, tuple(listed[start : start + FILES_PER_TASK]), images) for start in starts]
    problems: dict[str, str] = {}
    for batch in track(run_tasks(check_files, tasks, workers), total=len(tasks), label="verify", unit="batches"):
        problems |= batch
    return problems


def check_files(task: ListedFiles) -> dict[str, str]:
    """Return path → problem of each changed file."""
    problems = {
        name: _problem_of_image(task.root, name, expected) if task.images else _problem_of(task.root / name, expected)
        for name, expected in task.digests
    }
    return {name: problem for name, problem in problems.items() if problem}


def _problem_of(path: Path, expected: object) -> str:
    """Return the problem of a file, or '' if its SHA-256 is the `expected` one."""
    try:
        same = file_digest(path) == expected
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if same else "was changed: its checksum differs"


def _problem_of_image(root: Path, path: str, expected: str) -> str:
    """Return the problem of an image, or '' if the SHA-256 of its file is the `expected` one."""
    try:
        same = hashlib.sha256(read_bytes(root, path)).hexdigest() == expected
    except InvalidImage as invalid:
        return f"cannot be used any more: {invalid.reason}"
    return "" if same else "was changed since it was ingested: its checksum differs"


def strange_files(folder: Path) -> Iterator[str]:
    """Yield the problem of each file that is in no listing, and of each leftover of an interrupted run.

    Litter of file managers passes.
    """
    known = read_listing(folder)
    unfinished: set[str] = set()
    for name in store_files(folder):
        parents = [parent for parent in reversed((Path(name), *Path(name).parents)) if is_unfinished(parent.name)]
        if parents:
            unfinished.add(parents[0].as_posix())
        elif name not in known:
            yield f"{folder / name} belongs to nothing in this store"
    yield from (interrupted(folder / name) for name in sorted(unfinished))


def interrupted(path: Path) -> str:
    """Return the problem of a leftover of an interrupted run."""
    return f"{path} is left of an interrupted run; repeat its command, or delete it"


EXPORT, EVALUATION = "export", "evaluation"
KINDS = (pairs.KIND, card.KIND, EVALUATION, corpus_metadata.KIND, labels.KIND, EXPORT)
OURS = "distort-pipeline/"


@dataclass(frozen=True)
class VerifyReport:
    """The problems of a store, and the number of its files; an intact store has no problem."""

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()  # files missing or unlike their checksum

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        checked = ", ".join(f"{count} {unit}" for unit, count in sorted(self.counts.items())) or "nothing"
        problems = len(self.problems)
        verdict = f"{problems} problem{'s' if problems > 1 else ''}" if problems else "all as it was made"
        return f"{self.kind}: {verdict}; checked {checked}"


def verify(path: Path, *, root: Path | None = None, workers: Workers | None = None) -> VerifyReport:
    """Return the problems of a manifest, pair store, model, evaluation, corpus or export, or of a folder of stores.

    Every file is read; problems do not stop the check. PipelineError only if `path` holds no store or manifest of ours.
    `root` is the folder of a manifest's images, if they have moved.
    """
    workers = workers or Workers()
    if path.is_file() and _is_manifest(path):
        return _check_manifest(path, workers, root)
    if (path / "store.json").is_file():
        report = _check_store(path, workers)
        leftovers = [] if is_remote(path) else _leftovers(path.resolve().parent, glob.escape(path.resolve().name))
        return VerifyReport(report.kind, report.counts, (*report.problems, *leftovers), report.changed)
    if not path.exists():
        raise PipelineError(f"there is nothing at {path}")
    if not path.is_dir():
        raise PipelineError(f"`verify` cannot check {path}: give a manifest, or the output folder of a step")
    return _check_folder(path, workers)


def _check_store(folder: Path, workers: Workers) -> VerifyReport:
    """Return the report of the store in `folder`."""
    try:
        kind, metadata = _read_metadata(folder)
    except PipelineError as error:
        return VerifyReport("store", {}, (str(error),))
    problems = []
    if not is_sealed(metadata):
        problems.append("store.json was changed: its seal differs from the digest of its fields")
    elif (folder / "store.json").read_bytes() != json_bytes(metadata):
        problems.append("store.json was changed: its fields are not in canonical form")
    changed = changed_files(folder.resolve(), metadata["files"][LISTING], workers)
    problems += [f"{folder / name} {problem}" for name, problem in sorted(changed.items())]
    files = 2  # store.json and the listing
    if LISTING not in changed:
        files += len(read_listing(folder))
        problems += strange_files(folder)
    if kind == corpus_metadata.KIND:
        problems += _label_problems(folder, metadata, workers)
    return VerifyReport(kind, {"files": files}, tuple(problems), frozenset(changed))


def _read_metadata(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind and the metadata of a store; PipelineError without a known kind and the digest of the listing."""
    metadata = read_json(folder / "store.json")
    fields = metadata if isinstance(metadata, dict) else {}
    kind = str(fields.get("format")).removeprefix(OURS)
    if kind not in KINDS:
        raise PipelineError(f"{folder / 'store.json'} has a format unknown to `verify`: {fields.get('format')!r}")
    files = fields.get("files")
    if not (isinstance(files, dict) and isinstance(files.get(LISTING), str)):
        raise PipelineError(f"{folder / 'store.json'} names no checksums of files; make the store again")
    return kind, fields


def _label_problems(folder: Path, metadata: Mapping[str, Any], workers: Workers) -> list[str]:
    """Return the problems of labels added to a corpus."""
    problems = []
    for label in sorted((folder / labels.FOLDER).glob("[!.]*")):
        if is_litter(label.name):
            continue
        prefix = label.relative_to(folder)
        report = _check_store(label, workers)
        problems += [f"{prefix}: {problem}" for problem in report.problems]
        if not report.problems and read_json(label / "store.json").get("corpus_digest") != metadata.get("digest"):
            problems.append(f"{prefix}: it belongs to another corpus")
    return problems


def _check_manifest(path: Path, workers: Workers, root: Path | None = None) -> VerifyReport:
    """Return the report of the manifest at `path` and its image files."""
    try:
        manifest = read_manifest(path)
        data = path.read_bytes()
        relative_root = str(json.loads(data.partition(b"\n")[0])["root"])
        problems = []
        if data != manifest_bytes(manifest.records, relative_root, manifest.digest):
            problems.append(f"{path} was changed: it is not in the exact form written by ingest")
        changed = changed_images(manifest, root or manifest.root, workers)
    except WorkersError:
        raise
    except PipelineError as error:
        return VerifyReport("manifest", {}, (str(error),))
    problems += [f"{name} {problem}" for name, problem in changed.items()]
    return VerifyReport("manifest", {"images": len(manifest.records)}, tuple(problems))


def _check_folder(folder: Path, workers: Workers) -> VerifyReport:
    """Return the problems of all stores and manifests below `folder`, each with its path."""
    if is_remote(folder):
        raise PipelineError(f"{folder} has no store.json: the store is unfinished or missing")
    kinds: Counter[str] = Counter()
    problems: list[str] = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        manifests = [here / name for name in sorted(files) if name.endswith(".jsonl") and _is_manifest(here / name)]
        reports = {path: _check_manifest(path, workers) for path in manifests}
        problems += _leftovers(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            if (here / name / "store.json").is_file():  # also through a link, which os.walk does not follow
                reports[here / name] = _check_store(here / name, workers)
                folders.remove(name)
        for path, report in reports.items():
            kinds[report.kind] += 1
            problems += [f"{path.relative_to(folder)}: {problem}" for problem in report.problems]
    if not kinds:
        raise PipelineError(f"`verify` cannot check {folder}: no manifest, and no store.json of ours")
    return VerifyReport("folder", kinds, tuple(problems))


def _leftovers(parent: Path, pattern: str = "*") -> list[str]:
    """Return the problems of staging folders in `parent` of interrupted runs for stores of these names."""
    return [interrupted(work) for work in sorted(parent.glob(f".{pattern}.*.building"))]


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return is_manifest(file.readline())
    except (OSError, UnicodeDecodeError):
        return False


def say_problems(path: Path, problems: Iterable[str]) -> None:
    """Print the problems of the store at `path`."""
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)


@click.command(
    "verify",
    epilog=examples(
        "verify corpus",
        "verify pairs models/jpeg",
        "verify corpus --repair --manifest manifest.jsonl --models models",
        "verify corpus --against corpus-of-the-other-machine --tolerance 1",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=STORE_PATH)
@click.option("--repair", is_flag=True, help="Rebuild damaged shards only.")
@click.option("--manifest", type=PATH, help="Manifest for --repair.  [default: the store's own]")
@click.option("--root", type=PATH, help="New folder of the manifest's images, if moved.")
@click.option("--models", type=PATH, help="Models for --repair of a corpus.  [default: models, else pretrained]")
@click.option("--corpus", type=PATH, default="corpus", show_default=True, help="Corpus for --repair of an export.")
@click.option(
    "--external-pairs",
    multiple=True,
    metavar="NAME=PATH",
    help="External pairs for --repair of a pair store; repeatable.",
)
@click.option("--against", type=STORE_PATH, help="Corpus to compare with, pixel by pixel.")
@click.option(
    "--tolerance",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    help="Largest accepted pixel difference, in 8-bit levels.",
)
@click.option("--workers", type=click.IntRange(0), help=WORKERS_HELP)
@JSON
@scheduler_options
@click.pass_context
def verify_command(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    repair: bool,
    external_pairs: tuple[str, ...],
    against: Path | None,
    as_json: bool,
    tolerance: int,
    manifest: Path | None,
    models: Path | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    **inputs: Any,
) -> None:
    """Compare the files of stores with their checksums.

    PATHS are manifests, pair stores, models, corpora or exports.

    Prints missing or damaged files and exits with code 1 if there are any, with code 2 if a store cannot be checked or
    repaired. `--repair` rebuilds damaged shards.
    """
    from distort_pipeline.commands.compare import compare
    from distort_pipeline.commands.inputs import known_models, manifest_beside
    from distort_pipeline.commands.repair import Inputs, rebuilder
    from distort_pipeline.commands.repair import repair as repair_store

    pool = workers_of(workers or 0, scheduler, scheduler_file)
    external = named_paths(external_pairs)
    code, results = 0, []
    for path in paths:
        try:
            report = verify(path, root=inputs["root"], workers=pool)
            if repair and report.problems:
                say_problems(path, report.problems)
                inputs_of_store = Inputs(
                    **inputs,
                    manifest=manifest or manifest_beside(path),
                    models=known_models(models) if report.kind == "corpus" else {},
                    external=external,
                )
                report = repair_store(path, report, rebuilder(path, inputs_of_store, pool), workers=pool)
            problems = report.problems
            if against is not None:
                difference = compare(path, against, tolerance=tolerance, workers=pool)
                if not as_json:
                    click.echo(f"{path}: against {against}: {difference.summary}")
                problems += difference.problems
        except WorkersError:
            raise
        except PipelineError as error:  # of this store: the others are still checked
            click.echo(f"distort-pipeline: {error}", err=True)
            results.append({"path": path, "error": str(error)})
            code = EXIT_USER
            continue
        results.append({"path": path, "kind": report.kind, "counts": report.counts, "problems": problems})
        if not as_json:
            say_problems(path, problems)
            click.echo(f"{path}: {report.summary}")
        code = max(code, EXIT_BROKEN if problems else 0)
    if as_json:
        show_json(results)
    ctx.exit(code)
