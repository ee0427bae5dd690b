"""One generator of several distortions: conditions, training and evaluation."""

import numpy as np
import pytest
from five_level_pairs import five_level_pairs

from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.distortions import apply
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.networks.backend import start_backend
from distort_pipeline.records import derive_seed, make_rng

start_backend()
from studies import conditioned, one_generator  # noqa: E402

KINDS = ("jpeg", "white_noise")
LEVELS = (2, 4)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """JPEG and white noise at two levels of `five_levels`, of two training crops and a validation crop."""
    return open_pairs(five_level_pairs(tmp_path_factory.mktemp("one"), KINDS, LEVELS, val_count=1))


@pytest.fixture(scope="module")
def networks():
    """Small networks of two kinds."""
    settings = one_generator.settings("small", KINDS, levels=2)
    return type(settings)(**{**vars(settings), "base_filters": 2, "discriminator_filters": 2, "batch_size": 4})


@pytest.fixture(scope="module")
def crops(pairs):
    return conditioned.CompositeCrops(pairs, KINDS, crop_px=128, crop_align=16, batch_size=4, seed=5)


def test_a_condition_has_a_severity_for_each_kind():
    conditions = conditioned.condition(one_generator.KINDS, {"jpeg": 0.4, "white_noise": 0.8})
    assert conditions.tolist() == pytest.approx([0.4, 0, 0.8, 0])
    with pytest.raises(KeyError, match="blur"):
        conditioned.condition(one_generator.KINDS, {"blur": 0.4})


def test_a_batch_has_equal_shares_and_the_codecs_last_crop_is_a_composite(crops):
    conditions = crops.at(0).severities
    assert (conditions[:2, 0] > 0).all()
    assert (conditions[2:, 0] == 0).all()
    assert conditions[0, 1] == 0 < conditions[1, 1] <= 1
    assert (conditions[2:, 1] > 0).all()


def test_the_truth_of_a_composite_is_white_noise_on_a_true_jpeg(crops):
    step = 3
    batch, alone = crops.at(step), crops._crops["jpeg"].at(step)
    np.testing.assert_array_equal(batch.distorted[0], alone.distorted[0])
    noise = batch.distorted[1].astype(int) - alone.distorted[1]
    levels = [PRESETS["five_levels"]["white_noise"][level - 1] for level in LEVELS]
    sigma = parameters_at("white_noise", levels, float(batch.severities[1, 1]))["sigma_8bit"]
    inside = (alone.distorted[1] > 3 * sigma) & (alone.distorted[1] < 255 - 3 * sigma)  # little of these is clipped
    assert noise[inside].std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.05)
    np.testing.assert_array_equal(crops.at(step).distorted, batch.distorted)


def test_shares_that_are_not_equal_are_refused(pairs):
    with pytest.raises(ValueError, match="equal shares"):
        conditioned.CompositeCrops(pairs, KINDS, crop_px=128, crop_align=16, batch_size=5, seed=5)


def test_several_kinds_have_neither_curves_nor_a_pyramid():
    for fitted in ({"codec_prior": "dct"}, {"noise_pyramid": True, "noise_channels": 3}):
        with pytest.raises(ValueError, match="several kinds"):
            conditioned.build_generator(base_filters=2, levels=2, kinds=2, **fitted)


def test_gains_are_those_of_the_levels_and_add_up():
    gains = conditioned.NoiseGains(2, [True, True])
    conditions = np.array([[0, 0], [0, 0.25], [0.5, 1]], np.float32)
    (scaled,) = gains([conditions, np.ones((3, 4, 4, 1), np.float32)])
    assert np.asarray(scaled)[:, 0, 0, 0].tolist() == pytest.approx([0, 0.25, 1.5])
    gains.table.assign(np.array([[0, 0], [3, 7]], np.float32)[..., None, None])
    (scaled,) = gains([conditions, np.ones((3, 4, 4, 1), np.float32)])
    assert np.asarray(scaled)[:, 0, 0, 0].tolist() == pytest.approx([0, 1.5, 7])
    codec = conditioned.NoiseGains(2, [False, True])
    (scaled,) = codec([conditions, np.ones((3, 4, 4, 1), np.float32)])
    assert np.asarray(scaled)[:, 0, 0, 0].tolist() == pytest.approx([0, 0.25, 1])  # gains of codecs start at 0


def test_it_trains_and_generates(crops, networks):
    trainer = conditioned.ConditionedTrainer(networks, KINDS)
    before = np.array(trainer.generator.get_layer("noise_gains").table)
    batch = crops.at(0)
    figures = trainer.step(batch.pristine, batch.distorted, batch.severities, 0)
    assert all(np.isfinite(float(value)) for value in figures.values())
    assert (np.array(trainer.generator.get_layer("noise_gains").table) != before).any()
    unet = conditioned.conditioned(
        one_generator.weights_of(trainer.ema_generator), KINDS, base_filters=2, levels=2, noise_channels=3
    )
    tiles, seeds = batch.pristine[:3], [1, 2, 3]
    composite = conditioned.OneKind(unet, KINDS).distort(tiles, seeds, [0, 0.5, 1])
    np.testing.assert_array_equal(composite[0], tiles[0])  # severity 0 is the identity
    assert (composite[1:] != tiles[1:]).any()
    conditions = np.stack([conditioned.condition(KINDS, {"jpeg": s, "white_noise": s}) for s in (0, 0.5, 1)])
    values = trainer.ema_generator(
        [conditioned.normalize(tiles), conditions, *conditioned.noise_maps(seeds, 128, 128, 3, 3)], training=False
    )
    off = np.abs(composite.astype(int) - conditioned.denormalize(np.asarray(values)))
    assert off.max() <= 1  # norms are fused: another order of rounding


def test_the_truth_of_a_composite_is_noise_on_full_jpeg_images(pairs):
    ((record, pristine, composite),) = one_generator.CompositeTruth(pairs).validation("jpeg", 4)
    jpeg = pairs.val_image(record.image, "jpeg", 4)
    rng = make_rng(derive_seed(one_generator.SEED, "mixed truth", record.image_digest, 4))
    np.testing.assert_array_equal(composite, apply("white_noise", jpeg, {"sigma_8bit": 36}, rng).image)
    assert pristine.shape == composite.shape


def test_sequential_distorters_work_on_the_previous_output():
    class Adds:
        def __init__(self, offset):
            self.offset = offset

        def distort(self, images, seeds, severities, _significances=None):
            self.seeds, self.severities = seeds, severities
            return images * 2 + self.offset

    distorters = [Adds(1), Adds(5)]
    distorted = one_generator.Sequential(distorters).distort(np.full((2, 1, 1, 3), 10, np.uint8), [7, 8], [0.4, 0.4])
    assert (distorted == 47).all()
    assert distorters[0].seeds == [7, 8] != distorters[1].seeds
    assert distorters[1].severities == [0.4, 0.4]


def test_the_tables_hold_every_level_and_the_means():
    rows = [
        one_generator.Row("jpeg", 0.5, "quality 24", 0.02, ((0.001, 0.1), (0.03, -2.0), (0.05, 3.0))),
        one_generator.Row("jpeg", 1.0, "quality 7", 0.04, ((0.003, 0.1), (0.05, -2.0), (0.07, 3.0))),
        one_generator.Row("jpeg+white_noise", 0.5, "quality 24, sigma 10", 0.2, ((0.1, 0.0),) * 3),
    ]
    lines = one_generator.divergence_table(rows)
    assert lines[2] == "| jpeg | 0.5 | quality 24 | 0.0200 | 0.0010 (+0.1 dB) | 0.0300 (-2.0 dB) | 0.0500 (+3.0 dB) |"
    assert lines[4] == "| jpeg | mean | | 0.0300 | **0.0020** | **0.0400** | **0.0600** |"
    assert lines[-1] == "| all four | mean | | 0.0300 | **0.0020** | **0.0400** | **0.0600** |"  # without composites
    assert len({line.count("|") for line in lines}) == 1
    counts, sizes = {"(a) jpeg": 1000, "(b) jpeg": 2000, "(c)": 3000}, {"(a) jpeg": 0.1, "(b) jpeg": 0.2, "(c)": 0.3}
    costs = one_generator.cost_table(counts, sizes, {**dict.fromkeys(counts, 0.01), "(c) composite": 0.02})
    assert "| (c) composite | – | – | 20.0 |" in costs
    assert "| (b) all four | 2,000 | 0.20 | 10.0 (mean) |" in costs
