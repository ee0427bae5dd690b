"""Files that are whole or not there: written beside their place, flushed to disk, then moved in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import digest


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, also after a kill, sees all of it or nothing."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may be what is wrong
            partial.unlink(missing_ok=True)
        raise PipelineError(f"cannot write {path}: {error.strerror or error}") from None


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


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


def read_header(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """Return the store.json of `folder`, checked to be of `kind` and `version`."""
    path = folder / "store.json"
    if not path.is_file():
        unfinished = folder.is_dir() or any(folder.parent.glob(f".{folder.name}.*.building"))
        hint = "; its making was interrupted: run the same command again" if unfinished else ""
        raise PipelineError(f"{folder} holds no {kind} (there is no {path.name} in it){hint}")
    header = read_json(path)
    if not isinstance(header, dict) or header.get("format") != f"distort-pipeline/{kind}":
        raise PipelineError(f"{folder} is not a {kind}: {path.name} says {_said(header, 'format')}")
    if header.get("version") != version:
        raise PipelineError(
            f"{folder} is a {kind} of version {_said(header, 'version')}; this program reads version {version}"
        )
    return header


def _said(header: object, key: str) -> str:
    return repr(header.get(key)) if isinstance(header, dict) else "something else"


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Raise PipelineError unless the disk of `folder` has room for `needed_bytes`."""
    place = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise PipelineError(
            f"{folder} needs about {needed_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or name another place with --out"
        )


@dataclass(frozen=True)
class Build:
    """A store in the making: work goes to a folder beside `out`, keyed by its settings, and is moved in when whole.

    So what stands at `out` is always complete, and what a kill leaves behind is found again by the same command and
    by no other. The folder is not inside `out`, because DVC empties a stage's outputs before it runs the stage.
    """

    out: Path
    key: str  # digest of everything that decides the store's bytes

    @property
    def work(self) -> Path:
        """The folder to work in."""
        out = self.out.resolve()  # workers may stand in another folder
        return out.parent / f".{out.name}.{self.key[:16]}.building"

    def complete(self) -> bool:
        """Return whether `out` already holds exactly this store; PipelineError if it holds something else."""
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return False
        path = self.out / "store.json"
        header = read_json(path) if path.is_file() else None
        if isinstance(header, dict) and header.get("key") == self.key:
            return True
        if not isinstance(header, dict) or not str(header.get("format")).startswith("distort-pipeline/"):
            raise PipelineError(f"{self.out} holds files that this program has not made; name another place with --out")
        raise PipelineError(
            f"{self.out} already exists and was made with other settings or inputs; "
            "name another place with --out, or delete it first"
        )

    def start(self) -> Path:
        """Return the work folder, made if need be."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(f"cannot write in {self.out.parent}: {error.strerror or error}") from None
        return self.work

    def publish(self, header: dict[str, Any], *, files: Iterable[str] = ()) -> None:
        """Write the header and move the finished work folder to `out`, without what killed writers left in it.

        `files` are patterns, relative to the folder, of files whose digests the header keeps for `verify`.
        """
        for leftover in self.work.rglob("*.partial"):
            leftover.unlink(missing_ok=True)
        kept = {"files": file_digests(self.work, files)} if files else {}
        write_json(self.work / "store.json", sealed({**header, **kept, "key": self.key}))
        if self.out.is_dir():
            self.out.rmdir()  # empty, or complete() would have refused
        self.work.rename(self.out)


def file_digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Return path → SHA-256 of the files below `folder` that match one of `patterns`."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def sealed(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return `header` with the digest of all its other fields, by which `verify` knows that none was changed."""
    fields = {name: value for name, value in header.items() if name != "seal"}
    return {**fields, "seal": digest(fields)}


class Ledger:
    """One small JSON file for each finished shard; a shard is finished when its file exists, written last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ledger"

    def note(self, name: str, entry: dict[str, Any]) -> None:
        """Say that the shard `name` is finished, with its counts and digests."""
        write_json(self.folder / f"{name}.json", entry)

    def finished(self, names: Iterable[str]) -> set[str]:
        """Return those of `names` that are finished."""
        there = {path.stem for path in self.folder.glob("*.json")} if self.folder.is_dir() else set()
        return there.intersection(names)

    def entries(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the entries of `names`, in that order; PipelineError if one is missing or damaged."""
        return [read_json(self.folder / f"{name}.json") for name in names]
