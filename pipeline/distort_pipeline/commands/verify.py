"""verify: compares every file of a store, model, export or manifest with its checksum."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
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
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.files import (
    LABELS,
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
from distort_pipeline.data.manifests import is_manifest_file, manifest_bytes, read_manifest
from distort_pipeline.data.remote import is_remote
from distort_pipeline.data.sources import read_bytes
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.process import track

FILES_PER_TASK = 64
KINDS = ("pairs", "model", "evaluation", "corpus", "labels", "export")


@dataclass(frozen=True)
class VerifyReport:
    """The problems of a store, and the number of its files; an intact store has no problem."""

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()  # files missing or unlike their checksum, and folders of damaged labels

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
    if is_manifest_file(path):
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
    """Return the report of the store in `folder`; of a damaged listing, no other file: any may have changed."""
    header = folder / "store.json"
    try:
        metadata = read_json(header)
        kind, listing_digest = str(metadata["format"]).removeprefix("distort-pipeline/"), metadata["files"][LISTING]
    except PipelineError as error:
        return VerifyReport("store", problems=(str(error),))
    except (KeyError, TypeError):
        return VerifyReport("store", problems=(f"{header} names no format or no checksums; make the store again",))
    if kind not in KINDS:
        return VerifyReport("store", problems=(f"{header} has a format unknown to `verify`: {kind!r}",))
    problems = []
    if not is_sealed(metadata) or header.read_bytes() != json_bytes(metadata):
        problems.append("store.json was changed: it is not as it was sealed")
    changed = check_files([(LISTING, listing_digest)], folder)
    listing = {} if changed else read_listing(folder)
    if not changed:
        changed = _changed_files(folder.resolve(), listing.items(), workers)
        problems += _strange_files(folder, listing)
    problems += [f"{folder / name} {problem}" for name, problem in sorted(changed.items())]
    for label in sorted((folder / LABELS).glob("[!.]*")) if kind == "corpus" else ():
        if is_litter(label.name):
            continue
        damage = _check_store(label, workers).problems
        if not damage and read_json(label / "store.json").get("corpus_digest") != metadata.get("digest"):
            damage = ("it belongs to another corpus",)
        if damage:
            problems += [f"{LABELS}/{label.name}: {problem}" for problem in damage]
            changed[f"{LABELS}/{label.name}"] = "is damaged"
    return VerifyReport(kind, {"files": 2 + len(listing)}, tuple(problems), frozenset(changed))


def _strange_files(folder: Path, listing: Mapping[str, str]) -> Iterator[str]:
    """Yield the problem of each file outside the listing, and of each leftover of an interrupted run."""
    unfinished: set[str] = set()
    for name in store_files(folder):
        parents = [parent for parent in (*reversed(Path(name).parents), Path(name)) if is_unfinished(parent.name)]
        if parents:
            unfinished.add(parents[0].as_posix())
        elif name not in listing:
            yield f"{folder / name} belongs to nothing in this store"
    yield from (_interrupted(folder / name) for name in sorted(unfinished))


def _interrupted(path: Path) -> str:
    return f"{path} is left of an interrupted run; repeat its command, or delete it"


def _leftovers(parent: Path, pattern: str = "*") -> list[str]:
    """Return the problems of staging folders in `parent` of interrupted runs for stores of these names."""
    return [_interrupted(work) for work in sorted(parent.glob(f".{pattern}.*.building"))]


def _check_manifest(path: Path, workers: Workers, root: Path | None = None) -> VerifyReport:
    """Return the report of the manifest at `path` and its image files."""
    problems = []
    try:
        manifest = read_manifest(path)
        data = path.read_bytes()
        relative_root = str(json.loads(data.partition(b"\n")[0])["root"])
        if data != manifest_bytes(manifest.records, relative_root, manifest.digest):
            problems.append(f"{path} was changed: it is not in the exact form written by ingest")
        root = root or manifest.root
        if not root.is_dir():
            raise PipelineError(f"its images were not checked: {root} is no folder; name the new one with --root")
        digests = [(record.path, record.file_digest) for record in manifest.records]
        changed = _changed_files(root.resolve(), digests, workers, images=True)
    except WorkersError:
        raise
    except PipelineError as error:
        return VerifyReport("manifest", problems=(str(error),))
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
        reports = {
            path: _check_manifest(path, workers) for name in sorted(files) if is_manifest_file(path := here / name)
        }
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


def _changed_files(
    root: Path, digests: Iterable[tuple[str, str]], workers: Workers, *, images: bool = False
) -> dict[str, str]:
    """Return path → problem of each file below `root` that is missing or unlike its SHA-256."""
    listed = list(digests)
    tasks = [listed[start : start + FILES_PER_TASK] for start in range(0, len(listed), FILES_PER_TASK)]
    results = run_tasks(partial(check_files, root=root, images=images), tasks, workers)
    problems: dict[str, str] = {}
    for batch in track(results, total=len(tasks), label="verify", unit="batches"):
        problems |= batch
    return problems


def check_files(digests: Iterable[tuple[str, str]], root: Path, *, images: bool = False) -> dict[str, str]:
    """Return path → problem of each file below `root` that is unlike its SHA-256; `images` may be in archives."""
    problems = {}
    for name, expected in digests:
        try:
            found = hashlib.sha256(read_bytes(root, name)).hexdigest() if images else file_digest(root / name)
            if found != expected:
                since = " since it was ingested" if images else ""
                problems[name] = f"was changed{since}: its checksum differs"
        except InvalidImage as invalid:
            problems[name] = f"cannot be used any more: {invalid.reason}"
        except FileNotFoundError:
            problems[name] = "is missing"
        except OSError as error:
            problems[name] = f"cannot be read: {error.strerror or error}"
    return problems


def _say_problems(path: Path, problems: Iterable[str]) -> None:
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
    from distort_pipeline.commands.inputs import manifest_beside

    pool = workers_of(workers or 0, scheduler, scheduler_file)
    external = named_paths(external_pairs)
    code, results = 0, []
    for path in paths:
        try:
            report = verify(path, root=inputs["root"], workers=pool)
            if repair and report.problems:
                from distort_pipeline.commands import repair as repairs

                _say_problems(path, report.problems)
                own = repairs.Inputs(**inputs, manifest=manifest or manifest_beside(path), external=external)
                repairs.repair(path, report.kind, report.changed, repairs.rebuilder(path, own, pool))
                report = verify(path, workers=pool)
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
            _say_problems(path, problems)
            click.echo(f"{path}: {report.summary}")
        code = max(code, EXIT_BROKEN if problems else 0)
    if as_json:
        show_json(results)
    ctx.exit(code)
