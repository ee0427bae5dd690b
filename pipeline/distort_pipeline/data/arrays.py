"""Pixels in Zarr v3: sharded arrays of tiles, and one array for each whole image; shards.py reads and writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncodingLike

from distort_pipeline.data.remote import is_remote, network_errors, storage_options
from distort_pipeline.errors import PipelineError

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
