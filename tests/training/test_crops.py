import threading
import time
from collections import Counter

import numpy as np
import pytest

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import pairs as pairs_step
from distort_pipeline.training import crops as crops_module
from distort_pipeline.training.crops import BATCHES_AHEAD, CROPS_A_TILE, Crops

PLAIN = {"crop_px": 128, "crop_align": 16, "batch_size": 4, "seed": 5}


def crops_of(pair_store, distortion="jpeg", **changes):
    return Crops(pair_store, distortion, [1], **{**PLAIN, **changes})


def positions(store, crops, batch):
    """Where in the store each crop of a batch is from: every (slot, y, x) whose pixels are the crop's."""
    matches = []
    for crop in batch.pristine:
        size = len(crop)
        crop_matches = []
        for record in crops.records:
            tile = store.array("train/pristine")[0, record.slot][: record.height, : record.width]
            corners = tile[: record.height - size + 1, : record.width - size + 1]
            for y, x in np.argwhere((corners == crop[0, 0]).all(-1)).tolist():
                if np.array_equal(tile[y : y + size, x : x + size], crop):
                    crop_matches.append((record.slot, y, x))
        matches.append(crop_matches)
    return matches


def test_a_batch_depends_on_the_seed_and_the_step_only(pair_store):
    running = crops_of(pair_store)
    batches = [running.at(step) for step in range(9)]
    for step in (8, 0, 3):  # a new object at any step, and the old one sent back
        for crops in (crops_of(pair_store), running):
            repeated = crops.at(step)
            assert np.array_equal(repeated.pristine, batches[step].pristine)
            assert np.array_equal(repeated.distorted, batches[step].distorted)
    assert not np.array_equal(crops_of(pair_store, seed=6).at(0).pristine, batches[0].pristine)
    assert not np.array_equal(batches[0].pristine, batches[1].pristine)


@pytest.mark.parametrize("align", [1, 16])
def test_crops_are_pieces_of_stored_tiles_on_the_grid_and_inside_the_image(pair_store, align):
    crops = crops_of(pair_store, crop_align=align)
    extents = {record.slot: (record.height, record.width) for record in crops.records}
    offsets = set()
    for step in range(3):
        batch = crops.at(step)
        for (slot, y, x), distorted in zip(
            (p[0] for p in positions(pair_store, crops, batch)), batch.distorted, strict=True
        ):
            assert y % align == x % align == 0
            assert y + 128 <= extents[slot][0]
            assert x + 128 <= extents[slot][1]
            offsets.add((y, x))
            # the same position of the same tile, distorted
            tile = pair_store.array("train/jpeg")[0, slot]
            assert np.array_equal(distorted, tile[y : y + 128, x : x + 128])
    assert len(offsets) > 6
    assert any(y % 16 or x % 16 for y, x in offsets) == (align == 1)


def test_every_epoch_cuts_as_many_crops_from_each_tile(pair_store):
    crops = crops_of(pair_store, batch_size=1, crop_px=128)
    assert len(crops.records) == 8  # the flower has room for two only
    assert crops.epoch_crops == 8 * CROPS_A_TILE
    orders = []
    for epoch in range(2):
        slots = []
        for step in range(epoch * crops.epoch_crops, (epoch + 1) * crops.epoch_crops):
            overlapping = {slot for slot, _, _ in positions(pair_store, crops, crops.at(step))[0]}
            slots.append({(slot, time) for slot in overlapping for time in range(CROPS_A_TILE)})
        # tiles of one image overlap: a crop may lie in several; one choice of them must be each slot as many times
        assert max_matching(slots) == crops.epoch_crops
        orders.append([min(slot) for slot in slots])
    assert orders[0] != orders[1]


def max_matching(choices):
    """Return how many of `choices` (sets) can each be given an element of their own."""
    owner = {}

    def assign(index, seen):
        for element in choices[index] - seen:
            seen.add(element)
            if element not in owner or assign(owner[element], seen):
                owner[element] = index
                return True
        return False

    return sum(assign(index, set()) for index in range(len(choices)))


@pytest.mark.parametrize(("kept", "read_ahead"), [(1, 0), (1, 128), (2, 4), (3, 2)])
def test_cache_and_read_ahead_change_no_crop(pair_store, monkeypatch, kept, read_ahead):
    usual = crops_of(pair_store, batch_size=2)
    expected = [usual.at(step) for step in range(20)]
    monkeypatch.setattr(crops_module, "CACHED_CHUNKS", kept)
    monkeypatch.setattr(crops_module, "READ_AHEAD", read_ahead)
    crops = crops_of(pair_store, batch_size=2)
    for batch in expected:
        uncached = crops.at(batch.step)
        assert np.array_equal(uncached.pristine, batch.pristine)
        assert np.array_equal(uncached.distorted, batch.distorted)
    assert len(crops._cache) >= kept


def test_the_chunk_that_was_used_before_all_others_makes_room(pair_store, monkeypatch):
    monkeypatch.setattr(crops_module, "CACHED_CHUNKS", 2)
    crops = crops_of(pair_store)
    for number in (0, 1, 0, 2):
        crops._request({(0, number)}, set())
    assert set(crops._cache) == {(0, 0), (0, 2)}


def test_a_batch_may_be_larger_than_an_epoch(pair_store):
    crops = crops_of(pair_store, batch_size=20)
    assert np.array_equal(crops.at(1).pristine, crops_of(pair_store, batch_size=20).at(1).pristine)
    singles = crops_of(pair_store, batch_size=1)
    assert np.array_equal(
        crops.at(1).pristine[7], singles.at(27).pristine[0]
    )  # 1 · 20 + 7: one stream, cut into batches


def test_tiles_smaller_than_the_crop_are_left_out(pair_store):
    assert {record.image for record in crops_of(pair_store, crop_px=256).records} == {"wren-1", "osprey-1"}
    with pytest.raises(PipelineError, match="no training tile of jpeg that is 384 px wide"):
        crops_of(pair_store, crop_px=384)
    with pytest.raises(PipelineError, match="did you mean jpeg"):
        crops_of(pair_store, "jpg")


def test_the_requested_levels_are_learned_each_with_its_severity(small_settings, small_manifest, tmp_path):
    config = PairsConfig(**{**small_settings, "distortions": ("jpeg",)}, preset="kadid", levels=(5, 1, 3))
    pairs_step.run(config, small_manifest, tmp_path / "pairs")
    store = open_pairs(tmp_path / "pairs")
    single_level = Crops(store, "jpeg", [5], **PLAIN)
    assert Counter(record.level for record in single_level.records) == {5: 8}
    assert (single_level.at(0).severities == 1).all()
    two = Crops(store, "jpeg", [1, 5], **PLAIN)
    assert Counter(record.level for record in two.records) == {1: 8, 5: 8}
    each = {0.5: 8 * CROPS_A_TILE, 1.0: 8 * CROPS_A_TILE}
    batches = [two.at(step) for step in range(4 * CROPS_A_TILE)]  # an epoch: each tile at both levels
    assert Counter(float(severity) for batch in batches for severity in batch.severities[:, 0]) == each
    for batch in batches:
        squared_error = np.square(batch.distorted.astype(float) - batch.pristine).mean((1, 2, 3))
        assert squared_error[batch.severities[:, 0] == 1].min(initial=np.inf) > 0


def test_prefetch_gives_the_steps_in_order(pair_store):
    crops, repeated = crops_of(pair_store), crops_of(pair_store)
    batches = list(crops.prefetch(2, 9))
    assert [batch.step for batch in batches] == list(range(2, 9))
    for batch in batches:
        assert np.array_equal(batch.distorted, repeated.at(batch.step).distorted)
    assert list(crops.prefetch(3, 3)) == []


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "crops"]


def test_prefetch_reads_only_so_far_and_stops_with_its_consumer(pair_store, monkeypatch):
    crops = crops_of(pair_store)
    read = []
    at = crops.at
    monkeypatch.setattr(crops, "at", lambda step: read.append(step) or at(step))
    prefetch = crops.prefetch(0, 1000)
    assert next(prefetch).step == 0
    deadline = time.monotonic() + 10
    while len(read) < BATCHES_AHEAD + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(read) == BATCHES_AHEAD + 2  # one taken, four waiting, one in hand
    assert len(readers()) == 1
    prefetch.close()
    assert readers() == []


def failing_at(crops, step):
    at = crops.at

    def read(requested):
        if requested == step:
            raise OSError("the disk went away")
        return at(requested)

    return read


def test_prefetch_passes_errors_on(pair_store, monkeypatch):
    crops = crops_of(pair_store)
    monkeypatch.setattr(crops, "at", failing_at(crops, 2))
    prefetch = crops.prefetch(0, 9)
    assert [next(prefetch).step, next(prefetch).step] == [0, 1]
    with pytest.raises(OSError, match="the disk went away"):
        next(prefetch)
    assert readers() == []


def test_an_error_behind_a_full_queue_does_not_block_the_consumer(pair_store, monkeypatch):
    crops = crops_of(pair_store)
    monkeypatch.setattr(crops, "at", failing_at(crops, BATCHES_AHEAD + 1))
    prefetch = crops.prefetch(0, 1000)
    next(prefetch)
    time.sleep(0.5)  # the reader fails with a full queue
    closer = threading.Thread(target=prefetch.close, daemon=True)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()
    assert readers() == []
