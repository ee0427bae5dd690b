"""Pixels in Zarr v3: sharded arrays of tiles, and one array for each whole image.

Pairs are written and read without Zarr's overhead, an event loop and copies into new memory; for the cost see
benchmarks/crops.py and pairs.py. The layout is "sharding_indexed" of the Zarr v3 specification: chunks, then an index
(offset and size of each chunk), then the CRC-32C of the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import Any, Literal

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncodingLike
from zarr.storage import MemoryStore

from distort_pipeline.data.files import write_parts
from distort_pipeline.data.remote import RemotePath, network_errors, storage_options
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Images

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
    if isinstance(folder, RemotePath):
        return zarr.open_group(
            str(folder / PIXELS), mode=mode, zarr_format=ZARR_FORMAT, storage_options=storage_options()
        )
    return zarr.open_group(folder / PIXELS, mode=mode, zarr_format=ZARR_FORMAT)


def find_array(group: zarr.Group, name: str, folder: Path) -> Any:
    """Return the array `name` of a group of pixels in `folder`; PipelineError if missing or damaged."""
    try:
        return group[name]
    except DAMAGE as error:
        raise PipelineError(f"{folder} lacks its array {name}, or it is damaged: {error}") from None


def read_pixels(array: Any, selection: Any = ..., files: Sequence[Path] = ()) -> NDArray[np.uint8]:
    """Return the decoded pixels of `array` at `selection`, stored in `files`.

    PipelineError if a file is missing (Zarr reads missing files as zeros) or has a wrong checksum.
    """
    for file in files:
        if not (file.is_file() and file.stat().st_size):
            raise PipelineError(f"{file} is missing or empty, its pixels would all be black")
    try:
        return np.asarray(array[selection])
    except network_errors() as error:
        raise PipelineError(f"the object store does not give the pixels of the array {array.path}: {error}") from None
    except DAMAGE as error:
        where = f" in {', '.join(map(str, files))}" if files else ""
        raise PipelineError(f"pixels of the array {array.path} are damaged{where}: {error}") from None


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
    """Create the array `name` (levels, slots, tile_px, tile_px, 3) unless present; each shard holds one level."""
    if name in group:
        return
    group.create_array(
        name,
        shape=(levels, slots, tile_px, tile_px, 3),
        shards=(1, per_shard, tile_px, tile_px, 3),
        chunks=(1, per_chunk, tile_px, tile_px, 3),
        dtype="uint8",
        compressors=ZstdCodec(level=PAIRS_ZSTD, checksum=True),
        fill_value=0,
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=DIMENSIONS,
        config={"write_empty_chunks": True},  # all-black shards are written as well
    )


def create_samples(group: zarr.Group, name: str, *, slots: int, tile_px: int, per_shard: int, per_chunk: int) -> None:
    """Create the array `name` (slots, tile_px, tile_px, 3), or make a present one longer."""
    if name in group:
        present: Any = group[name]
        if present.shape[0] < slots:
            present.resize((slots, tile_px, tile_px, 3))
        return
    group.create_array(
        name,
        shape=(slots, tile_px, tile_px, 3),
        shards=(per_shard, tile_px, tile_px, 3),
        chunks=(per_chunk, tile_px, tile_px, 3),
        dtype="uint8",
        compressors=ZstdCodec(level=CORPUS_ZSTD, checksum=True),
        fill_value=0,
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=DIMENSIONS[1:],
        config={"write_empty_chunks": True},
    )


def write_samples(folder: Path, array: Any, first: int, images: NDArray[np.uint8]) -> None:
    """Write `images` (n, H, W, 3) to the slots of `array` from `first` on: whole shards.

    Existing files, perhaps cut short by a power cut, are deleted: Zarr would read the last shard of an array first.
    """
    if not isinstance(folder, RemotePath):
        for file in shard_files(folder, array, first, first + len(images)):
            file.unlink(missing_ok=True)
    array[first : first + len(images)] = images


def write_image(folder: Path, name: str, image: NDArray[np.uint8], *, zstd: int = CORPUS_ZSTD) -> None:
    """Write one whole image (H, W, 3) as the array `name` of the pixels in `folder`, replacing an existing array.

    `zstd` is the level of Zstandard. The files equal Zarr's, written without its event loop, slower than compression.
    """
    array_path = folder / PIXELS / name
    for parent in array_path.parents[: name.count("/")]:
        if not (parent / METADATA).is_file():
            write_parts(parent / METADATA, (group_metadata(),), flush=False)
    metadata, key = _image_metadata(image.shape, zstd)
    write_parts(array_path / METADATA, (metadata,), flush=False)
    compressed = Zstd(zstd, checksum=True).encode(np.ascontiguousarray(image))
    write_parts(array_path / key, (compressed,), flush=False)


@lru_cache
def _image_metadata(shape: tuple[int, ...], zstd: int) -> tuple[bytes, str]:
    """Return Zarr's metadata of an array of one image of `shape`, and the path of its only chunk."""
    files: dict[str, Buffer] = {}
    array = zarr.create_array(
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
    return files[METADATA].to_bytes(), array.metadata.encode_chunk_key((0,) * len(shape))


@lru_cache
def group_metadata() -> bytes:
    """Return the bytes of the metadata file of a Zarr group."""
    files: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(files), zarr_format=ZARR_FORMAT)
    return files[METADATA].to_bytes()


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
CRC_BYTES = 4


def write_shard(folder: Path, array: Any, level: int, first_slot: int, tiles: Images) -> None:
    """Write one shard of the pairs' `array` (levels, slots, tile_px, tile_px, 3), atomically.

    `tiles` (n, tile_px, tile_px, 3) begin at `first_slot`, n at most a shard's slots, padded with zeros. Zarr would
    write the same chunks in another order.
    """
    slots = array.chunks[1]
    codec = Zstd(PAIRS_ZSTD, checksum=True)
    parts, index = [], np.zeros(array.shards[1] // slots, INDEX_ENTRY)
    offset = 0
    for number in range(len(index)):
        chunk = tiles[number * slots : (number + 1) * slots]
        if len(chunk) < slots:
            chunk = np.concatenate([chunk, np.zeros((slots - len(chunk), *tiles.shape[1:]), np.uint8)])
        parts.append(codec.encode(np.ascontiguousarray(chunk)))
        index[number] = (offset, len(parts[-1]))
        offset += len(parts[-1])
    end = index.tobytes()
    file = shard_file(folder, array, (level, first_slot))
    write_parts(file, [*parts, end, crc32c(end).to_bytes(CRC_BYTES, "little")], flush=False)


class _Scratch(local):
    """A buffer of each thread for compressed bytes: allocation would take longer than reading."""

    def __init__(self) -> None:
        self.buffer = bytearray()


class InnerChunks:
    """The inner chunks of one array (levels, slots, tile_px, tile_px, 3) of a store in `folder`.

    Threads may read concurrently: decompression releases the GIL.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        codecs = array.metadata.codecs
        inner = codecs[0].codecs if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else ()
        if [type(codec) for codec in inner] != [BytesCodec, ZstdCodec]:
            raise PipelineError(f"{folder} holds {array.path} in a layout not written by this program")
        self._folder, self._array, self._codec = folder, array, Zstd(checksum=True)
        self._scratch = _Scratch()
        self.slots: int = array.chunks[1]  # per chunk
        self.shape: tuple[int, ...] = array.chunks[1:]  # (slots, tile_px, tile_px, 3)

    def read(self, level_index: int, number: int, into: Images | None = None) -> Images:
        """Return chunk `number` of a level, counted over all shards; written to `into`, of `shape`, if given.

        PipelineError if the file is missing or damaged.
        """
        tiles = np.empty(self.shape, np.uint8) if into is None else into
        path = shard_file(self._folder, self._array, (level_index, number * self.slots))
        try:
            self._codec.decode(self._compressed(path, number % self._per_shard), out=tiles)
        except (OSError, ValueError, RuntimeError) as error:
            raise PipelineError(f"{path} is missing or damaged: {error}") from None
        return tiles

    @property
    def _per_shard(self) -> int:
        return int(self._array.shards[1] // self.slots)

    def _compressed(self, path: Path, position: int) -> memoryview:
        """Return the bytes of the chunk at `position` of a shard, valid until this thread's next call."""
        index_bytes = self._per_shard * INDEX_ENTRY.itemsize
        with path.open("rb", buffering=0) as file:
            end = file.seek(0, 2)
            file.seek(end - index_bytes - CRC_BYTES)
            read = file.read(index_bytes + CRC_BYTES)
            index, crc = read[:index_bytes], read[index_bytes:]
            if crc32c(index) != int.from_bytes(crc, "little"):
                raise ValueError("the checksum of its index is wrong")
            offset, size = (int(number) for number in np.frombuffer(index, INDEX_ENTRY)[position])
            if offset + size > end:
                raise ValueError(f"its chunk {position} is missing")
            if len(self._scratch.buffer) < size:
                self._scratch.buffer = bytearray(size)
            chunk = memoryview(self._scratch.buffer)[:size]
            file.seek(offset)
            if file.readinto(chunk) != size:
                raise ValueError(f"its chunk {position} ends early")
            return chunk
