"""Classifiers on noise of known severity: only real differences are discriminated."""

import dataclasses

import numpy as np
import pytest

from distort_pipeline.metrics import classifier
from distort_pipeline.metrics.c2st import C2ST, C2STReport, tiles_of
from distort_pipeline.metrics.classifier import TILE_PX
from distort_pipeline.metrics.evaluation import EvalImages
from distort_pipeline.metrics.severity_sweep import SeverityPoint, SweepVersions, TrueLevel
from distort_pipeline.records import to_uint8

STEPS = 20


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Noise of other severities is seen in fewer tiles a step, and by fewer filters, than photographs' distortions."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(classifier, "BATCH", 16)
        patched.setattr(classifier, "WIDTHS", (8, 12, 16))
        patched.setattr(classifier, "RESAMPLINGS", 40)
        yield


def run_c2st(images, learned, **settings):
    c2st = C2ST(images, learned, **settings)
    return C2STReport(dict(c2st.results()), c2st.tstr(), c2st.severity_tstr())


def noisy(image, sigma, seed):
    return to_uint8(image + sigma * np.random.default_rng(seed).standard_normal(image.shape))


@pytest.fixture(scope="module")
def eval_images(sample_images):
    """Four small photographs: true noise of sigma 15, a generator of the same, and one of half the sigma."""
    return [
        EvalImages(
            image,
            true={"noise": noisy(image, 15, number)},
            true_again={"noise": noisy(image, 15, 10 + number)},
            generated={"good": [noisy(image, 15, 20 + number)], "weak": [noisy(image, 7, 30 + number)]},
            generated_again={},
        )
        for number, image in enumerate(list(sample_images.values())[:4])
    ]


@pytest.fixture(scope="module")
def tiles(eval_images):
    return [tiles_of(images, count=16, seed=0) for images in eval_images]


@pytest.fixture(scope="module")
def c2st(tiles):
    return run_c2st(tiles, {"good": "noise", "weak": "noise"}, steps=STEPS, fold_count=2, seed=1)


def test_half_the_severity_is_discriminated_and_the_truth_itself_is_not(c2st):
    good, weak = c2st.results["good"], c2st.results["weak"]
    assert weak.generated.share > 0.85
    assert weak.state == "bad"
    assert abs(good.generated.share - 0.5) < 0.15
    assert abs(good.negative_control.share - 0.5) < 0.15
    assert good.second_draw
    assert good.negative_control == weak.negative_control  # of the truth alone
    assert weak.generated.tiles == 2 * 4 * 16
    assert weak.generated.images == 4


def test_tstr_is_of_the_first_generator_of_each_distortion(c2st):
    tstr = c2st.tstr
    assert tstr.kinds == ("pristine", "noise")
    for confusion, result in ((tstr.tstr_confusion, tstr.tstr), (tstr.trtr_confusion, tstr.trtr)):
        assert confusion.sum() == 128
        assert np.trace(confusion) / 128 == pytest.approx(result.share)
    assert tstr.trtr.share > 0.85


def test_training_on_the_truth_under_another_name_is_training_on_the_truth(tiles):
    same = [dataclasses.replace(tile, generated={"same": tile.true["noise"]}) for tile in tiles]
    once, repeated = (run_c2st(same, {"same": "noise"}, steps=2, fold_count=2, seed=1) for _ in range(2))
    assert once.tstr.tstr == once.tstr.trtr
    assert (once.results, once.tstr.tstr) == (repeated.results, repeated.tstr.tstr)  # the same seed


def test_with_fewer_than_two_photographs_of_the_distortion_there_is_no_test(tiles):
    others = [dataclasses.replace(tile, true={}) for tile in tiles[1:]]
    c2st = run_c2st([tiles[0], *others], {"good": "noise"}, steps=2, fold_count=2, seed=0)
    assert (c2st.results, c2st.tstr, c2st.severity_tstr) == ({}, None, None)


def test_tiles_of_all_kinds_are_at_the_same_positions_on_the_grid(eval_images):
    tiles = tiles_of(eval_images[0], count=5, seed=3)
    assert tiles.pristine.shape == (5, TILE_PX, TILE_PX, 3)
    image = eval_images[0].pristine
    positions = [
        (y, x)
        for y in range(0, image.shape[0] - TILE_PX + 1, 16)
        for x in range(0, image.shape[1] - TILE_PX + 1, 16)
        if any(np.array_equal(image[y : y + TILE_PX, x : x + TILE_PX], tile) for tile in tiles.pristine)
    ]
    assert len(positions) >= 5
    deviations = [
        float(np.std(kind.astype(float) - tiles.pristine))
        for kind in (tiles.true["noise"], tiles.positive_control["noise"])
    ]
    assert deviations[1] / deviations[0] == pytest.approx(0.8, abs=0.02)


SIGMAS = (4, 12, 30)


def on_levels(images, number, generated):
    """A photograph's levels: true noise of SIGMAS, and a generator's of the deviations `generated`."""
    levels = [
        TrueLevel(SeverityPoint(rank / 3, {}), noisy(images.pristine, true, 100 * rank + number), None)
        for rank, true in enumerate(SIGMAS, start=1)
    ]
    outputs = {
        rank / 3: noisy(images.pristine, sigma, 200 * rank + number) for rank, sigma in enumerate(generated, start=1)
    }
    return SweepVersions(images.pristine, tuple(levels), (), None, outputs.__getitem__)


@pytest.fixture(scope="module")
def multi_level_tiles(eval_images):
    """The same photographs at three levels, by a generator that makes the same noise, and one that is upside down."""
    return [
        tiles_of(
            dataclasses.replace(
                images,
                sweeps={"good": on_levels(images, number, SIGMAS), "weak": on_levels(images, number, SIGMAS[::-1])},
            ),
            count=18,
            seed=0,
        )
        for number, images in enumerate(eval_images)
    ]


def test_tiles_of_a_multi_level_model_are_at_its_levels_in_turn(multi_level_tiles):
    tiles = multi_level_tiles[0].multi_level["weak"]
    assert tiles.severities.tolist() == pytest.approx([1 / 3, 2 / 3, 1] * 6)
    for kind, sigmas in ((tiles.true, SIGMAS), (tiles.generated, SIGMAS[::-1])):
        deviations = [
            np.std(kind[level::3].astype(float) - multi_level_tiles[0].pristine[level::3]) for level in range(3)
        ]
        assert deviations == pytest.approx(sigmas, rel=0.15)  # at the same positions as the pristine tiles


def test_training_on_right_severities_equals_training_on_true_ones(multi_level_tiles):
    good, wrong = (
        C2ST(multi_level_tiles, {model: "noise"}, steps=32, fold_count=2, seed=1).severity_tstr()
        for model in ("good", "weak")
    )
    trained_on, truly = good.tstr["noise"], good.trtr["noise"]
    assert truly.value > 0.6
    assert trained_on.value > 0.85 * truly.value
    assert (trained_on.images, trained_on.tiles) == (4, 4 * 18)
    assert wrong.trtr == good.trtr  # of the truth alone
    assert wrong.tstr["noise"].value < trained_on.value - 0.2


def test_tstr_of_a_multi_level_model_is_at_all_levels(multi_level_tiles):
    same = [
        dataclasses.replace(
            tiles,
            generated={"same": tiles.generated["good"]},
            multi_level={
                "same": dataclasses.replace(tiles.multi_level["good"], generated=tiles.multi_level["good"].true)
            },
        )
        for tiles in multi_level_tiles
    ]
    c2st = run_c2st(same, {"same": "noise"}, steps=2, fold_count=2, seed=1)
    assert c2st.tstr.tstr == c2st.tstr.trtr
    assert c2st.severity_tstr.tstr == c2st.severity_tstr.trtr
    levelled = [
        dataclasses.replace(tiles, true={"noise": tiles.multi_level["good"].true}) for tiles in multi_level_tiles
    ]
    single = run_c2st(
        [dataclasses.replace(tiles, multi_level={}) for tiles in levelled],
        {"good": "noise"},
        steps=2,
        fold_count=2,
        seed=1,
    )
    assert single.tstr.trtr == c2st.tstr.trtr
    assert single.severity_tstr is None


def test_photographs_without_all_levels_take_no_part_in_tstr(multi_level_tiles):
    lacking = [multi_level_tiles[0], *(dataclasses.replace(tiles, multi_level={}) for tiles in multi_level_tiles[1:])]
    c2st = run_c2st(lacking, {"good": "noise"}, steps=2, fold_count=2, seed=0)
    assert (c2st.tstr, c2st.severity_tstr) == (None, None)
    assert set(c2st.results) == {"good"}


def test_a_photograph_smaller_than_a_tile_gives_none():
    small = np.zeros((TILE_PX - 1, 200, 3), np.uint8)
    assert tiles_of(EvalImages(small, {}, {}, {}, {}), count=2, seed=0) is None
