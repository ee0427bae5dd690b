"""Pixels in Zarr v3: sharded arrays of tiles, and one array for each whole image; and tables of records in Parquet.

Pixels are read and written without Zarr's overhead: an event loop, and copies into new memory. The files are Zarr's
own. A shard has the layout "sharding_indexed" of the Zarr v3 specification: chunks, then an index (offset and size of
each chunk), then the CRC-32C of the index. For the gain see benchmarks/reading.py and crops.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from google_crc32c import value as crc32c
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncodingLike
from zarr.storage import MemoryStore

from distort_pipeline.data.files import write_parts
from distort_pipeline.data.remote import is_remote, network_errors, storage_options
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, Images, row

PIXELS = "pixels.zarr"
# one folder of files like c.0.3.0.0.0 for each array; with Zarr's slashes each file would be in four nested folders
CHUNK_KEYS: ChunkKeyEncodingLike = {"name": "default", "separator": "."}
METADATA = "zarr.json"
ZARR_FORMAT: Literal[3] = 3
# of an array opened rather than created, whose all-black shards would be missing; and the same bytes of metadata
# whatever ZARR_JSON_INDENT says
WRITING = {"array.write_empty_chunks": True, "json_indent": 2}
DIMENSIONS = ("level", "slot", "y", "x", "channel")
# zstd's checksum turns a flipped bit into an error; level 2 is as fast as level 1 and a quarter smaller, higher levels
# are slower: benchmarks/crops.py
CORPUS_ZSTD = 2
# pairs are read in every epoch of training: negative levels are half as large again, in a third of the time
PAIRS_ZSTD = -5
# raised by Zarr and its codecs when each part of a shard and of its metadata was damaged in turn
DAMAGE = (RuntimeError, ValueError, TypeError, KeyError, OSError)


def create_group(folder: Path) -> zarr.Group:
    """Return the new or existing group of pixels in `folder`, for writing."""
    zarr.config.set(WRITING)
    return _opened(folder, "a")


def open_group(folder: Path) -> zarr.Group:
    """Return the group of pixels in `folder`, for reading."""
    try:
        return _opened(folder, "r")
    except network_errors() as error:
        raise PipelineError(f"the object store does not give the pixels of {folder}: {error}") from None
    except DAMAGE as error:
        raise PipelineError(f"the pixels of {folder} are missing or damaged: {error}") from None


def _opened(folder: Path, mode: Literal["r", "a"]) -> zarr.Group:
    url = str(folder / PIXELS)
    options = storage_options(url) if is_remote(folder) else None
    return zarr.open_group(url, mode=mode, zarr_format=ZARR_FORMAT, storage_options=options)


def find_array(group: zarr.Group, name: str, folder: Path) -> Any:
    """Return the array `name` of a group of pixels in `folder`; PipelineError if missing or damaged."""
    try:
        return group[name]
    except DAMAGE as error:
        raise PipelineError(f"{folder} lacks its array {name}, or it is damaged: {error}") from None


def shard_files(folder: Path, array: Any, first: int, stop: int, axis: int = 0, level: int = 0) -> list[Path]:
    """Return the files of the elements `first` to `stop` of `array` along `axis`."""
    side = (array.shards or array.chunks)[axis]
    starts = range(first - first % side, stop, side)
    return [shard_file(folder, array, (start,) if axis == 0 else (level, start)) for start in starts]


def shard_file(folder: Path, array: Any, position: tuple[int, ...]) -> Path:
    """Return the file of the element of `array` at `position`, from the first axis on."""
    sides = array.shards or array.chunks
    padded = (*position, *(0 for _ in array.shape[len(position) :]))
    key = array.metadata.encode_chunk_key(tuple(index // side for index, side in zip(padded, sides, strict=True)))
    return folder / PIXELS / array.path / key


def create_tiles(
    group: zarr.Group, name: str, *, levels: int, slots: int, tile_px: int, per_shard: int, per_chunk: int
) -> None:
    """Create the array `name` (levels, slots, tile_px, tile_px, 3) of pairs unless present; a shard is of one level."""
    if name not in group:
        tile = (tile_px, tile_px, 3)
        _create(group, name, (levels, slots, *tile), shard=(1, per_shard, *tile), chunk=(1, per_chunk, *tile))


def create_samples(group: zarr.Group, name: str, *, slots: int, tile_px: int, per_shard: int, per_chunk: int) -> None:
    """Create the array `name` (slots, tile_px, tile_px, 3) of a corpus, or make a present one longer."""
    tile = (tile_px, tile_px, 3)
    if name not in group:
        _create(group, name, (slots, *tile), shard=(per_shard, *tile), chunk=(per_chunk, *tile))
        return
    present: Any = group[name]
    if present.shape[0] < slots:
        present.resize((slots, *tile))


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], *, shard: tuple[int, ...], chunk: tuple[int, ...]
) -> None:
    is_pairs = len(shape) == len(DIMENSIONS)
    group.create_array(
        name,
        shape=shape,
        shards=shard,
        chunks=chunk,
        dtype="uint8",
        compressors=ZstdCodec(level=PAIRS_ZSTD if is_pairs else CORPUS_ZSTD, checksum=True),
        fill_value=0,
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=DIMENSIONS[-len(shape) :],
        config={"write_empty_chunks": True},
    )


class PixelDigest:
    """The SHA-256 over the shapes and the bytes of decoded arrays, added in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, array: NDArray[np.uint8]) -> None:
        """Add an array."""
        self._sha.update(repr(array.shape).encode())
        self._sha.update(np.ascontiguousarray(array).data)

    def hexdigest(self) -> str:
        """Return the digest of all arrays added so far."""
        return self._sha.hexdigest()


def pixel_digest(arrays: Iterable[NDArray[np.uint8]]) -> str:
    """Return the SHA-256 over the shapes and the bytes of decoded `arrays`, in order."""
    pixels = PixelDigest()
    for array in arrays:
        pixels.add(array)
    return pixels.hexdigest()


INDEX_ENTRY = np.dtype([("offset", "<u8"), ("nbytes", "<u8")])
ABSENT = (2**64 - 1, 2**64 - 1)  # the entry of a chunk that is not in the shard
CRC_BYTES = 4
IMAGE_CHUNK = "c.0.0.0"  # of the array of a whole image, which has no other


def write_shard(folder: Path, array: Any, position: tuple[int, ...], tiles: Images) -> None:
    """Write one shard of `array`, atomically: `tiles` (n, tile_px, tile_px, 3) from `position` (slot, or level, slot).

    A last chunk is padded with zeros; chunks outside the array are left out.
    """
    slots = array.chunks[-4]
    codec = Zstd(_zstd_level(array), checksum=True)
    parts: list[bytes] = []
    index = np.full(array.shards[-4] // slots, np.array(ABSENT, INDEX_ENTRY))
    offset = 0
    for number in range(min(len(index), math.ceil((array.shape[-4] - position[-1]) / slots))):
        chunk = tiles[number * slots : (number + 1) * slots]
        if len(chunk) < slots:
            chunk = np.concatenate([chunk, np.zeros((slots - len(chunk), *tiles.shape[1:]), np.uint8)])
        parts.append(codec.encode(np.ascontiguousarray(chunk)))
        index[number] = (offset, len(parts[-1]))
        offset += len(parts[-1])
    end = index.tobytes()
    file = shard_file(folder, array, position)
    write_parts(file, [*parts, end, crc32c(end).to_bytes(CRC_BYTES, "little")], flush=False)


def _zstd_level(array: Any) -> int:
    return next(codec.level for codec in array.metadata.codecs[0].codecs if isinstance(codec, ZstdCodec))


class _Scratch(local):
    """Buffers of each thread, for compressed bytes and a chunk: allocation would take longer than reading."""

    def __init__(self) -> None:
        self.compressed = bytearray()
        self.tiles: Images | None = None


class TileArray:
    """The tiles of one array of a store in `folder`: (slots, tile_px, tile_px, 3), or with levels as the first axis.

    Threads may read concurrently: decompression releases the GIL. Only the wanted chunks are read, by ranges of their
    shards; the shards must not change meanwhile.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        codecs = array.metadata.codecs
        inner = codecs[0].codecs if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else ()
        if [type(codec) for codec in inner] != [BytesCodec, ZstdCodec]:
            raise PipelineError(f"{folder} holds {array.path} in a layout not written by this program")
        self._folder, self._array, self._codec = folder, array, Zstd(checksum=True)
        self._scratch = _Scratch()
        self.slots_per_chunk: int = array.chunks[-4]
        self.chunk_shape: tuple[int, ...] = array.chunks[-4:]  # (slots, tile_px, tile_px, 3)
        self._chunks_per_shard = array.shards[-4] // self.slots_per_chunk
        self._indices: dict[Path, NDArray[np.void]] = {}  # of the shards read so far: 16 bytes a chunk

    def __len__(self) -> int:
        return int(self._array.shape[-4])

    def read_chunk(self, number: int, *, level_index: int = 0, into: Images | None = None) -> Images:
        """Return chunk `number`, counted over all shards of a level; written to `into`, of `chunk_shape`, if given.

        PipelineError if the file is missing or damaged.
        """
        tiles = np.empty(self.chunk_shape, np.uint8) if into is None else into
        slot = number * self.slots_per_chunk
        path = shard_file(self._folder, self._array, (slot,) if self._array.ndim == 4 else (level_index, slot))
        try:
            self._codec.decode(self._compressed(path, number % self._chunks_per_shard), out=tiles)
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise PipelineError(f"the pixels in {path} are damaged: {error}") from None
        return tiles

    def read(self, slots: Sequence[int], *, level_index: int = 0, into: Images | None = None) -> Images:
        """Return the tiles at `slots` (n, tile_px, tile_px, 3), in that order; each chunk is read once."""
        wanted = np.asarray(slots, np.int64)
        tiles = np.empty((len(wanted), *self.chunk_shape[1:]), np.uint8) if into is None else into
        order = np.argsort(wanted, kind="stable")
        numbers = wanted[order] // self.slots_per_chunk
        for rows in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
            number, first = int(wanted[rows[0]]) // self.slots_per_chunk, int(rows[0])
            offsets = wanted[rows] - number * self.slots_per_chunk
            whole = np.arange(self.slots_per_chunk)
            if np.array_equal(offsets, whole) and np.array_equal(rows, first + whole):
                self.read_chunk(number, level_index=level_index, into=tiles[first : first + len(whole)])
                continue
            if self._scratch.tiles is None:
                self._scratch.tiles = np.empty(self.chunk_shape, np.uint8)
            chunk = self.read_chunk(number, level_index=level_index, into=self._scratch.tiles)
            for at, offset in zip(rows, offsets, strict=True):
                tiles[at] = chunk[offset]
        return tiles

    def _compressed(self, path: Path, position: int) -> memoryview:
        """Return the bytes of the chunk at `position` of a shard, valid until this thread's next call."""
        with path.open("rb", buffering=0) as file:
            if path not in self._indices:
                self._indices[path] = self._read_index(file)
            offset, size = (int(number) for number in self._indices[path][position])
            if (offset, size) == ABSENT:
                raise ValueError(f"its chunk {position} is missing")
            if len(self._scratch.compressed) < size:
                self._scratch.compressed = bytearray(size)
            chunk = memoryview(self._scratch.compressed)[:size]
            file.seek(offset)
            if file.readinto(chunk) != size:
                raise ValueError(f"its chunk {position} ends early")
            return chunk

    def _read_index(self, file: Any) -> NDArray[np.void]:
        index_bytes = self._chunks_per_shard * INDEX_ENTRY.itemsize
        file.seek(-index_bytes - CRC_BYTES, os.SEEK_END)
        read = file.read(index_bytes + CRC_BYTES)
        index, crc = read[:index_bytes], read[index_bytes:]
        if crc32c(index) != int.from_bytes(crc, "little"):
            raise ValueError("the checksum of its index is wrong")
        entries = np.frombuffer(index, INDEX_ENTRY)
        present = entries[entries["offset"] != ABSENT[0]]
        if present["nbytes"].max(initial=0) > np.prod(self.chunk_shape) * 2:
            raise ValueError("its index is no index of chunks")
        return entries


def write_image(folder: Path, name: str, image: NDArray[np.uint8], *, zstd: int = CORPUS_ZSTD) -> None:
    """Write one whole image (H, W, 3) as the array `name` of the pixels in `folder`, replacing an existing array.

    `zstd` is the level of Zstandard.
    """
    array_path = folder / PIXELS / name
    for parent in array_path.parents[: name.count("/")]:
        if not (parent / METADATA).is_file():
            write_parts(parent / METADATA, (group_metadata(),), flush=False)
    write_parts(array_path / METADATA, (_image_metadata(image.shape, zstd),), flush=False)
    compressed = Zstd(zstd, checksum=True).encode(np.ascontiguousarray(image))
    write_parts(array_path / IMAGE_CHUNK, (compressed,), flush=False)


def read_image(folder: Path, name: str) -> Image:
    """Return the whole image (H, W, 3) that `write_image` wrote; PipelineError if missing or damaged."""
    path = folder / PIXELS / name
    try:
        image = np.empty(json.loads((path / METADATA).read_bytes())["shape"], np.uint8)
        Zstd(checksum=True).decode((path / IMAGE_CHUNK).read_bytes(), out=image)
    except FileNotFoundError:
        raise PipelineError(f"the image in {path} is missing") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        raise PipelineError(f"the image in {path} is damaged: {error}") from None
    return image


@lru_cache
def _image_metadata(shape: tuple[int, ...], zstd: int) -> bytes:
    """Return Zarr's metadata of an array of one image of `shape`, whose only chunk is IMAGE_CHUNK."""
    files: dict[str, Buffer] = {}
    zarr.create_array(
        MemoryStore(files),
        shape=shape,
        chunks=shape,
        dtype="uint8",
        compressors=ZstdCodec(level=zstd, checksum=True),
        fill_value=0,
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=DIMENSIONS[2:],
        zarr_format=ZARR_FORMAT,
        config={"write_empty_chunks": True},
    )
    return files[METADATA].to_bytes()


@lru_cache
def group_metadata() -> bytes:
    """Return the bytes of the metadata file of a Zarr group."""
    files: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(files), zarr_format=ZARR_FORMAT)
    return files[METADATA].to_bytes()


ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


Record = TypeVar("Record")


def write_table(path: Path, records: Sequence[Any], kind: type[Any]) -> None:
    """Write `records` of the dataclass `kind` as one Parquet file, atomically."""
    table = pa.Table.from_pylist([row(record) for record in records], schema=schema_of(kind))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_parts(path, (buffer.getvalue(),), flush=False)


def read_table(paths: Sequence[Path], kind: type[Any]) -> pa.Table:
    """Return the rows of all `paths`, in order."""
    try:
        tables = [pq.read_table(pa.BufferReader(path.read_bytes()), schema=schema_of(kind)) for path in paths]
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PipelineError(f"a record file is missing or damaged: {error}") from None
    return pa.concat_tables(tables) if tables else schema_of(kind).empty_table()


def read_records(paths: Sequence[Path], kind: type[Record]) -> list[Record]:
    """Return the rows of all `paths` as records of the dataclass `kind`, in order."""
    table = read_table(paths, kind)
    try:
        return [kind(**values) for values in table.to_pylist()]
    except UnicodeDecodeError as error:
        raise PipelineError(f"a record file is damaged: {error}") from None


def schema_of(kind: type[Any]) -> pa.Schema:
    """Return the Arrow schema of a record dataclass."""
    hints = typing.get_type_hints(kind)
    fields = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        plain = next(a for a in typing.get_args(hint) if a is not type(None)) if optional else hint
        fields.append(pa.field(field.name, ARROW[plain], nullable=optional))
    return pa.schema(fields)
