"""Classifiers on noise whose strength is known: they tell what differs, and cannot tell what does not."""

import dataclasses

import numpy as np
import pytest

from distort_pipeline.ranges import to_uint8
from distort_pipeline.sceptic.judge import judge
from distort_pipeline.sceptic.tiles import TILE_PX, cut_tiles
from distort_pipeline.statistics.measured import Made

STEPS = 30


def noisy(picture, sigma, seed):
    return to_uint8(picture + sigma * np.random.default_rng(seed).standard_normal(picture.shape))


@pytest.fixture(scope="module")
def made(photographs):
    """Four small photographs: true noise of 15 greys, a generator as good as true, and one of half the strength."""
    return [
        Made(
            picture,
            true={"noise": noisy(picture, 15, number)},
            true_again={"noise": noisy(picture, 15, 10 + number)},
            generated={"good": [noisy(picture, 15, 20 + number)], "weak": [noisy(picture, 7, 30 + number)]},
            generated_again={},
        )
        for number, picture in enumerate(list(photographs.values())[:4])
    ]


@pytest.fixture(scope="module")
def tiles(made):
    return [cut_tiles(one, count=16, seed=0) for one in made]


@pytest.fixture(scope="module")
def doubts(tiles):
    return judge(tiles, {"good": "noise", "weak": "noise"}, steps=STEPS, fold_count=2, seed=1)


def test_half_the_strength_is_told_apart_and_the_truth_itself_is_not(doubts):
    good, weak = doubts.trials["good"], doubts.trials["weak"]
    assert weak.generated.share > 0.85
    assert weak.state == "bad"
    assert abs(good.generated.share - 0.5) < 0.15
    assert abs(good.control.share - 0.5) < 0.15
    assert good.second_draw
    assert good.control == weak.control  # of the truth alone
    assert weak.generated.tiles == 2 * 4 * 16
    assert weak.generated.photographs == 4


def test_the_lesson_is_of_the_first_generator_of_each_distortion(doubts, tiles):
    lesson = doubts.lesson
    assert lesson.kinds == ("pristine", "noise")
    assert {teacher: named.sum() for teacher, named in lesson.named.items()} == {"generated": 128, "true": 128}
    for teacher, own in (("generated", lesson.by_generated), ("true", lesson.by_true)):
        assert np.trace(lesson.named[teacher]) / 128 == pytest.approx(own.share)
    assert lesson.by_true.share > 0.85
    # what is taught by the truth under another name is what the truth teaches
    same = [dataclasses.replace(own, generated={"same": own.true["noise"]}) for own in tiles]
    taught = judge(same, {"same": "noise"}, steps=3, fold_count=2, seed=1).lesson
    assert taught.by_generated == taught.by_true


def test_the_same_seed_finds_the_same(tiles):
    once, again = (judge(tiles, {"weak": "noise"}, steps=4, fold_count=2, seed=2) for _ in range(2))
    assert once.trials == again.trials


def test_where_two_photographs_lack_the_distortion_nothing_is_tried(tiles):
    others = [dataclasses.replace(own, true={}) for own in tiles[1:]]
    doubts = judge([tiles[0], *others], {"good": "noise"}, steps=1, fold_count=2, seed=0)
    assert (doubts.trials, doubts.lesson) == ({}, None)


def test_tiles_of_all_kinds_are_of_the_same_places_on_the_grid(made):
    own = cut_tiles(made[0], count=5, seed=3)
    assert own.pristine.shape == (5, TILE_PX, TILE_PX, 3)
    picture = made[0].pristine
    places = [
        (y, x)
        for y in range(0, picture.shape[0] - TILE_PX + 1, 16)
        for x in range(0, picture.shape[1] - TILE_PX + 1, 16)
        if any(np.array_equal(picture[y : y + TILE_PX, x : x + TILE_PX], tile) for tile in own.pristine)
    ]
    assert len(places) >= 5
    strength = [float(np.std(kind.astype(float) - own.pristine)) for kind in (own.true["noise"], own.weaker["noise"])]
    assert strength[1] / strength[0] == pytest.approx(0.8, abs=0.02)


def test_a_photograph_smaller_than_a_tile_gives_none():
    small = np.zeros((TILE_PX - 1, 200, 3), np.uint8)
    assert cut_tiles(Made(small, {}, {}, {}, {}), count=2, seed=0) is None
