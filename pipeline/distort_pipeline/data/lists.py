"""Where images are listed: archives, read like folders, and lists as CSV or JSON Lines.

Nothing is ever extracted to a named file: members of a zip or a plain tar are read in place; a compressed tar has no
random access, and while open, its contents are unpacked in a nameless temporary file.

A list of images has the column `path` or `file`; optional are `licence` or `license`, `source` and `split` (train, val
or test). A missing `source` is joined from `package`, `version` and `author`. Every list is read by the same rules:
headings in any case, spaces around cells removed, other columns and empty cells ignored, and paths as in `listed_path`.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import math
import os
import stat
import tarfile
import tempfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.manifests import SPLITS
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import Rejected

MAX_FILE_BYTES = 2**30  # of one file or member: 170 megapixels of 16-bit RGB still fit without compression
MAX_UNPACKED_BYTES = 64 * 2**30  # of one compressed tar, on the temporary disk
MAX_EXPANSION = 200  # uncompressed photographs pack to a tenth at best, a zip bomb to a thousandth
FREE_EXPANSION_BYTES = 16 * 2**20  # for flat synthetic images
OPEN_ARCHIVES = 16  # open at the same time

UNPACKERS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
SUFFIXES = (".zip", ".tar", *UNPACKERS)

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # an encrypted member, or a zip's rarer compressions
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)

_opening = threading.Lock()  # so that two threads do not unpack one archive twice


class Archive(Protocol):
    """One open archive: `members`, all plain files, with their bytes; and members `refused`, with reasons."""

    members: tuple[str, ...]
    refused: tuple[Rejected, ...]

    def read(self, member: str) -> bytes:
        """Return the bytes of a member; InvalidImage if unreadable."""


def is_archive(name: str) -> bool:
    """Return whether a file called `name` is walked like a folder.

    >>> is_archive("photos.ZIP"), is_archive("photos.tar.gz"), is_archive("photo.gz")
    (True, True, False)
    """
    return name.lower().endswith(SUFFIXES)


def open_archive(path: Path) -> Archive:
    """Return the archive at `path`, kept open for the next call; InvalidImage if damaged or no archive."""
    try:
        status = path.stat()
        with _opening:
            return _open(path, status.st_mtime_ns, status.st_size)
    except DAMAGE as error:
        raise InvalidImage(f"not a readable archive: {str(error) or type(error).__name__}") from None


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open(path: Path, _mtime_ns: int, _size: int) -> Archive:  # a changed file is opened again
    if path.name.lower().endswith(".zip"):
        return _Zip(path)
    return _Tar(_plain_tar(path))


class _Zip:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._lock = threading.Lock()
        self._infos: dict[str, zipfile.ZipInfo] = {}
        refused = []
        for info in self._zip.infolist():
            if info.is_dir():
                continue
            reason = _unsafe(info.filename) or ("a link" if stat.S_ISLNK(info.external_attr >> 16) else None)
            if reason:
                refused.append(Rejected(info.filename, reason))
            else:
                self._infos[_normalized(info.filename)] = info  # the later of two of one name, as in unpacking
        self.members = tuple(sorted(self._infos))
        self.refused = tuple(refused)

    def read(self, member: str) -> bytes:
        if member not in self._infos:
            raise InvalidImage("there is no such member in the archive")
        info = self._infos[member]
        _require_reasonable_size(info.file_size, info.compress_size)  # zipfile reads no more than the stated size
        try:
            with self._lock:
                return self._zip.read(info)
        except DAMAGE as error:
            raise InvalidImage(f"cannot be unpacked: {str(error) or type(error).__name__}") from None


class _Tar:
    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - stays open with the archive
        self._lock = threading.Lock()
        self._infos: dict[str, tarfile.TarInfo] = {}
        refused = []
        for info in self._tar.getmembers():
            if info.isdir():
                continue
            reason = _unsafe(info.name) or (None if info.isfile() else "a link or a device")
            if reason:
                refused.append(Rejected(info.name, reason))
            else:
                self._infos[_normalized(info.name)] = info
        self.members = tuple(sorted(self._infos))
        self.refused = tuple(refused)

    def read(self, member: str) -> bytes:
        if member not in self._infos:
            raise InvalidImage("there is no such member in the archive")
        info = self._infos[member]
        _require_reasonable_size(info.size, info.size)
        try:
            with self._lock:
                file = self._tar.extractfile(info)
                assert file is not None  # a plain file, see above
                return file.read()
        except DAMAGE as error:
            raise InvalidImage(f"cannot be unpacked: {str(error) or type(error).__name__}") from None


def _plain_tar(path: Path) -> IO[bytes]:
    """Return the tar at `path` as an uncompressed, seekable file."""
    unpacker = next((opener for suffix, opener in UNPACKERS.items() if path.name.lower().endswith(suffix)), None)
    if unpacker is None:
        return path.open("rb")
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - stays open with the archive
    limit = _max_unpacked(path.stat().st_size)
    with unpacker(path, "rb") as packed:
        while block := packed.read(2**20):
            if spool.tell() > MAX_UNPACKED_BYTES:
                raise ValueError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes; unpack it into a folder")
            if spool.tell() > limit:
                raise ValueError(f"unpacks to more than {MAX_EXPANSION} times its size, as no photographs do")
            spool.write(block)
    spool.seek(0)
    return spool


def _unsafe(name: str) -> str | None:
    path = PurePosixPath(name)
    return "its name leads out of the archive" if path.is_absolute() or ".." in path.parts else None


def _normalized(name: str) -> str:
    """Return a member's name without tar's leading './'."""
    return PurePosixPath(name).as_posix()


def _require_reasonable_size(size: int, packed: int) -> None:
    if size > MAX_FILE_BYTES:
        raise InvalidImage(f"its file is too large: {size} bytes, at most {MAX_FILE_BYTES}")
    if size > _max_unpacked(packed):
        raise InvalidImage(f"unpacks to more than {MAX_EXPANSION} times its size, as no photograph does")


def _max_unpacked(packed: int) -> int:
    return max(MAX_EXPANSION * packed, FREE_EXPANSION_BYTES)


DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Entry:
    """One file, possibly an image, with its fields in a list, table or manifest."""

    path: str  # relative to the source's root, POSIX
    licence: str | None = None
    source: str | None = None
    split: str | None = None
    image_digest: str | None = None  # expected digest of the pixels


@dataclass(frozen=True)
class Row:
    """A row of a list: heading in lower case → value, and its place for errors."""

    cells: Mapping[str, object]
    where: str

    def text(self, *names: str) -> str | None:
        """Return the first non-empty cell among `names`, without spaces around; PipelineError if not text."""
        for name in names:
            value = self.cells.get(name)
            if value is not None and not isinstance(value, str):
                raise PipelineError(f"{self.where}: {name} must be text, got {value!r}")
            if value and any("\ud800" <= letter <= "\udfff" for letter in value):  # surrogates, possible in JSON
                raise PipelineError(f"{self.where}: {name} is not Unicode text: {value!r}")
            if value and value.strip():
                return value.strip()
        return None

    def number(self, name: str) -> float | None:
        """Return the number in the cell `name`, whole if it is, or None."""
        try:
            value = float(str(self.cells.get(name)))
        except ValueError:
            return None
        return int(value) if value.is_integer() else value if math.isfinite(value) else None


def list_text(path: Path) -> str:
    """Return the text of the list at `path`; PipelineError if unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None


def csv_table(text: str, where: str, *columns: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV with a heading; PipelineError if the heading has all of none of the sets `columns`.

    Cells are separated by commas, or by semicolons or tabs, as spreadsheets of some languages write them.
    """
    for delimiter in DELIMITERS:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            headings = [name.strip().lower() for name in next(table, [])]
            if any(set(names) <= set(headings) for names in columns):
                return [_row(headings, cells, f"{where}, line {table.line_num}") for cells in table if any(cells)]
        except csv.Error as error:
            raise PipelineError(f"{where}, line {table.line_num}: not a CSV table: {error}") from None
    needed = ", or ".join(" and ".join(names) for names in columns)
    headings = next(csv.reader(io.StringIO(text, newline="")), [])
    present = ", ".join(name.strip().lower() for name in headings) or "none"
    raise PipelineError(f"{where}, line 1: there must be columns {needed}; columns are: {present}")


def _row(headings: Sequence[str], cells: Sequence[str], where: str) -> Row:
    """Return the cells of a row by heading; PipelineError for text beyond the headings, as after an unquoted comma."""
    if any(cell.strip() for cell in cells[len(headings) :]):
        raise PipelineError(
            f"{where}: {len(cells)} cells for {len(headings)} headings; put quotation marks around a cell with a comma"
        )
    return Row(dict(zip(headings, cells, strict=False)), where)


def jsonl_table(text: str, where: str) -> list[Row]:
    """Return the rows of a table in JSON Lines."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError:
            raise PipelineError(f"{where}, line {number}: not a line of JSON") from None
        if not isinstance(cells, dict):
            raise PipelineError(f"{where}, line {number}: not a mapping of columns to values")
        rows.append(Row({name.strip().lower(): value for name, value in cells.items()}, f"{where}, line {number}"))
    return rows


def list_table(path: Path, *columns: Sequence[str]) -> list[Row]:
    """Return the rows of the list at `path`, by its suffix JSON Lines or else CSV."""
    text = list_text(path)
    return jsonl_table(text, str(path)) if path.suffix.lower() == ".jsonl" else csv_table(text, str(path), *columns)


def csv_rows(text: str, where: str) -> list[Entry]:
    """Return the images in a CSV with a heading; `where` names the table in errors."""
    return [_entry(row) for row in csv_table(text, where, ["path"], ["file"])]


def jsonl_rows(text: str, where: str) -> list[Entry]:
    """Return the images in a table in JSON Lines; `where` names the table in errors."""
    return [_entry(row) for row in jsonl_table(text, where)]


def listed_path(folder: Path, text: str) -> str:
    """Return the POSIX path of a file named in a list in `folder`.

    Backslashes separate folders, as in Windows, and letters may be capitals or decomposed, unless a file has the name
    as typed.
    """
    slashed = PurePosixPath(text.replace("\\", "/"))
    path = PurePosixPath()
    try:
        if os.path.lexists(folder / text):
            return PurePosixPath(text).as_posix()
        for part in slashed.parts:
            parent, name = folder / path, part
            if not os.path.lexists(parent / part) and parent.is_dir():
                (name,) = (item.name for item in parent.iterdir() if spelling(item.name) == spelling(part))
            path /= name
    except (OSError, ValueError):  # no such name, or several
        return slashed.as_posix()
    return path.as_posix()


def spelling(path: str) -> str:
    """Return `path` without differences between file systems: separators, letter case, composition of letters.

    >>> spelling(".\\\\Sub\\\\Cafe\u0301.PNG") == spelling("sub/caf\u00e9.png")
    True
    """
    return PurePosixPath(unicodedata.normalize("NFC", path.replace("\\", "/")).casefold()).as_posix()


def common_root(folder: Path, paths: Sequence[str]) -> tuple[Path, list[str]]:
    """Return a folder above all files of a list in `folder`, and their paths below this root.

    Paths are relative to `folder`, may begin with '..', or are absolute. The root is `folder` if no path leads out.
    """
    plain = [PurePosixPath(path) for path in paths]
    if not any(path.is_absolute() or ".." in path.parts for path in plain):
        return folder, list(paths)
    files = [resolved((folder / path).parent) / path.name for path in plain]
    root = resolved(folder)
    if not all(file.is_relative_to(root) for file in files):
        root = Path(os.path.commonpath([file.parent for file in files]))
        while any(is_archive(part) for part in root.parts):  # members are named from outside their archive
            root = root.parent
    return root, [file.relative_to(root).as_posix() for file in files]


def resolved(path: Path) -> Path:
    """Return `path` without links and '..'; names that no file can have stay."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()


def _entry(row: Row) -> Entry:
    path, split = row.text("path", "file"), row.text("split")
    if path is None:
        raise PipelineError(f"{row.where}: path or file is empty")
    if split is not None and split not in SPLITS:
        raise PipelineError(f"{row.where}: no split is called {split!r}{did_you_mean(split, SPLITS)}")
    source = row.text("source") or "; ".join(filter(None, map(row.text, ("package", "version", "author")))) or None
    return Entry(PurePosixPath(path).as_posix(), row.text("licence", "license"), source, split)
