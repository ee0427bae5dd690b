"""Fast reading and writing of the inner chunks of sharded arrays, without Zarr's overhead.

Zarr reads and writes the same bytes through an event loop and with copies into new memory; for the cost see
benchmarks/crops.py and pairs.py. The layout is "sharding_indexed" of the Zarr v3 specification: chunks, then an index
(offset and size of each chunk), then the CRC-32C of the index.
"""

from __future__ import annotations

from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from google_crc32c import value as crc32c
from numcodecs import Zstd
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Images
from distort_pipeline.stores.arrays import PAIRS_ZSTD, shard_file
from distort_pipeline.stores.files import write_parts

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
