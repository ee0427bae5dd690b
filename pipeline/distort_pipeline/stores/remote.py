"""Places in object stores, for the code that otherwise works on folders: `place_of` gives a path for either.

A `RemotePath` answers what the stores ask of a path, and nothing else. Object stores have no folders, no renaming and
no half-written objects: what is written is there whole or not at all. Failures arrive as OSError, as those of disks
do, after the retries that are set here. Credentials, region and endpoint are found as every AWS tool finds them: in
the environment, or in its files.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, total_ordering
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from distort_pipeline.errors import PipelineError

SCHEMES = ("s3://",)
ATTEMPTS = 6  # of each request; with the waits in between that bridges half a minute
CONNECT_SECONDS, READ_SECONDS = 10, 30  # after which an attempt counts as failed


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, or a RemotePath if `path` says s3://bucket/name.

    >>> place_of("corpus"), str(place_of("s3://bucket/corpus") / "store.json")
    (PosixPath('corpus'), 's3://bucket/corpus/store.json')
    """
    if isinstance(path, RemotePath):
        return cast(Path, path)
    text = os.fspath(path)
    return cast(Path, RemotePath(text)) if text.startswith(SCHEMES) else Path(text)


def storage_options() -> dict[str, Any]:
    """Return how requests are made: retried within limits, and never answered from a listing of before."""
    return {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
        },
    }


def network_errors() -> tuple[type[BaseException], ...]:
    """Return what requests raise besides OSError; nothing where no object store is in use."""
    if "botocore" not in sys.modules:
        return ()
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn what requests raise into OSError that names `url`."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", url) from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, _said(error), url) from error
    except network_errors() as error:
        raise OSError(errno.EIO, _said(error), url) from error


def _said(error: BaseException) -> str:
    return f"the object store failed {ATTEMPTS} times: {str(error) or type(error).__name__}"


@lru_cache(maxsize=1)
def _system() -> Any:
    try:
        import s3fs
    except ImportError:
        raise PipelineError("s3:// needs s3fs: pip install 'distort-pipeline[s3]'") from None
    return s3fs.S3FileSystem(**storage_options())


@total_ordering
class RemotePath:
    """An object, or all objects whose names begin with this one and a slash."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

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
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """What this lies in."""
        return RemotePath(self.url.rpartition("/")[0])

    @property
    def parents(self) -> list[RemotePath]:
        """All that this lies in, from the nearest up to the bucket."""
        found, place = [], self.parent
        while place.url.count("/") >= 2:
            found.append(place)
            place = place.parent
        return found

    def with_name(self, name: str) -> RemotePath:
        """Return the neighbour called `name`."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """Return the neighbour whose name ends in `suffix` instead."""
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        """Return the path from `other`, which this lies in."""
        return PurePosixPath(self.url.removeprefix(other.url + "/"))

    def resolve(self) -> RemotePath:
        """Return this: it is absolute."""
        return self

    def exists(self) -> bool:
        """Return whether there is an object of this name or below it."""
        with answering(self.url):
            return bool(_system().exists(self.url))

    def is_file(self) -> bool:
        """Return whether there is an object of this very name."""
        with answering(self.url):
            return bool(_system().isfile(self.url))

    def is_dir(self) -> bool:
        """Return whether there are objects below this name."""
        with answering(self.url):
            return bool(_system().isdir(self.url))

    def stat(self) -> os.stat_result:
        """Return size and time of writing, the latter by the clock of the object store; the rest is 0."""
        with answering(self.url):
            found = _system().info(self.url)
        written = found["LastModified"].timestamp() if "LastModified" in found else 0
        return os.stat_result((0, 0, 0, 0, 0, 0, found["size"], written, written, written))

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies directly in this."""
        with answering(self.url):
            try:
                names = _system().ls(self.url, detail=False)
            except FileNotFoundError:
                names = []
        yield from (RemotePath(f"s3://{name}") for name in sorted(names) if f"s3://{name}" != self.url)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield what lies directly in this and has a name like `pattern`, without slashes."""
        yield from (path for path in self.iterdir() if fnmatch.fnmatch(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield all objects below this that have a name like `pattern`."""
        with answering(self.url):
            names = _system().find(self.url)
        yield from (
            path for path in (RemotePath(f"s3://{name}") for name in names) if fnmatch.fnmatch(path.name, pattern)
        )

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Return the object, read whole, as an open file."""
        if mode == "rb":
            return io.BytesIO(self.read_bytes())
        return io.StringIO(self.read_text(options.get("encoding", "utf-8")), options.get("newline", "\n"))

    def read_bytes(self) -> bytes:
        """Return the object."""
        with answering(self.url):
            return bytes(_system().cat_file(self.url))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Write the object, whole or not at all."""
        with answering(self.url):
            _system().pipe_file(self.url, data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no such object", self.url)
        with answering(self.url):
            _system().rm_file(self.url)

    def mkdir(self, **_: Any) -> None:
        """Do nothing: there are no folders to make."""
