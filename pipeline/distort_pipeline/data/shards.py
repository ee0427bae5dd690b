"""Pixels read and written without Zarr's overhead: an event loop, and copies into new memory.

The files are Zarr's own. A shard has the layout "sharding_indexed" of the Zarr v3 specification: chunks, then an index
(offset and size of each chunk), then the CRC-32C of the index. For the gain see benchmarks/reading.py and crops.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec
from zarr.storage import MemoryStore

from distort_pipeline.data.arrays import CHUNK_KEYS, CORPUS_ZSTD, DIMENSIONS, METADATA, PIXELS, ZARR_FORMAT, shard_file
from distort_pipeline.data.files import write_parts
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, Images

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
            for row, offset in zip(rows, offsets, strict=True):
                tiles[row] = chunk[offset]
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
