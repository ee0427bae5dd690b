"""Zip and tar archives, read like folders; nothing is ever extracted to a named file.

Members of a zip or a plain tar are read in place. A compressed tar has no random access: while open, its contents are
unpacked in a nameless temporary file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from distort_pipeline.records import Rejected
from distort_pipeline.stores.containers import InvalidImage

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
