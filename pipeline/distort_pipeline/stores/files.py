"""Files that are whole or not there: written beside their place, flushed to disk, then moved in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import digest
from distort_pipeline.stores.remote import RemotePath

LISTING = "files.json"
UNLISTED = ("store.json", "run.json", "labels")  # labels come and go beside a finished corpus, and have ledgers
LISTING_THREADS = 4
MADE_BY = {  # where nothing is, what a user may want
    "pairs": "; `distort-pipeline pairs` makes one",
    "corpus": "; `distort-pipeline generate` makes one",
    "model": "; `distort-pipeline train` makes one, and `distort-pipeline doctor` says where the pretrained generators lie",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, also after a kill, sees all of it or nothing."""
    write_parts(path, (data,))


def write_parts(path: Path, parts: Sequence[bytes], *, flush: bool = True) -> None:
    """Write `parts`, one behind the other, as `write_bytes` does.

    Without `flush` a power cut can leave an empty file where a kill cannot: for what digests guard.
    """
    if isinstance(path, RemotePath):
        _write_object(path, b"".join(parts))
        return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with _new_file(partial) as file:
            file.writelines(parts)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may be what is wrong
            partial.unlink(missing_ok=True)
        raise PipelineError(cannot_write(path, error)) from None


def _new_file(path: Path) -> BinaryIO:
    """Return a new file, in a new folder where there is none: to look for one each time takes as long as to write."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _write_object(path: RemotePath, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise PipelineError(f"cannot write {path}: {error.strerror or error}") from None


def cannot_write(path: Path, error: OSError) -> str:
    """Return why nothing can be written at `path`, and what to do where it is for want of room."""
    said = f"cannot write {path}: {error.strerror or error or type(error).__name__}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or isinstance(path, RemotePath):
        return said
    return (
        f"{said}; its disk has {free_bytes(path) / 1e9:.2f} GB free. Make room, and run the same command again: it "
        "goes on where this one was, and says first how much it still needs"
    )


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return `value` as `write_json` writes it; ValueError for NaN, which is no JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Return the JSON at `path`, or raise PipelineError that says what is wrong with it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"there is no file {path}") from None
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PipelineError(f"{path} is damaged: {error}") from None


def read_metadata(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """Return the store.json of `folder`, checked to be of `kind` and `version`."""
    path = folder / "store.json"
    if not path.is_file():
        beside = () if isinstance(folder, RemotePath) else folder.parent.glob(f".{folder.name}.*.building")
        unfinished = folder.is_dir() or any(beside)
        hint = "; its making was interrupted: run the same command again" if unfinished else MADE_BY.get(kind, "")
        raise PipelineError(f"{folder} holds no {kind} (there is no {path.name} in it){hint}")
    metadata = read_json(path)
    if not isinstance(metadata, dict) or metadata.get("format") != f"distort-pipeline/{kind}":
        raise PipelineError(f"{folder} is not a {kind}: {path.name} says {_said(metadata, 'format')}")
    if metadata.get("version") != version:
        raise PipelineError(
            f"{folder} is a {kind} of version {_said(metadata, 'version')}, and this program reads version {version}; "
            f"delete it and make it anew with the command that made it"
        )
    return metadata


def _said(metadata: object, key: str) -> str:
    return repr(metadata.get(key)) if isinstance(metadata, dict) else "something else"


def free_bytes(path: Path) -> int:
    """Return how many bytes are free on the disk of `path`, which need not be there yet."""
    place = next(parent for parent in (path, *path.resolve().parents) if parent.exists())
    return shutil.disk_usage(place).free


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Raise PipelineError unless the disk of `folder` has room for `needed_bytes`; object stores always have."""
    if isinstance(folder, RemotePath):
        return
    free = free_bytes(folder)
    if free < needed_bytes:
        raise PipelineError(
            f"{folder} needs about {needed_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or name another place with --out"
        )


def write_listing(folder: Path, without: Sequence[str] = ()) -> dict[str, str]:
    """Write the SHA-256 of every file in `folder` into its files.json, and return that file's own, by its name.

    Not listed are what is written behind it (store.json), what no two runs have alike (run.json), what is added
    afterwards (labels), and the folders `without`.
    """
    left_out = {folder / name for name in (LISTING, *UNLISTED, *without)}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not left_out & {path, *path.parents}]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:  # hashlib lets go of Python's lock
        digests = list(pool.map(file_digest, paths))
    names = [path.relative_to(folder).as_posix() for path in paths]
    write_json(folder / LISTING, dict(zip(names, digests, strict=True)))
    return {LISTING: file_digest(folder / LISTING)}


def read_listing(folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of the files of a store; empty for stores that were made before there were listings."""
    found = read_json(folder / LISTING) if (folder / LISTING).is_file() else {}
    if not (isinstance(found, dict) and all(isinstance(digest, str) for digest in found.values())):
        raise PipelineError(f"{folder / LISTING} is damaged: it is no list of digests")
    return found


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return `header` with the digest of all its other fields, by which `verify` knows that none was changed."""
    fields = {name: value for name, value in metadata.items() if name != "seal"}
    return {**fields, "seal": digest(fields)}


class Ledger:
    """One small JSON file for each finished shard; a shard is finished when its file exists, written last.

    It is as little flushed to disk as the pixels that it speaks of: each flush would wait for all that others write,
    half a second on a busy disk. After a power cut, `verify` tells what is whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ledger"

    def note(self, name: str, entry: dict[str, Any]) -> None:
        """Say that the shard `name` is finished, with its counts and digests."""
        write_parts(self.folder / f"{name}.json", (json_bytes(entry),), flush=False)

    def finished(self, names: Iterable[str]) -> set[str]:
        """Return those of `names` that are finished; a file that a power cut left empty says nothing."""
        paths = self.folder.glob("*.json") if self.folder.is_dir() else ()
        return {path.stem for path in paths if path.stat().st_size}.intersection(names)

    def entries(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the entries of `names`, in that order; PipelineError if one is missing or damaged."""
        return [read_json(self.folder / f"{name}.json") for name in names]
