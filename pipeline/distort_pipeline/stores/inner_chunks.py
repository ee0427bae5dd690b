"""Inner chunks of the sharded arrays of tiles, read and written past Zarr, at full speed.

Zarr reads and writes the same bytes through an event loop and copies, each into new memory; benchmarks/crops.py and
pairs.py say what that costs. Laid out by the Zarr v3 specification, "sharding_indexed": chunks, then where each of them
begins and how long it is, then a CRC-32C of that.
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
    """Write one whole shard of the pairs' `array` (levels, slots, tile_px, tile_px, 3), whole or not at all.

    `tiles` (n, tile_px, tile_px, 3) begin at `first_slot`, n at most a shard's slots; zeros stand behind them. What
    Zarr would write are the same chunks in another order.
    """
    slots = array.chunks[1]
    codec = Zstd(PAIRS_ZSTD, checksum=True)
    parts, index = [], np.zeros(array.shards[1] // slots, INDEX_ENTRY)
    offset = 0
    for place in range(len(index)):
        chunk = tiles[place * slots : (place + 1) * slots]
        if len(chunk) < slots:
            chunk = np.concatenate([chunk, np.zeros((slots - len(chunk), *tiles.shape[1:]), np.uint8)])
        parts.append(codec.encode(np.ascontiguousarray(chunk)))
        index[place] = (offset, len(parts[-1]))
        offset += len(parts[-1])
    end = index.tobytes()
    file = shard_file(folder, array, (level, first_slot))
    write_parts(file, [*parts, end, crc32c(end).to_bytes(CRC_BYTES, "little")], flush=False)


class _Scratch(local):
    """Memory of each thread for compressed bytes: new memory for every chunk would cost more than to read it."""

    def __init__(self) -> None:
        self.buffer = bytearray()


class InnerChunks:
    """The inner chunks of one array (levels, slots, tile_px, tile_px, 3) of a store in `folder`.

    Any number of threads may read at a time: decompression leaves the interpreter to the others.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        codecs = array.metadata.codecs
        inner = codecs[0].codecs if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else ()
        if [type(codec) for codec in inner] != [BytesCodec, ZstdCodec]:
            raise PipelineError(f"{folder} keeps {array.path} in another form than this program writes it in")
        self._folder, self._array, self._codec = folder, array, Zstd(checksum=True)
        self._scratch = _Scratch()
        self.slots: int = array.chunks[1]  # of one chunk
        self.shape: tuple[int, ...] = array.chunks[1:]  # (slots, tile_px, tile_px, 3)

    def read(self, level_index: int, number: int, into: Images | None = None) -> Images:
        """Return chunk `number` of a level, counted over all shards; in the memory of `into`, of `shape`, if given.

        PipelineError if its file is missing or damaged.
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

    def _compressed(self, path: Path, place: int) -> memoryview:
        """Return the bytes of the chunk at `place` of a shard; this thread's next call writes over them."""
        index_bytes = self._per_shard * INDEX_ENTRY.itemsize
        with path.open("rb", buffering=0) as file:
            end = file.seek(0, 2)
            file.seek(end - index_bytes - CRC_BYTES)
            read = file.read(index_bytes + CRC_BYTES)
            index, crc = read[:index_bytes], read[index_bytes:]
            if crc32c(index) != int.from_bytes(crc, "little"):
                raise ValueError("its index does not have the checksum that stands behind it")
            offset, size = (int(number) for number in np.frombuffer(index, INDEX_ENTRY)[place])
            if offset + size > end:
                raise ValueError(f"its chunk {place} is not there")
            if len(self._scratch.buffer) < size:
                self._scratch.buffer = bytearray(size)
            inside = memoryview(self._scratch.buffer)[:size]
            file.seek(offset)
            if file.readinto(inside) != size:
                raise ValueError(f"its chunk {place} ends early")
            return inside
