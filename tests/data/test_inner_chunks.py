from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from distort_pipeline.data.arrays import (
    PIXELS,
    InnerChunks,
    create_group,
    create_tiles,
    open_group,
    shard_file,
    write_shard,
)
from distort_pipeline.errors import PipelineError


@pytest.fixture
def store(tmp_path):
    group = create_group(tmp_path)
    create_tiles(group, "train/a", levels=2, slots=8, tile_px=32, per_shard=4, per_chunk=2)
    tiles = np.random.default_rng(0).integers(0, 200, (2, 8, 32, 32, 3), dtype=np.uint8)
    tiles[1, 4:6] = 0  # a black chunk
    for level in range(2):
        for first in (0, 4):
            write_shard(tmp_path, group["train/a"], level, first, tiles[level, first : first + 4])
    return tmp_path


def read_both(chunks):
    return [chunks.read(1, number) for number in range(2)]


def chunks_of(store):
    return InnerChunks(store, open_group(store)["train/a"])


def test_chunks_equal_zarrs(store):
    chunks, array = chunks_of(store), open_group(store)["train/a"]
    assert chunks.shape == (2, 32, 32, 3)
    buffer = np.full(chunks.shape, 7, np.uint8)
    for level in range(2):
        for number in range(4):
            expected = array[level, 2 * number : 2 * number + 2]
            assert np.array_equal(chunks.read(level, number), expected)
            assert chunks.read(level, number, buffer) is buffer
            assert np.array_equal(buffer, expected)


def test_many_threads_may_read(store):
    chunks, expected = chunks_of(store), open_group(store)["train/a"][:]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: chunks.read(number % 2, number // 2 % 4), range(80)))
    for number, tiles in enumerate(results):
        first = number // 2 % 4 * 2
        assert np.array_equal(tiles, expected[number % 2, first : first + 2])


def test_a_shard_that_is_missing_cut_or_changed_anywhere_is_an_error(store):
    chunks = chunks_of(store)
    path = shard_file(store, open_group(store)["train/a"], (1, 0))
    intact = path.read_bytes()
    for offset in range(0, len(intact), 97):
        damaged = bytearray(intact)
        damaged[offset] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(PipelineError, match="missing or damaged"):
            read_both(chunks)
    for size in (0, 3, 40, len(intact) - 1):
        path.write_bytes(intact[:size])
        with pytest.raises(PipelineError, match="missing or damaged"):
            chunks.read(1, 0)
    path.unlink()
    with pytest.raises(PipelineError, match="missing or damaged"):
        chunks.read(1, 0)


def test_another_layout_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / PIXELS, mode="a")
    other = group.create_array("b", shape=(1, 4, 8, 8, 3), chunks=(1, 2, 8, 8, 3), dtype="uint8")
    with pytest.raises(PipelineError, match="in a layout not written by this program"):
        InnerChunks(tmp_path, other)
