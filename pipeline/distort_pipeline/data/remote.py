"""Paths in object stores, with the interface of pathlib as far as needed; `as_path` returns either kind of path.

Object stores have no folders, no renaming and no partial objects: writes are atomic, and so is the creation of an
object that must not exist yet, on which leases rest. Failures are raised as OSError, like failures of disks, after the
retries set here. Credentials, region and endpoint come from the environment or the configuration files of each store.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, total_ordering
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Json

SCHEMES = {  # fsspec's file systems with atomic creation, and the package of each
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "az"), "adlfs"),
    "memory": "fsspec",
}
ATTEMPTS = 6  # of each request: about half a minute with the waits in between
CONNECT_SECONDS, READ_SECONDS = 10, 30  # timeouts of an attempt


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, or a RemotePath for s3://bucket/name, gs://…, abfs://…; PipelineError for others.

    >>> as_path("corpus"), str(as_path("s3://bucket/corpus") / "store.json")
    (PosixPath('corpus'), 's3://bucket/corpus/store.json')
    """
    if isinstance(path, RemotePath):
        return cast(Path, path)
    text = os.fspath(path)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES:
        raise PipelineError(f"{text}: stores lie in folders, or in object stores at {', '.join(SCHEMES)}://")
    return cast(Path, RemotePath(text))


def is_remote(path: object) -> bool:
    """Return whether a path is in an object store: no folders, renaming, hard links or free space there."""
    return isinstance(path, RemotePath)


def storage_options(url: str) -> dict[str, Json]:
    """Return the options of requests: no cached listings, and for S3 limited retries."""
    if not url.startswith("s3"):
        return {"use_listings_cache": False}
    return {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
        },
    }


ERRORS = {  # of requests, by module
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


def network_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions of requests besides OSError; empty without an object store."""
    loaded = ((sys.modules[module], names) for module, names in ERRORS.items() if module in sys.modules)
    return tuple(getattr(module, name) for module, names in loaded for name in names)


@contextmanager
def requests_to(url: str) -> Iterator[None]:
    """Raise failures of requests as OSError with `url`."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", url) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "there is such an object already", url) from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, _message(error), url) from error
    except network_errors() as error:
        raise OSError(errno.EIO, _message(error), url) from error


def _message(error: BaseException) -> str:
    return f"the object store failed {ATTEMPTS} times: {str(error) or type(error).__name__}"


@lru_cache
def _system(scheme: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(scheme, **storage_options(scheme))
    except ImportError:
        raise PipelineError(f"{scheme}:// needs {SCHEMES[scheme]}: pip install {SCHEMES[scheme]}") from None


@total_ordering
class RemotePath:
    """An object, or the prefix of all objects below."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @property
    def _system(self) -> Any:
        return _system(self.url.partition(":")[0])

    def _path_of(self, name: str) -> RemotePath:
        """Return the path of an object, by its name without the scheme."""
        return RemotePath(f"{self.url.partition(':')[0]}://{name.lstrip('/')}")

    def __reduce__(self) -> tuple[type[RemotePath], tuple[str]]:
        return RemotePath, (self.url,)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __hash__(self) -> int:
        return hash(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The enclosing prefix."""
        return RemotePath(self.url.rpartition("/")[0])

    @property
    def parents(self) -> list[RemotePath]:
        """All enclosing prefixes, from the nearest up to the bucket."""
        parents, parent = [], self.parent
        while parent.url.count("/") >= 2:
            parents.append(parent)
            parent = parent.parent
        return parents

    def with_name(self, name: str) -> RemotePath:
        """Return the sibling called `name`."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """Return the sibling with another suffix."""
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        """Return the path relative to the enclosing prefix `other`."""
        return PurePosixPath(self.url.removeprefix(other.url + "/"))

    def resolve(self) -> RemotePath:
        """Return this path, always absolute."""
        return self

    def exists(self) -> bool:
        """Return whether an object of this name or below exists."""
        with requests_to(self.url):
            return bool(self._system.exists(self.url))

    def is_file(self) -> bool:
        """Return whether an object of this exact name exists."""
        with requests_to(self.url):
            return bool(self._system.isfile(self.url))

    def is_dir(self) -> bool:
        """Return whether objects exist below this name."""
        with requests_to(self.url):
            return bool(self._system.isdir(self.url))

    def stat(self) -> os.stat_result:
        """Return size and modification time (by the object store's clock); other fields are 0."""
        with requests_to(self.url):
            info = self._system.info(self.url)
            written = 0 if info["type"] == "directory" else self._modified(info).timestamp()
        return os.stat_result((0, 0, 0, 0, 0, 0, info["size"], written, written, written))

    def _modified(self, info: Mapping[str, Any]) -> datetime:
        return cast(datetime, info.get("LastModified") or self._system.modified(self.url))

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the objects and prefixes directly below."""
        with requests_to(self.url):
            try:
                names = self._system.ls(self.url, detail=False)
            except FileNotFoundError:
                names = []
        yield from (path for path in map(self._path_of, sorted(names)) if path != self)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the direct children with names matching `pattern` (without slashes)."""
        yield from (path for path in self.iterdir() if fnmatch.fnmatch(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield all objects below with names matching `pattern`."""
        with requests_to(self.url):
            names = self._system.find(self.url)
        yield from (path for path in map(self._path_of, names) if fnmatch.fnmatch(path.name, pattern))

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Return the complete object as an open file; with `buffering=0`, each read is a request of its range."""
        if mode == "rb" and options.get("buffering") == 0:
            return cast(IO[Any], _Ranges(self.url))
        if mode == "rb":
            return io.BytesIO(self.read_bytes())
        return io.StringIO(self.read_text(options.get("encoding", "utf-8")), options.get("newline", "\n"))

    def read_bytes(self) -> bytes:
        """Return the bytes of the object."""
        with requests_to(self.url):
            return bytes(self._system.cat_file(self.url))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the text of the object."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Write the object, atomically."""
        with requests_to(self.url):
            self._system.pipe_file(self.url, data)

    def create(self, data: bytes) -> bool:
        """Write the object unless it exists, atomically among all writers; return whether it is this writer's."""
        try:
            with requests_to(self.url):
                self._system.pipe_file(self.url, data, mode="create")
        except FileExistsError:
            try:
                return self.read_bytes() == data  # a request that was sent again may have been answered by the first
            except FileNotFoundError:
                return False  # another writer's, who has deleted it since
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no such object", self.url)
        with requests_to(self.url):
            self._system.rm_file(self.url)

    def mkdir(self, **_: Any) -> None:
        """Return None: object stores have no folders."""


class _Ranges(io.RawIOBase):
    """An object read by ranges; its size is never requested."""

    def __init__(self, url: str) -> None:
        self._url, self._start = url, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`, counted from the start, or backwards from the end; the next read says where that is."""
        assert (whence == os.SEEK_SET) == (offset >= 0)
        self._start = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; return the number of bytes read."""
        stop = self._start + len(buffer)
        with requests_to(self._url):
            data = _system(self._url.partition(":")[0]).cat_file(self._url, start=self._start, end=stop or None)
        buffer[: len(data)] = data
        self._start = stop
        return len(data)
