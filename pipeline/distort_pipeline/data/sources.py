"""Sources of images: a folder, a zip or tar archive, a CSV or JSONL list, or an earlier manifest.

- *Folder*: all files below, sorted by path. An archive inside is walked like a folder; its members
  are called `photos.zip/inner/a.png`. An archive as the source is a folder with a single archive.
- *List*: CSV or JSONL, see `lists.py`; paths absolute or relative to the list's folder. Listed files are taken
  whatever their names; ingest decides missing splits.
- *Manifest*: rows keep their splits, licences and sources; changed pixels are rejected.

In folders and archives, `SOURCES.csv` beside the images is a list of licence, source and split of the named images,
with paths relative to its folder; its rows add no images. Backslashes, other capitals and decomposed letters in its
paths are understood, as long as a single file is meant; `unmatched` has the other rows.

Ignored silently are hidden files, files of DVC and operating systems, text and data files (`IGNORED_SUFFIXES` below,
README, LICENSE and the like). Stores of this program are passed over and counted. Every other file is accepted, or
rejected with a reason. Links to folders, and archive members with links or paths outside, are rejected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.images import decode, image_digest
from distort_pipeline.data.lists import (
    MAX_FILE_BYTES,
    Archive,
    Entry,
    common_root,
    csv_rows,
    is_archive,
    jsonl_rows,
    list_text,
    listed_path,
    open_archive,
    spelling,
)
from distort_pipeline.data.manifests import is_manifest, read_manifest
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, ImageRecord, Rejected

FORMAT_PREFIX = "distort-pipeline/"  # of the format in a store's metadata
TABLE_OF_SOURCES = "SOURCES.csv"
OWN_STORE = "a store of this program ({}), no photographs"
SYSTEM_FILES = ("__MACOSX", "Thumbs.db", "desktop.ini", "dvc.yaml", "dvc.lock")
IGNORED_SUFFIXES = (
    *(".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".ini", ".parquet", ".mat", ".npy", ".npz"),
    *(".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".py", ".log", ".md5", ".sha1", ".sha256"),
)
IGNORED_NAMES = ("readme", "license", "licence", "copying", "copyright", "notice", "authors", "changelog", "makefile")


@dataclass(frozen=True)
class Source:
    """A searched source: the root of its paths, candidate images, and rejected files."""

    root: Path
    listed: tuple[Entry, ...]  # sorted by path
    refused: tuple[Rejected, ...]
    passed_over: tuple[Rejected, ...] = ()  # stores of this program
    unmatched: tuple[Rejected, ...] = ()  # rows of SOURCES.csv without a file

    def entries(self) -> list[Entry]:
        """Return every candidate image, sorted by path."""
        return list(self.listed)


def open_source(path: Path) -> Source:
    """Return the contents of the source at `path`; PipelineError if missing or of an unknown kind."""
    if path.is_dir():
        if kind := next(filter(None, map(_store_kind, (path, *path.resolve().parents))), None):
            raise PipelineError(f"{path} is, or is in, {OWN_STORE.format(kind)}; give the photographs")
        return _walked(path, list(_walk(path)))
    if not path.is_file():
        raise PipelineError(f"there is no source {path}: give a folder, an archive, a CSV or JSONL list, or a manifest")
    if is_archive(path.name):
        return _walked(path.parent, list(_members(path, path.name)))
    if path.suffix.lower() == ".jsonl":
        text = list_text(path)
        if is_manifest(text.partition("\n")[0]):
            return _from_manifest(path)
        return _from_list(path, jsonl_rows(text, str(path)))
    if path.suffix.lower() == ".csv":
        return _from_list(path, csv_rows(list_text(path), str(path)))
    raise PipelineError(
        f"{path} is no source: give a folder, a zip or tar archive, a list named .csv or .jsonl, or a manifest"
    )


def read_bytes(root: Path, path: str) -> bytes:
    """Return the bytes of the file or archive member at `path` under `root`.

    InvalidImage if outside of the root, missing, too large or unreadable.
    """
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise InvalidImage("its path leads out of the source; paths must be relative and without '..'")
    for depth, part in enumerate(parts[:-1], start=1):
        if is_archive(part) and (archive := root.joinpath(*parts[:depth])).is_file():
            return open_archive(archive).read("/".join(parts[depth:]))
    return _file_bytes(root.joinpath(*parts))


def read_image(root: Path, path: str, *, expected: str | None = None) -> Image:
    """Return the pixels of the accepted image at `path` under `root`.

    PipelineError if unreadable, or if the image digest is not `expected`.
    """
    try:
        image, _ = decode(read_bytes(root, path))
    except InvalidImage as invalid:
        raise PipelineError(
            f"{path} under {root} cannot be used any more: {invalid.reason}; run ingest again, or name the new folder "
            "of images that moved with --root"
        ) from None
    if expected is not None and image_digest(image) != expected:
        raise PipelineError(f"{path} under {root} has other pixels than when it was ingested; run ingest again")
    return image


def _file_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise InvalidImage("there is no such file")
        if not path.is_file():
            raise InvalidImage("not a plain file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidImage(f"its file is too large: more than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InvalidImage(f"cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class _Store(Rejected):
    """A folder with a store of this program."""


def _walk(root: Path) -> Iterator[str | Rejected]:
    """Yield the path of each file below `root`, including archive members; rejected paths, and stores."""
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        for name in sorted(folders):
            if not _is_system_file(name) and (here / name).is_symlink():
                yield Rejected(_relative(here / name, root), "a link to a folder, not followed; give it as the source")
        folders[:] = sorted(name for name in folders if not _is_system_file(name))
        for name in list(folders):
            if kind := _store_kind(here / name):
                folders.remove(name)
                yield _Store(_relative(here / name, root), OWN_STORE.format(kind))
        for name in sorted(files):
            if _is_system_file(name):
                continue
            if is_archive(name):
                yield from _members(here / name, _relative(here / name, root))
            else:
                yield _relative(here / name, root)
    for error in unreadable:
        yield Rejected(_relative(Path(error.filename), root), f"cannot be read: {error.strerror}")


def _members(archive: Path, name: str) -> Iterator[str | Rejected]:
    """Yield the path of each member of `archive`, below the path `name`, and rejected members."""
    try:
        opened = open_archive(archive)
    except InvalidImage as invalid:
        yield Rejected(name, invalid.reason)
        return
    for rejected in opened.refused:
        yield Rejected(f"{name}/{rejected.path}", rejected.reason)
    stores = {}
    for member in opened.members:
        if PurePosixPath(member).name == "store.json" and (kind := _kind_in(opened, member)):
            stores[PurePosixPath(member).parent] = kind
            yield _Store((PurePosixPath(name) / PurePosixPath(member).parent).as_posix(), OWN_STORE.format(kind))
    for member in opened.members:
        if not stores.keys().isdisjoint(PurePosixPath(member).parents):
            continue
        if any(_is_system_file(part) for part in PurePosixPath(member).parts):
            continue
        if is_archive(member):
            yield Rejected(f"{name}/{member}", "an archive inside an archive; unpack the outer one")
        else:
            yield f"{name}/{member}"


def _walked(root: Path, items: list[str | Rejected]) -> Source:
    """Return the source of the `items` below `root`, with licences and sources from SOURCES.csv."""
    refused = [item for item in items if isinstance(item, Rejected) and not isinstance(item, _Store)]
    paths = [item for item in items if isinstance(item, str)]
    listed: dict[str, Entry] = {}
    unmatched: list[Rejected] = []
    for path in paths:
        if PurePosixPath(path).name.casefold() == TABLE_OF_SOURCES.casefold():
            matched, without_file = _matched(_table(root, path), paths)
            listed.update(matched)
            unmatched += [Rejected(row, f"a row of {path}, but no file") for row in without_file]
    entries = []
    for path in paths:
        if not _is_text(path):
            refused.append(Rejected(path, "its name is not UTF-8; rename it"))
        elif not _is_ignored(PurePosixPath(path).name):
            entries.append(listed.get(path, Entry(path)))
    stores = tuple(item for item in items if isinstance(item, _Store))
    return replace(_source(root, entries, refused), passed_over=stores, unmatched=tuple(unmatched))


def _table(root: Path, path: str) -> list[Entry]:
    """Return the entries of the SOURCES.csv at `path`."""
    try:
        text = read_bytes(root, path).decode("utf-8-sig")
    except (InvalidImage, UnicodeDecodeError) as error:
        raise PipelineError(f"{root / path} cannot be read: {error}") from None
    folder = PurePosixPath(path).parent
    rows = csv_rows(text, str(root / path))
    return [replace(entry, path=(folder / entry.path).as_posix()) for entry in rows]


def _matched(rows: Iterable[Entry], paths: Iterable[str]) -> tuple[dict[str, Entry], list[str]]:
    """Return the rows by the path of their file, and the paths of rows without a single file."""
    by_spelling: dict[str, list[str]] = {}
    present = set(paths)
    for path in sorted(present):
        by_spelling.setdefault(spelling(path), []).append(path)
    entries, without_file = {}, []
    for row in rows:
        meant = [row.path] if row.path in present else by_spelling.get(spelling(row.path), [])
        if len(meant) == 1:
            entries[meant[0]] = replace(row, path=meant[0])
        else:
            without_file.append(row.path)
    return entries, without_file


def _from_list(path: Path, entries: list[Entry]) -> Source:
    root, paths = common_root(path.parent, [listed_path(path.parent, entry.path) for entry in entries])
    unique: dict[str, Entry] = {}
    refused = []
    for entry in (replace(entry, path=entry_path) for entry, entry_path in zip(entries, paths, strict=True)):
        if entry.path in unique:
            refused.append(Rejected(entry.path, "listed twice"))
        else:
            unique[entry.path] = entry
    return _source(root, list(unique.values()), refused)


def _from_manifest(path: Path) -> Source:
    manifest = read_manifest(path)
    if not manifest.root.is_dir():
        raise PipelineError(f"{path}, line 1: its root {manifest.root} is no folder; put the images there")
    entries = [Entry(row.path, row.licence, row.source, row.split, row.image_digest) for row in manifest.records]
    return _source(manifest.root, entries, [])


def _source(root: Path, entries: list[Entry], refused: list[Rejected]) -> Source:
    printable = (replace(row, path=row.path.encode("utf-8", "backslashreplace").decode()) for row in refused)
    return Source(
        root.resolve(),
        tuple(sorted(entries, key=lambda entry: entry.path)),
        tuple(sorted(printable, key=lambda row: row.path)),
    )


def _store_kind(folder: Path) -> str | None:
    """Return the kind of store in `folder`, or None for other folders."""
    try:
        return _kind_of((folder / "store.json").read_bytes())
    except OSError:
        return None


def _kind_of(store_json: bytes) -> str | None:
    """Return the kind of a store by its metadata, or None for other JSON."""
    try:
        metadata = json.loads(store_json)
    except (ValueError, RecursionError):
        return None
    name = metadata.get("format") if isinstance(metadata, dict) else None
    return name.removeprefix(FORMAT_PREFIX) if isinstance(name, str) and name.startswith(FORMAT_PREFIX) else None


def _kind_in(archive: Archive, member: str) -> str | None:
    """Return the kind of store with its store.json at `member`, or None."""
    try:
        return _kind_of(archive.read(member))
    except InvalidImage:
        return None


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_system_file(name: str) -> bool:
    return name.startswith(".") or name.endswith(".dvc") or name in SYSTEM_FILES


def _is_ignored(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return path.suffix in IGNORED_SUFFIXES or (not path.suffix and path.stem.startswith(IGNORED_NAMES))


def _is_text(path: str) -> bool:
    """Return whether `path` is valid UTF-8; file systems allow arbitrary bytes."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


IMAGES_IN_MEMORY = 2  # neighbouring shards share one image


def require_images(root: Path) -> None:
    """Raise PipelineError if `root`, the folder of a manifest's images, is gone."""
    if not root.is_dir():
        raise PipelineError(
            f"there is no folder {root} of images; name the new folder of images that moved with --root"
        )


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def read_ingested(root: Path, record: ImageRecord) -> Image:
    """Return the image of a manifest's row, read-only; PipelineError if its pixels changed since ingest."""
    image = read_image(root, record.path, expected=record.image_digest)
    image.setflags(write=False)
    return image
