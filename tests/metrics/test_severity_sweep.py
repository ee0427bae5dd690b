"""Measurements along the severity scale, on synthetic images."""

import numpy as np
import pytest

from distort_pipeline.metrics.full_reference import Quality, psnr
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.metrics.severity_sweep import (
    Midpoint,
    MidpointResult,
    SeverityPoint,
    SweepImage,
    TrueLevel,
    level_result,
    midpoint_result,
    summarise_sweep,
    tile_errors,
)
from distort_pipeline.records import to_uint8

POINT = SeverityPoint(0.5, {"sigma_8bit": 7})


def scene(height=300, width=520):
    y, x = np.mgrid[:height, :width]
    return to_uint8(np.repeat((128 + 50 * np.sin(x / 9) * np.cos(y / 13))[..., None], 3, axis=2))


def noise(image, seed, sigma):
    return to_uint8(image + sigma * np.random.default_rng(seed).standard_normal(image.shape))


def test_tiles_are_whole_and_start_at_the_top_left():
    image = scene()
    bad = image.copy()
    bad[:256, 256:512] ^= 3
    bad[256:] = 0  # below the last whole tile
    bad[:, 512:] = 0
    errors = tile_errors(image, bad)
    assert errors.shape == (2,)
    assert errors[0] == 0
    squares = np.square(bad[:256, 256:512].astype(float) - image[:256, 256:512])
    assert errors[1] == pytest.approx(squares.mean(), rel=1e-6)


def test_a_small_image_is_a_tile_of_its_own():
    image = scene(100, 90)
    bad = noise(image, 1, 10)
    (error,) = tile_errors(image, bad)
    assert 10 * np.log10(255**2 / error) == pytest.approx(psnr(image, bad), abs=1e-4)


def test_a_level_lies_between_the_identity_baseline_and_the_noise_floor():
    image = scene()
    true, second_true = noise(image, 1, 10), noise(image, 2, 10)
    drawn = level_result(image, TrueLevel(POINT, true, second_true), noise(image, 3, 9))
    assert drawn.floor_bits == jsd_nss(true, second_true) < drawn.bits < drawn.identity_bits
    assert drawn.generated.psnr == pytest.approx(drawn.true.psnr + 20 * np.log10(10 / 9), abs=0.1)
    deterministic = level_result(image, TrueLevel(POINT, true, None), true)
    assert (deterministic.bits, deterministic.floor_bits) == (0, None)


def test_at_a_midpoint_the_right_severity_is_nearest():
    image = scene()
    true = noise(image, 1, 6)
    weak, right, strong = (noise(image, 2, sigma) for sigma in (3, 6, 12))

    def nearest(*outputs):
        by_severity = dict(zip((0.5, 0.4, 0.6), outputs, strict=True))
        return midpoint_result(image, Midpoint(POINT, 0.4, 0.6), true, by_severity.__getitem__).nearest

    assert nearest(right, weak, strong)
    assert not nearest(weak, right, strong)
    assert not nearest(right, right, strong)  # no nearer than a level is not nearer


def sweep_image(untouched_db, bits, errors, true_errors=None):
    identical = Quality(None, 1.0)
    midpoint = MidpointResult(POINT, bits, 0.2, 0.3, identical, Quality(30.0, 0.8))
    true = None if true_errors is None else np.array(true_errors, float)
    ends, true_ends = np.array(errors, float)[[0, -1]], np.array(true_errors or errors, float)[[0, -1]]
    return SweepImage((), (midpoint,), ends, true_ends, np.array(errors, float), true, untouched_db)


def test_means_are_over_images_and_shares_over_tiles():
    falling, rising = [[0.0], [1.0], [2.0]], [[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    sweep = summarise_sweep([sweep_image(60.0, 0.1, falling), sweep_image(44.0, 0.2, rising)])
    assert (sweep.falling, sweep.tiles, sweep.falling_share) == (2, 4, 0.5)
    assert (sweep.true_falling, sweep.true_falling_share) == (None, None)
    assert (sweep.falling_levels, sweep.falling_levels_share) == (3, 0.75)  # of the two ends alone
    assert (sweep.true_falling_levels, sweep.true_falling_levels_share) == (3, 0.75)
    assert (sweep.untouched_db, sweep.untouched_least_db, sweep.images) == (52.0, 44.0, 2)
    (mean,) = sweep.midpoints
    assert mean.point is POINT
    assert mean.bits == pytest.approx(0.15)
    assert mean.generated.psnr == 60  # identical images count as much as can be
    assert mean.nearest


def test_true_distortions_need_not_fall_either():
    falling, uneven = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [[0.0, 0.0], [2.0, 1.0], [1.0, 2.0]]
    sweep = summarise_sweep([sweep_image(60.0, 0.1, falling, uneven)])
    assert (sweep.falling, sweep.true_falling, sweep.true_falling_share) == (2, 1, 0.5)
    assert (sweep.falling_levels, sweep.true_falling_levels) == (2, 2)


def test_the_kept_share_is_of_tiles_with_truly_falling_psnr():
    straight, first, last = [[0.0] * 3, [2.0] * 3], [[0.0] * 3, [2.0, 2.0, 0.0]], [[0.0] * 3, [0.0, 2.0, 2.0]]
    assert summarise_sweep([sweep_image(60.0, 0.1, first, last)]).kept_falling_share == 0.5
    assert summarise_sweep([sweep_image(60.0, 0.1, first, straight)]).kept_falling_share == 2 / 3
    assert summarise_sweep([sweep_image(60.0, 0.1, straight, first)]).kept_falling_share == 1
    flat = [[0.0] * 3, [0.0] * 3]
    assert summarise_sweep([sweep_image(60.0, 0.1, straight, flat)]).kept_falling_share is None
