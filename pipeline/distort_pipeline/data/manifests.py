"""Manifests: paths and digests of images, without pixels. JSON Lines: metadata, then one ImageRecord for each line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from distort_pipeline.data.files import write_bytes, write_csv
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord, Rejected, canonical, digest_rows, row

REJECTED_COLUMNS = ("path", "reason")
FORMAT = "distort-pipeline/manifest"
VERSION = 2
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Manifest:
    """The accepted images, sorted by path, and the root of the paths."""

    records: tuple[ImageRecord, ...]
    root: Path
    digest: str  # digest_rows of the records, independent of the location


def write_manifest(path: Path, records: Sequence[ImageRecord], root: Path) -> str:
    """Return the digest of `records` after writing them, sorted by path, to the manifest at `path`, atomically.

    The root is written relative to the manifest, so that both can move together.
    """
    ordered = sorted(records, key=lambda record: record.path)
    relative = Path(os.path.relpath(root.resolve(), path.parent.resolve())).as_posix()
    digest = digest_rows(ordered)
    write_bytes(path, manifest_bytes(ordered, relative, digest))
    return digest


def manifest_bytes(records: Sequence[ImageRecord], relative_root: str, digest: str) -> bytes:
    """Return the bytes of a manifest file."""
    metadata = {"format": FORMAT, "version": VERSION, "root": relative_root, "digest": digest}
    lines = [json.dumps(metadata), *(canonical(row(record)) for record in records)]
    return "".join(f"{line}\n" for line in lines).encode()


def read_manifest(path: Path) -> Manifest:
    """Return the manifest at `path`; PipelineError names the damaged or changed line, or another version."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise PipelineError(f"there is no manifest {path}; `distort-pipeline ingest` makes one") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not a manifest: it is not UTF-8 text") from None
    except OSError as error:
        raise PipelineError(f"the manifest {path} cannot be read: {error.strerror}") from None
    metadata = _metadata(lines[0], path)
    records = [_record(line, path, number) for number, line in enumerate(lines[1:], start=2)]
    seen: dict[str, int] = {}
    for number, record in enumerate(records, start=2):
        if record.id in seen:
            raise _damaged(path, number, f"id {record.id!r} is already in line {seen[record.id]}")
        seen[record.id] = number
    if digest_rows(records) != metadata["digest"]:
        raise PipelineError(
            f"{path}, line 1: the rows do not match the digest: some were changed, added or lost; "
            "make it again with `distort-pipeline ingest`, or give your changes as a CSV list to ingest"
        )
    return Manifest(tuple(records), _root(path, metadata["root"]), metadata["digest"])


def _root(path: Path, relative: str) -> Path:
    """Return the root of the images: beside the manifest at `path`, or, if `path` is a link, beside its target."""
    roots = [(folder / relative).resolve() for folder in (path.parent, path.resolve().parent)]
    return next((root for root in roots if root.is_dir()), roots[0])


def is_manifest(first_line: str) -> bool:
    """Return whether a file with this first line is a manifest of any version.

    >>> is_manifest('{"format": "distort-pipeline/manifest", "version": 99}'), is_manifest('{"path": "a.png"}')
    (True, False)
    """
    try:
        metadata = json.loads(first_line)
    except ValueError:
        return False
    return isinstance(metadata, dict) and metadata.get("format") == FORMAT


def is_manifest_file(path: Path) -> bool:
    """Return whether there is a manifest of any version at `path`, a name that ends in .jsonl."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return is_manifest(file.readline())


def is_rejected(first_line: str) -> bool:
    """Return whether a file with this first line is a CSV of rejected files."""
    return first_line.rstrip("\n") == ",".join(REJECTED_COLUMNS)


def write_rejected(path: Path, rows: Sequence[Rejected]) -> None:
    """Write the rejected files with reasons as the CSV at `path`, atomically."""
    write_csv(path, REJECTED_COLUMNS, ((rejected.path, rejected.reason) for rejected in rows))


def _metadata(line: str, path: Path) -> dict[str, str]:
    if not is_manifest(line):
        raise PipelineError(f"{path}, line 1: no metadata of a manifest; `distort-pipeline ingest` makes manifests")
    metadata = json.loads(line)
    if metadata.get("version") != VERSION:
        raise PipelineError(
            f"{path}, line 1: manifest version {metadata.get('version')!r}, but this program reads {VERSION}; "
            "make it again with `distort-pipeline ingest`"
        )
    fields = {"format", "version", "root", "digest"}
    if set(metadata) != fields or not all(isinstance(metadata[name], str) for name in ("root", "digest")):
        raise _damaged(path, 1, f"the metadata must have {', '.join(sorted(fields))} and nothing else")
    if PurePosixPath(metadata["root"]).is_absolute():
        raise _damaged(path, 1, "root must be relative to the manifest")
    return metadata


def _record(line: str, path: Path, number: int) -> ImageRecord:
    try:
        values = json.loads(line)
    except ValueError:
        raise _damaged(path, number, "not a line of JSON") from None
    kinds = typing.get_type_hints(ImageRecord)
    names = [field.name for field in dataclasses.fields(ImageRecord)]
    if not isinstance(values, dict):
        raise _damaged(path, number, "not a mapping")
    for name in values:
        if name not in names:
            raise _damaged(path, number, f"unknown field {name!r}")
    for name in names:
        if type(values.get(name)) is not kinds[name]:
            raise _damaged(path, number, f"{name} must be present, as {kinds[name].__name__}")
    if any("\ud800" <= letter <= "\udfff" for letter in canonical(values)):
        raise _damaged(path, number, "text that is not Unicode")
    if values["split"] not in SPLITS:
        raise _damaged(path, number, f"split must be one of {', '.join(SPLITS)}, got {values['split']!r}")
    return ImageRecord(**values)


def _damaged(path: Path, number: int, fault: str) -> PipelineError:
    return PipelineError(f"{path}, line {number}: {fault}; make the manifest again with `distort-pipeline ingest`")


ATTRIBUTIONS = "attributions.csv"


@dataclass(frozen=True)
class Attribution:
    """Licence and source of one photograph."""

    image: str  # ImageRecord.id
    licence: str
    source: str  # origin, in the words of the list or folder that came with the photograph
    image_digest: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Attribution))


def attributions_of(images: Iterable[ImageRecord]) -> list[Attribution]:
    """Return the attributions of `images`, sorted by id."""
    attributions = [Attribution(image.id, image.licence, image.source, image.image_digest) for image in images]
    return sorted(attributions, key=lambda attribution: attribution.image)


def write_attributions(path: Path, attributions: Iterable[Attribution]) -> None:
    """Write the CSV of `attributions`, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(dataclasses.astuple(attribution) for attribution in attributions)
    write_bytes(path, text.getvalue().encode())  # perhaps in an object store


def read_attributions(path: Path) -> list[Attribution]:
    """Return the attributions at `path`; PipelineError if missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [Attribution(**row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise PipelineError(f"{path} is missing or damaged: {error}") from None
