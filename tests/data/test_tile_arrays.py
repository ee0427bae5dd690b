from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from distort_pipeline.data.arrays import (
    PIXELS,
    TileArray,
    create_group,
    create_samples,
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
            write_shard(tmp_path, group["train/a"], (level, first), tiles[level, first : first + 4])
    return tmp_path


def read_both(store):
    return [chunks_of(store).read_chunk(number, level_index=1) for number in range(2)]


def chunks_of(store):
    return TileArray(store, open_group(store)["train/a"])


def test_chunks_equal_zarrs(store):
    chunks, array = chunks_of(store), open_group(store)["train/a"]
    assert chunks.chunk_shape == (2, 32, 32, 3)
    buffer = np.full(chunks.chunk_shape, 7, np.uint8)
    for level in range(2):
        for number in range(4):
            expected = array[level, 2 * number : 2 * number + 2]
            assert np.array_equal(chunks.read_chunk(number, level_index=level), expected)
            assert chunks.read_chunk(number, level_index=level, into=buffer) is buffer
            assert np.array_equal(buffer, expected)


def test_many_threads_may_read(store):
    chunks, expected = chunks_of(store), open_group(store)["train/a"][:]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: chunks.read_chunk(number // 2 % 4, level_index=number % 2), range(80)))
    for number, tiles in enumerate(results):
        first = number // 2 % 4 * 2
        assert np.array_equal(tiles, expected[number % 2, first : first + 2])


def test_a_shard_that_is_missing_cut_or_changed_anywhere_is_an_error(store):
    path = shard_file(store, open_group(store)["train/a"], (1, 0))
    intact = path.read_bytes()
    for offset in range(0, len(intact), 97):
        damaged = bytearray(intact)
        damaged[offset] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"is missing|are damaged"):
            read_both(store)
    for size in (0, 3, 40, len(intact) - 1):
        path.write_bytes(intact[:size])
        with pytest.raises(PipelineError, match=r"is missing|are damaged"):
            chunks_of(store).read_chunk(0, level_index=1)
    path.unlink()
    with pytest.raises(PipelineError, match=r"is missing|are damaged"):
        chunks_of(store).read_chunk(0, level_index=1)


def test_another_layout_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / PIXELS, mode="a")
    other = group.create_array("b", shape=(1, 4, 8, 8, 3), chunks=(1, 2, 8, 8, 3), dtype="uint8")
    with pytest.raises(PipelineError, match="in a layout not written by this program"):
        TileArray(tmp_path, other)


@pytest.mark.parametrize("slots", [[5], [0, 1, 2, 3], [7, 0, 7, 3, 2], [2, 3, 4, 5, 6], [4, 2], []])
def test_tiles_come_in_the_requested_order(store, slots):
    expected = open_group(store)["train/a"][1][slots]
    assert np.array_equal(chunks_of(store).read(slots, level_index=1), expected)


@pytest.mark.parametrize("count", [8, 5, 2])
def test_shards_of_samples_are_the_bytes_that_zarr_writes(tmp_path, count):
    tiles = np.random.default_rng(count).integers(0, 200, (count, 16, 16, 3), dtype=np.uint8)
    files = []
    for name in ("ours", "theirs"):
        group = create_group(tmp_path / name)
        create_samples(group, "pristine", slots=count, tile_px=16, per_shard=8, per_chunk=2)
        if name == "ours":
            write_shard(tmp_path / name, group["pristine"], (0,), tiles)
        else:
            group["pristine"][:] = tiles
        files.append(shard_file(tmp_path / name, group["pristine"], (0,)).read_bytes())
    assert files[0] == files[1]
    assert np.array_equal(TileArray(tmp_path / "ours", group["pristine"]).read(range(count)), tiles)
