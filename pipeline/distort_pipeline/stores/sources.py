"""Where images come from: a folder, a zip or tar archive, a CSV or JSONL list, or an earlier manifest.

- *Folder*: everything below it, in the order of paths. An archive inside is walked as if it were a folder; its members
  are called `photos.zip/inner/a.png`. An archive given by itself is a folder that holds nothing else.
- *List*: CSV or JSONL, see `lists.py`; paths relative to the list's own folder. What a list names is taken, whatever
  its name; where it gives no split, ingest decides.
- *Manifest*: its rows keep their splits, licences and sources, and must still have their pixels.

In folders and archives a `SOURCES.csv` beside the images is such a list too, relative to itself: it says licence,
source and split of the images that it names, and adds none.

What is passed over in silence: hidden files, what DVC and operating systems leave behind, and files that clearly are
text or data (`ASIDE` below, and README, LICENSE and the like), and the stores of this program: a corpus made inside the
folder of photographs is no photograph. Every other file counts: it is accepted or rejected
with a reason. Links to folders, and archive members that are links or lead outside, are rejected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image
from distort_pipeline.records import Rejected
from distort_pipeline.stores.archives import MAX_FILE_BYTES, is_archive, open_archive
from distort_pipeline.stores.images import InvalidImage, decode, image_digest
from distort_pipeline.stores.lists import Entry, csv_rows, jsonl_rows, list_text
from distort_pipeline.stores.manifests import is_manifest, read_manifest

OURS = "distort-pipeline/"  # how the format of a store's header begins
TABLE_OF_SOURCES = "SOURCES.csv"
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini", "dvc.yaml", "dvc.lock")
ASIDE = (
    *(".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".ini", ".parquet", ".mat", ".npy", ".npz"),
    *(".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".py", ".log", ".md5", ".sha1", ".sha256"),
)
ASIDE_NAMES = ("readme", "license", "licence", "copying", "copyright", "notice", "authors", "changelog", "makefile")


@dataclass(frozen=True)
class Source:
    """A source that was looked through: where its paths start, what may be images, and what cannot be."""

    root: Path
    listed: tuple[Entry, ...]  # by path
    refused: tuple[Rejected, ...]

    def entries(self) -> list[Entry]:
        """Return every file that may be an image, ordered by path."""
        return list(self.listed)


def open_source(path: Path) -> Source:
    """Return what lies in the source at `path`; PipelineError if it is missing or no source at all."""
    if path.is_dir():
        if kind := _store_kind(path):
            raise PipelineError(f"{path} is a {kind} of this program, and no pristine images; give the photographs")
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

    InvalidImage if it leads out of the root, is missing, too large, or cannot be read.
    """
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise InvalidImage("its path leads out of the source; paths must be relative and without '..'")
    for depth, part in enumerate(parts[:-1], start=1):
        if is_archive(part) and (archive := root.joinpath(*parts[:depth])).is_file():
            return open_archive(archive).read("/".join(parts[depth:]))
    return _file_bytes(root.joinpath(*parts))


def read_image(root: Path, path: str, *, expected: str | None = None) -> Image:
    """Return exactly the pixels that ingest accepted for `path` under `root`, a row of a manifest.

    PipelineError if they cannot be had any more, or are not the ones with the image digest `expected`.
    """
    try:
        image, _ = decode(read_bytes(root, path))
    except InvalidImage as unusable:
        raise PipelineError(f"{path} under {root} is no use any more: {unusable.reason}; run ingest again") from None
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


def _walk(root: Path) -> Iterator[str | Rejected]:
    """Yield the path of each file below `root`, members of archives included, and what cannot be read."""
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(place)
        for name in sorted(folders):
            if not _is_litter(name) and (here / name).is_symlink():
                yield Rejected(_relative(here / name, root), "a link to a folder, not followed; give it as the source")
        folders[:] = sorted(name for name in folders if not _is_litter(name) and not _store_kind(here / name))
        for name in sorted(files):
            if _is_litter(name):
                continue
            if is_archive(name):
                yield from _members(here / name, _relative(here / name, root))
            else:
                yield _relative(here / name, root)
    for error in unreadable:
        yield Rejected(_relative(Path(error.filename), root), f"cannot be read: {error.strerror}")


def _members(archive: Path, name: str) -> Iterator[str | Rejected]:
    """Yield the path of each member of `archive`, whose own path is `name`, and what cannot be read."""
    try:
        opened = open_archive(archive)
    except InvalidImage as unusable:
        yield Rejected(name, unusable.reason)
        return
    for refused in opened.refused:
        yield Rejected(f"{name}/{refused.path}", refused.reason)
    for member in opened.members:
        if any(_is_litter(part) for part in PurePosixPath(member).parts):
            continue
        if is_archive(member):
            yield Rejected(f"{name}/{member}", "an archive inside an archive; unpack the outer one")
        else:
            yield f"{name}/{member}"


def _walked(root: Path, found: list[str | Rejected]) -> Source:
    """Return the source made of what was `found` below `root`, with licences and sources from its tables."""
    refused = [item for item in found if isinstance(item, Rejected)]
    paths = [item for item in found if isinstance(item, str)]
    said: dict[str, Entry] = {}
    for path in paths:
        if PurePosixPath(path).name == TABLE_OF_SOURCES:
            said.update(_table(root, path))
    entries = []
    for path in paths:
        if not _writable(path):
            refused.append(Rejected(path, "its name is not UTF-8; rename it"))
        elif not _is_aside(PurePosixPath(path).name):
            entries.append(said.get(path, Entry(path)))
    return _source(root, entries, refused)


def _table(root: Path, path: str) -> dict[str, Entry]:
    """Return what the SOURCES.csv at `path` says of each image, by the image's path."""
    try:
        text = read_bytes(root, path).decode("utf-8-sig")
    except (InvalidImage, UnicodeDecodeError) as error:
        raise PipelineError(f"{root / path} cannot be read: {error}") from None
    folder = PurePosixPath(path).parent
    rows = csv_rows(text, str(root / path))
    return {(folder / entry.path).as_posix(): replace(entry, path=(folder / entry.path).as_posix()) for entry in rows}


def _from_list(path: Path, entries: list[Entry]) -> Source:
    kept: dict[str, Entry] = {}
    refused = []
    for entry in entries:
        if entry.path in kept:
            refused.append(Rejected(entry.path, "listed twice"))
        else:
            kept[entry.path] = entry
    return _source(path.parent, list(kept.values()), refused)


def _from_manifest(path: Path) -> Source:
    manifest = read_manifest(path)
    if not manifest.root.is_dir():
        raise PipelineError(f"{path}, line 1: its root {manifest.root} is no folder; put the images there")
    entries = [Entry(row.path, row.licence, row.source, row.split, row.image_digest) for row in manifest.records]
    return _source(manifest.root, entries, [])


def _source(root: Path, entries: list[Entry], refused: list[Rejected]) -> Source:
    shown = (replace(row, path=row.path.encode("utf-8", "backslashreplace").decode()) for row in refused)
    return Source(
        root.resolve(),
        tuple(sorted(entries, key=lambda entry: entry.path)),
        tuple(sorted(shown, key=lambda row: row.path)),
    )


def _store_kind(folder: Path) -> str | None:
    """Return which kind of store of ours `folder` is, None for any other folder."""
    try:
        metadata = json.loads((folder / "store.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    said = metadata.get("format") if isinstance(metadata, dict) else None
    return said.removeprefix(OURS) if isinstance(said, str) and said.startswith(OURS) else None


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.endswith(".dvc") or name in LITTER


def _is_aside(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return path.suffix in ASIDE or (not path.suffix and path.stem.startswith(ASIDE_NAMES))


def _writable(path: str) -> bool:
    """Return whether `path` can stand in a manifest: file systems allow bytes that are no text."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
