"""Atomic files: written under a temporary name in the same folder, flushed to disk, then renamed."""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import types
import typing
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from distort_pipeline.data.remote import RemotePath, is_remote
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Json, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

Record = TypeVar("Record")

STORE, LISTING = "store.json", "files.json"
LABELS = "labels"  # folder of a corpus for its labels, each a store
UNLISTED = (STORE, "run.json", LABELS)  # labels are added to a finished corpus, with listings of their own
LITTER = {  # left in any folder by file managers, file systems and network disks
    *(".DS_Store", ".localized", ".Spotlight-V100", ".Trashes", ".fseventsd", ".TemporaryItems"),
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", "System Volume Information", "$RECYCLE.BIN"),
    *(".directory", "lost+found", "@eaDir", ".snapshot"),
}
LITTER_PREFIXES = ("._", ".Trash-", ".nfs", ".fuse_hidden")
LISTING_THREADS = 4
MADE_BY = {  # hints for missing stores
    "pairs": "; `distort-pipeline pairs` makes one",
    "corpus": "; `distort-pipeline generate` makes one",
    "model": "; `distort-pipeline train` makes one, and `distort-pipeline doctor` shows the pretrained generators",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, also in case of a kill."""
    write_parts(path, (data,))


def write_parts(path: Path, parts: Sequence[bytes], *, flush: bool = True) -> None:
    """Write the concatenated `parts` as `write_bytes` does.

    Without `flush`, a power cut (not a kill) can leave an empty file: only for files with digests.
    """
    if isinstance(path, RemotePath):
        try:
            path.write_bytes(b"".join(parts))
        except OSError as error:
            raise PipelineError(cannot_write(path, error)) from None
        return
    with atomic_file(path, flush=flush, make_folder=False) as partial, _new_file(partial) as file:
        file.writelines(parts)


@contextmanager
def atomic_file(path: Path, *, flush: bool = True, make_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` on success and deleted on failure; `flush` as in `write_parts`.

    PipelineError if the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if flush:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):  # the folder itself may be the fault
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PipelineError(cannot_write(path, error)) from None
        raise


def _new_file(path: Path) -> BinaryIO:
    """Return a new open file; its folder is created only if missing, as each check takes as long as a write."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.resolve().mkdir(parents=True, exist_ok=True)  # it may be a link to a missing folder
        return path.open("wb")


def cannot_write(path: Path, error: OSError) -> str:
    """Return the reason why `path` cannot be written, and a remedy for a full disk."""
    reason = f"cannot write {path}: {error.strerror or error or type(error).__name__}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # object stores have no such errors
        return reason
    return (
        f"{reason}; its disk has {free_bytes(path) / 1e9:.2f} GB free. Make room, and run the same "
        "command again: it continues from here, and says first how much space it still needs"
    )


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return the bytes of `value` as readable JSON; ValueError for NaN, not part of JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Return the JSON value at `path`; PipelineError if missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"there is no file {path}") from None
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise PipelineError(f"{path} is damaged: {error}") from None


def stored_metadata(folder: Path) -> dict[str, Json]:
    """Return the metadata in store.json of `folder`; empty without one; PipelineError if damaged."""
    metadata = read_json(folder / STORE) if (folder / STORE).is_file() else {}
    return metadata if isinstance(metadata, dict) else {}


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Return whether `metadata` are those of a store of this program."""
    return str(metadata.get("format")).startswith("distort-pipeline/")


def read_metadata(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """Return the metadata in store.json of `folder`; PipelineError for another kind or version."""
    path = folder / STORE
    if not path.is_file():
        unfinished = folder.is_dir() or any(folder.parent.glob(f".{folder.name}.*.building"))
        hint = "; the command was interrupted: run the same command again" if unfinished else MADE_BY.get(kind, "")
        raise PipelineError(f"{folder} holds no {kind} (there is no {path.name} in it){hint}")
    metadata = read_json(path)
    if not isinstance(metadata, dict) or metadata.get("format") != f"distort-pipeline/{kind}":
        raise PipelineError(f"{folder} is not a {kind}: {path.name} says {_field(metadata, 'format')}")
    if metadata.get("version") != version:
        raise PipelineError(
            f"{folder} is a {kind} of version {_field(metadata, 'version')}, and this program reads version {version}; "
            f"delete it and create it again with the same command"
        )
    return metadata


def _field(metadata: object, key: str) -> str:
    return repr(metadata.get(key)) if isinstance(metadata, dict) else "something else"


def from_json(kind: type[Record], value: object, path: Path) -> Record:
    """Return the JSON object `value` of the file `path` as the dataclass `kind`; fields unknown to it are left out.

    Fields are of str, int, float, bool, dataclasses, and tuples, mappings and optionals of these; PipelineError names
    a field that is missing or of another type.
    """
    record: Record = _typed(kind, value, f"{path}: ")
    return record


def _typed(hint: Any, value: Any, name: str) -> Any:
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any or (value is None and types.NoneType in arguments):
        return value
    if kind in (typing.Union, types.UnionType):
        return _typed(arguments[0], value, name)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _record(hint, value, name if name.endswith(": ") else f"{name}.")
    if kind in (tuple, Sequence) and isinstance(value, list):
        return tuple(_typed(arguments[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if kind is Mapping and isinstance(value, dict):
        return {key: _typed(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    # Python counts True among the whole numbers; JSON may write a float without its point
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise PipelineError(f"{name} is {value!r}, and no {getattr(kind, '__name__', kind)}")


def _record(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints, given = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            given[field.name] = _typed(hints[field.name], values[field.name], f"{prefix}{field.name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise PipelineError(f"{prefix}{field.name} is missing; is it a file of another version?")
    return kind(**given)


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def to_json(record: Any) -> dict[str, Json]:
    """Return the fields of a dataclass as JSON values, for `from_json`; optional fields that are None are left out."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) is not None or field.default is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def free_bytes(path: Path) -> int:
    """Return the number of free bytes on the disk of `path`; `path` may be missing."""
    resolved = path.resolve()
    existing = next(parent for parent in (resolved, *resolved.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Raise PipelineError unless the disk of `folder` has `needed_bytes` free; object stores always pass."""
    if is_remote(folder):
        return
    free = free_bytes(folder)
    if free < needed_bytes:
        raise PipelineError(
            f"{folder} needs about {needed_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or choose another folder with --out"
        )


def write_listing(folder: Path, known: Mapping[str, str], *, without: Sequence[str] = ()) -> dict[str, str]:
    """Write the SHA-256 of every file in `folder` to files.json, and return {"files.json": its SHA-256}.

    `known` are the digests of files from when they were written; the others are read.

    Omitted are store.json (written later), run.json (different in each run), labels (added afterwards), litter and the
    folders `without`.
    """
    names = store_files(folder, without)
    with ThreadPoolExecutor(LISTING_THREADS) as pool:  # hashlib releases the GIL
        digests = list(pool.map(lambda name: known.get(name) or file_digest(folder / name), names))
    write_json(folder / LISTING, dict(zip(names, digests, strict=True)))
    return {LISTING: file_digest(folder / LISTING)}


def store_files(folder: Path, without: Sequence[str] = ()) -> list[str]:
    """Return the paths of all files of a store that belong in its listing, sorted; `without` names further folders."""
    omitted = {LISTING, *UNLISTED, *without}
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [name.as_posix() for name in names if name.parts[0] not in omitted and not any(map(is_litter, name.parts))]


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name was left by a file manager or file system.

    >>> is_litter(".DS_Store"), is_litter("store.json")
    (True, False)
    """
    return name in LITTER or name.startswith(LITTER_PREFIXES)


def is_unfinished(name: str) -> bool:
    """Return whether a file or folder of this name belongs to unfinished work."""
    return name.startswith(".") and name.endswith((".building", ".partial", ".lease"))


def read_listing(folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of the files of a store; empty without a listing."""
    digests = read_json(folder / LISTING) if (folder / LISTING).is_file() else {}
    if not (isinstance(digests, dict) and all(isinstance(sha, str) for sha in digests.values())):
        raise PipelineError(f"{folder / LISTING} is damaged: it is no list of digests")
    return digests


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of `arrays`, sorted by name."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def sealed(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """Return `metadata` with `seal`, the digest of all other fields, for `verify`."""
    fields = {name: value for name, value in metadata.items() if name != "seal"}
    return {**fields, "seal": digest(fields)}


def is_sealed(metadata: object) -> bool:
    """Return whether `metadata` are as sealed, unchanged since."""
    try:
        return isinstance(metadata, dict) and metadata == sealed(metadata)
    except ValueError:  # NaN, or text that is not Unicode: never sealed
        return False


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> Path:
    """Write a CSV row by row, atomically, and return its path; None is an empty cell."""
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return path
