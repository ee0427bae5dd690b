import hashlib
import itertools
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distort_pipeline.data.conditions import Condition, FixedSeverity
from distort_pipeline.data.plans import TileGrid, even_quotas, plan_corpus
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import TILE_ALIGN_PX, ImageRecord, offsets_available, spread_tiles
from distort_pipeline.steps.pair_shards import plan_pairs

sides = st.integers(60, 900)
quick = settings(max_examples=60, deadline=None)


def image(number, height, width, split="train"):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return ImageRecord(f"p{number}", f"p{number}.png", digest, digest, width, height, "RGB", "CC0-1.0", "tests", split)


@st.composite
def albums(draw):
    sizes = draw(st.lists(st.tuples(sides, sides, st.sampled_from(["train", "train", "val", "test"])), max_size=12))
    return [image(0, 500, 400), *(image(number, *size) for number, size in enumerate(sizes, start=1))]


def planned(album, **changes):
    plain = {"tile_px": 256, "tiles_per_image": 3, "tiles_per_shard": 8, "min_tile_px": 128, "seed": 0}
    return plan_pairs(album, **{**plain, **changes})


def tiles_of(plan):
    return {placed.image.id: placed.tiles for shard in plan.of("train") for placed in shard.images}


@quick
@given(sides, sides, st.sampled_from([128, 256]), st.integers(1, 40), st.sampled_from([1, 8, 16]), st.integers(0, 9))
def test_tiles_lie_inside_on_the_grid_and_differ(height, width, tile_px, count, align_px, seed):
    tiles = spread_tiles(height, width, tile_px=tile_px, count=count, align_px=align_px, seed=seed)
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert tile.y % align_px == tile.x % align_px == 0
        assert (tile.height, tile.width) == (min(tile_px, height), min(tile_px, width))
        assert 0 <= tile.y <= height - tile.height
        assert 0 <= tile.x <= width - tile.width
    available = offsets_available(max(height, tile_px), max(width, tile_px), tile_px=tile_px, align_px=align_px)
    assert len(tiles) == min(count, available)


def test_tiles_are_far_apart():
    # four tiles of an image of three by three: with so much room, none may share a pixel with another
    for seed in range(5):
        tiles = spread_tiles(768, 768, tile_px=128, count=4, align_px=16, seed=seed)
        gaps = [max(abs(a.y - b.y), abs(a.x - b.x)) for a in tiles for b in tiles if a != b]
        assert min(gaps) >= 256


def test_another_seed_gives_other_tiles():
    plans = [spread_tiles(900, 900, tile_px=256, count=2, align_px=16, seed=seed) for seed in range(4)]
    assert len({tuple(plan) for plan in plans}) == 4


@quick
@given(albums(), st.integers(0, 3))
def test_shards_hold_each_image_once_and_whole(album, seed):
    plan = planned(album, seed=seed)
    assert [shard.number for shard in plan.of("train")] == list(range(len(plan.of("train"))))
    assert len({shard.name for shard in plan.shards}) == len(plan.shards)
    where = Counter(placed.image.id for shard in plan.of("train") for placed in shard.images)
    assert set(where.values()) <= {1}
    for shard in plan.of("train"):
        slots = [slot for p in shard.images for slot in range(p.first_slot, p.first_slot + len(p.tiles))]
        assert slots == list(range(len(slots)))
        assert 0 < len(slots) <= 8
    assert len(where) + plan.too_small == sum(record.split == "train" for record in album)
    tiles = {p.image.id: p.tiles for shard in plan.of("val") for p in shard.images}
    assert tiles.keys() == {record.id for record in album if record.split == "val"}
    for record in album:
        if record.split == "val":
            (tile,) = tiles[record.id]
            assert (tile.y, tile.x, tile.height, tile.width) == (0, 0, record.height, record.width)


@quick
@given(albums(), sides, sides, st.sampled_from(["train", "val"]))
def test_an_added_image_changes_no_tile_of_another(album, height, width, split):
    before = tiles_of(planned(album))
    enlarged = tiles_of(planned([*album, image(99, height, width, split)]))
    assert {name: enlarged[name] for name in before} == before


def test_the_order_of_the_manifest_decides_nothing():
    album = [image(number, 300 + 20 * number, 500, "train" if number % 3 else "val") for number in range(9)]
    assert planned(album) == planned(album[::-1])


def test_too_small_images_are_counted_and_none_at_all_is_an_error():
    plan = planned([image(0, 300, 300), image(1, 127, 400), image(2, 130, 400)])
    assert plan.too_small == 1
    assert [(t.height, t.width) for t in tiles_of(plan)["p2"]] == [(130, 256)] * 3
    assert all(tile.y == 0 and tile.x % TILE_ALIGN_PX == 0 for tile in tiles_of(plan)["p2"])
    with pytest.raises(PipelineError, match="128 px on both sides"):
        planned([image(1, 127, 400), image(2, 400, 400, "val")])


MODELS = {"jpeg": False, "jp2k": False, "white_noise": True}


def one_level(name, random=False):
    return Condition(name, (name,), 1, 1, FixedSeverity("severity", 1.0, 1.0), random)


def corpus(album, count, models=MODELS, tile_px=256, **changes):
    plain = {"samples_per_shard": 8, "seed": 0, "allow_repeats": False}
    conditions = [one_level(name, random) for name, random in sorted(models.items())]
    return plan_corpus(album, conditions, TileGrid(tile_px, 16), counts=(count,), **{**plain, **changes})


@quick
@given(albums(), st.integers(1, 200), st.booleans(), st.sampled_from([None, 128, 256]), st.integers(1, 32))
def test_a_corpus_adds_up(album, count, allow_repeats, tile_px, samples_per_shard):
    try:
        plan = corpus(album, count, allow_repeats=allow_repeats, tile_px=tile_px, samples_per_shard=samples_per_shard)
    except PipelineError:
        assert not allow_repeats
        return
    samples = [sample for batch in plan.batches for sample in batch.samples]
    assert [sample.sample for sample in samples] == list(range(count))
    assert [tile.number for tile in plan.tiles] == list(range(len(plan.tiles)))
    assert len({(tile.image.id, tile.tile) for tile in plan.tiles}) == len(plan.tiles) <= plan.available_tiles
    assert len({sample.seed for sample in samples}) == count
    shares = Counter()
    for batch in plan.batches:
        assert 0 < len(batch.samples) <= samples_per_shard
        assert batch.samples[0].slot == batch.number * samples_per_shard
        shares[batch.condition.name] += len(batch.samples)
    assert max(shares.values()) - min(shares[name] for name in MODELS) <= 1
    for name, is_random in MODELS.items():
        condition_samples = [
            sample for batch in plan.batches if batch.condition.name == name for sample in batch.samples
        ]
        assert [sample.slot for sample in condition_samples] == list(range(len(condition_samples)))
        assert len({(sample.tile.number, sample.draw) for sample in condition_samples}) == len(condition_samples)
        if not is_random and not allow_repeats:
            assert {sample.draw for sample in condition_samples} <= {0}


def shared(first, second, tile_px=256):
    """Return the share of a tile's pixels in another."""
    down, across = abs(first.y - second.y), abs(first.x - second.x)
    return max(tile_px - down, 0) * max(tile_px - across, 0) / tile_px**2


@pytest.mark.parametrize(("max_overlap", "available"), [(1.0, 33 * 33), (0.5, 25), (0.25, 9), (0.0, 9)])
def test_neighbouring_tiles_share_no_more_than_the_bound(max_overlap, available):
    grid, album = TileGrid(256, 16, max_overlap), image(0, 768, 768)
    assert grid.available(album) == available
    tiles = grid.spread(album, min(available, 25), seed=3)
    assert len(set(tiles)) == len(tiles) == min(available, 25)
    assert max(shared(a, b) for a, b in itertools.combinations(tiles, 2)) <= max_overlap


def test_tiles_that_share_least_are_taken_first():
    grid, album = TileGrid(256, 16), image(0, 800, 600)
    for count, most in ((6, 0), (7, 0.5), (15, 0.5), (16, 0.75)):
        tiles = grid.spread(album, count, seed=1)
        assert max(shared(a, b) for a, b in itertools.combinations(tiles, 2)) <= most


def test_one_tile_is_distorted_by_every_model():
    plan = corpus([image(0, 512, 512)], 9)
    tiles = {
        name: [s.tile.number for batch in plan.batches if batch.condition.name == name for s in batch.samples]
        for name in MODELS
    }
    assert tiles["jpeg"] == tiles["jp2k"] == tiles["white_noise"] == [0, 1, 2]


def test_a_request_for_too_many_tiles_reports_the_available_number():
    album = [image(0, 272, 272), image(1, 256, 256), image(2, 255, 900)]  # 4 + 1 + 0 tiles
    assert corpus(album, 15).available_tiles == 5
    with pytest.raises(PipelineError, match=r"5 different tiles .* jp2k would need 6") as caught:
        corpus(album, 16)
    assert "--allow-repeats" in str(caught.value)
    repeating = corpus(album, 16, allow_repeats=True)
    assert max(sample.draw for batch in repeating.batches for sample in batch.samples) == 1
    assert len(corpus(album, 50, {"white_noise": True}).tiles) == 5  # noise is resampled on the same tiles
    with pytest.raises(PipelineError, match="no image is at least 512 px"):
        corpus(album, 1, tile_px=512)


def test_the_corpus_seed_and_the_tile_decide_the_samples_seeds():
    album = [image(0, 400, 400), image(1, 300, 500)]
    first, repeated, other = (corpus(album, 12, seed=seed) for seed in (0, 0, 1))
    assert first == repeated

    def seeds(plan):
        return {sample.seed for batch in plan.batches for sample in batch.samples}

    assert not seeds(first) & seeds(other)


def test_batches_of_a_split_album_follow_its_images():
    album = [image(number, 400, 400) for number in range(6)]
    plan = corpus(album, 60, {"jpeg": False})
    images = [sample.tile.image.id for batch in plan.batches for sample in batch.samples]
    changes = sum(a != b for a, b in pairwise(images))
    assert changes == len(album) - 1  # each image is read for one run of samples
    assert set(Counter(images).values()) == {10}


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=10), st.integers(0, 200))
def test_quotas_are_even_and_within_capacities(capacities, total):
    quotas = even_quotas(capacities, total)
    assert sum(quotas) == min(total, sum(capacities))
    assert all(0 <= quota <= capacity for quota, capacity in zip(quotas, capacities, strict=True))
    unfilled = [quota for quota, capacity in zip(quotas, capacities, strict=True) if quota < capacity]
    if unfilled:
        assert max(quotas) - min(unfilled) <= 1
