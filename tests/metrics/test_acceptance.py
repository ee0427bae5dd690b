"""The acceptance test on few tiles; `python -m studies.acceptance` measures its rates on many."""

import cv2
import numpy as np
import pytest

from distort_pipeline.metrics.acceptance import (
    COMPONENTS,
    OF_TILES,
    STATISTICS,
    WIDTH,
    TileStatistics,
    ValidationStatistics,
    content_statistics,
    critical_factor,
    judge,
    judge_by_content,
    standard_error,
    tile_statistics,
)
from distort_pipeline.records import make_rng
from studies.acceptance import SUBSTITUTIONS, true

SIDE = 192
GIVEN = [(name, label) for name, each in SUBSTITUTIONS.items() for label in each if not label.startswith("further")]


@pytest.fixture(scope="module")
def photographs(sample):
    """Crops of eight photographs on the codec's grid."""
    images = [cv2.imread(str(path))[..., ::-1] for path in sorted(sample.glob("*.png"))[::2][:8]]
    return [np.ascontiguousarray(image[32 : 32 + SIDE, 48 : 48 + SIDE]) for image in images]


@pytest.fixture(scope="module")
def draws(photographs):
    """Two draws of each truth."""
    return {
        name: [distorted(photographs, true(name), seed) for seed in range(2)]
        for name in ("jpeg", "jp2k", "white_noise", "pink_noise")
    }


def distorted(photographs, distort, seed):
    rng = make_rng(seed)
    return TileStatistics.of(photographs, [distort(image, rng) for image in photographs])


def failing(generated, draws, tiles=8):
    """Return the groups of the failing statistics, of a batch of one tile a photograph."""
    first, second = draws
    again = None if np.array_equal(first.values, second.values) else second
    judged = judge(generated, first, range(tiles), again and (first, again), rng=make_rng(0))
    assert [each.statistic for each in judged] == [statistic.name for statistic in STATISTICS]
    return {each.group for each in judged if not each.accepted}


@pytest.mark.parametrize(("name", "label"), GIVEN, ids=[f"{name}, {label}" for name, label in GIVEN])
def test_a_substitution_is_flagged(photographs, draws, name, label):
    assert failing(distorted(photographs, SUBSTITUTIONS[name][label], 7), draws[name])


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("all colour lost", "colour"),
        ("20 levels added", "colour"),
        ("mirrored image", "alignment"),
        ("grid moved by 3 px", "alignment"),
        ("4:4:4", "residual"),
        ("quality 10", "strength"),
    ],
)
def test_a_substitution_is_flagged_for_its_reason(photographs, draws, label, group):
    assert group in failing(distorted(photographs, SUBSTITUTIONS["jpeg"][label], 7), draws["jpeg"])


@pytest.mark.parametrize("name", ["jpeg", "jp2k", "white_noise", "pink_noise"])
def test_true_draws_are_accepted(photographs, draws, name):
    rejected = [failing(distorted(photographs, true(name), seed), draws[name]) for seed in (10, 11, 12)]
    assert rejected.count(set()) == 3


def test_an_identical_batch_differs_in_nothing_and_thresholds_are_the_tolerances(draws):
    judged = judge(draws["jpeg"][0], draws["jpeg"][1], range(8), rng=make_rng(0))
    assert {each.difference for each in judged} == {0}
    assert [each.threshold for each in judged] == [statistic.tolerance for statistic in STATISTICS]


def test_a_threshold_grows_with_the_redraws_and_shrinks_with_the_photographs(draws):
    first, second = draws["pink_noise"]

    def thresholds(rows):
        parts = [TileStatistics(each.values[rows], each.histograms[rows]) for each in (first, first, second)]
        return {each.statistic: each.threshold for each in judge(*parts[:2], rows, parts[1:], rng=make_rng(0))}

    few, many = thresholds(range(2)), thresholds(range(8))
    assert few["channel means"] > many["channel means"] > 0.5


def test_tolerances_are_of_eight_photographs_and_wider_for_fewer(draws):
    def thresholds(count):
        parts = [TileStatistics(each.values[:count], each.histograms[:count]) for each in draws["jpeg"]]
        return [
            each.threshold / s.tolerance
            for each, s in zip(judge(*parts, range(count), rng=make_rng(0)), STATISTICS, strict=True)
        ]

    assert thresholds(8) == [1] * len(STATISTICS)
    assert thresholds(2) == pytest.approx([2] * len(STATISTICS))


def test_a_generators_own_draws_are_the_chance_level_where_the_truth_cannot_be_drawn_again(draws):
    true, another = draws["pink_noise"]
    generated = TileStatistics(
        another.values[::-1].copy(), another.histograms
    )  # of other photographs: far from the truth
    tolerances = judge(another, true, range(8), rng=make_rng(0))
    chance = judge(another, true, range(8), (true, another), rng=make_rng(0))
    steady = judge(generated, true, range(8), (generated, generated), rng=make_rng(0))
    assert all(wide.threshold >= narrow.threshold for wide, narrow in zip(chance, tolerances, strict=True))
    assert all(each.accepted for each in chance)
    assert not all(each.accepted for each in steady)


def test_photographs_and_not_tiles_are_independent():
    values = np.repeat(np.random.default_rng(0).standard_normal((50, 1)), 8, axis=0)
    by_photograph = standard_error(values, np.repeat(np.arange(50), 8))
    assert by_photograph == pytest.approx(values.std() / np.sqrt(50), rel=0.05)
    assert standard_error(values, np.arange(400)) < by_photograph / 2


def test_false_alarms_of_all_statistics_together_are_at_most_one_percent():
    """Independent normal differences, of eight photographs, over standard errors from other eight."""
    rng = np.random.default_rng(0)
    ratios = rng.standard_normal((40_000, COMPONENTS)) / np.sqrt(rng.chisquare(8, (40_000, COMPONENTS)) / 8)
    assert (np.abs(ratios) > critical_factor(8)).any(1).mean() == pytest.approx(0.01, abs=0.0015)


def test_statistics_are_of_the_named_properties(photographs):
    image = photographs[0]
    shown = np.clip(image.astype(int), 30, 200).astype(np.uint8)
    columns, start = {}, 0
    for statistic in OF_TILES:
        columns[statistic.name] = slice(start, start := start + statistic.components)
    assert start == WIDTH
    base = tile_statistics(shown, shown)
    assert base[columns["PSNR"]] == 60
    assert base[columns["content"]] == pytest.approx(1, abs=0.02)
    raised = tile_statistics(shown, shown + np.uint8(20))
    assert raised[columns["channel means"]] - base[columns["channel means"]] == pytest.approx([20] * 3)
    moved = tile_statistics(shown, np.roll(shown, (0, 1), (0, 1)))
    assert moved[columns["shift"]] == pytest.approx([0, 1], abs=0.4)
    mirrored = tile_statistics(shown, np.ascontiguousarray(shown[:, ::-1]))
    assert mirrored[columns["orientation"]][0] == pytest.approx(1, abs=0.02)
    noise = np.random.default_rng(0).normal(0, 8, (SIDE, SIDE, 3))
    noisy = tile_statistics(np.full_like(shown, 128), np.rint(128 + noise).astype(np.uint8))
    assert noisy[columns["residual variance by channel"]] == pytest.approx([20 * np.log10(8)] * 3, abs=0.1)
    assert noisy[columns["residual correlation of channels"]] == pytest.approx([0] * 3, abs=0.02)
    octaves = 10 ** (noisy[columns["luma power by octave"]] / 10)
    assert octaves[0] / octaves[1] == pytest.approx(4, rel=0.1)  # white: each octave has a quarter of the finer one


@pytest.mark.parametrize("shape", [(11, 11, 3), (50, 77, 3), (256, 33, 3)])
def test_tiles_of_any_size_have_statistics(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.isfinite(tile_statistics(image, image[::-1].copy())).all()
    assert np.isfinite(tile_statistics(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))).all()


def test_tiles_without_a_truth_are_judged_by_their_content(photographs):
    """Crops of eight photographs are the validation, other crops of the same ones the batch."""

    def quarters(first):
        return [np.ascontiguousarray(image[y : y + 96, x : x + 96]) for image in photographs for y, x in first]

    known, new = quarters(((0, 0), (96, 96))), quarters(((0, 96), (96, 0)))
    owners = np.repeat(np.arange(8), 2)
    tiles = distorted(known, true("jpeg"), 0)
    validation = ValidationStatistics(tiles, np.stack([content_statistics(tile) for tile in known]), owners)
    content = np.stack([content_statistics(tile) for tile in new])

    def rejected(distort):
        judged = judge_by_content(distorted(new, distort, 0), content, owners, validation, rng=make_rng(0))
        return {each.group for each in judged if not each.accepted}

    assert rejected(true("jpeg")) == set()
    assert rejected(SUBSTITUTIONS["white_noise"]["sigma 30"])
    assert rejected(SUBSTITUTIONS["jpeg"]["with white noise"])
