import subprocess
import sys

import numpy as np
import pytest

from distort_pipeline.networks.codec_prior import significance_in
from distort_pipeline.networks.layers import CoefficientCurves
from distort_pipeline.networks.wavelets import HEADERS, SIZES, log_sizes, significance_of
from distort_pipeline.records import normalize


def image(height, width, contrast=60, seed=0):
    noise = np.random.default_rng(seed).normal(128, contrast, (height, width, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def test_the_network_reads_the_same_off_its_bands():
    images = np.stack([image(128, 256), image(128, 256, 5, seed=1)])
    layer = CoefficientCurves("dwt97")
    read = np.asarray(significance_in(layer.analyse(normalize(images))))
    np.testing.assert_allclose(
        read, [significance_of(entry) for entry in images], atol=2e-5
    )  # a coefficient at a limit


def test_shares_fall_with_size_and_an_image_of_more_contrast_has_more_of_each():
    quiet, loud = significance_of(image(96, 64, 10)), significance_of(image(96, 64, 50))
    assert (np.diff(loud) <= 0).all()
    assert (loud[:12] >= quiet[:12]).all()
    assert loud[6] > 2 * quiet[6]


def test_any_size_of_image_can_be_read():
    for height, width in ((1, 1), (33, 31), (500, 7)):
        significance = significance_of(image(height, width))
        assert significance.shape == SIZES.shape
        assert 0 < significance[0] <= 1


def test_a_share_is_turned_into_the_size_that_it_reaches():
    shares = np.array([[0.5**index for index in range(len(SIZES))]], np.float32)
    for index in (0, 3, 16):
        assert np.exp(log_sizes(shares, np.log(shares[:, index]), np))[0] == pytest.approx(SIZES[index], rel=1e-3)
    midpoint = np.log(np.array([0.5**4.5], np.float32))
    assert log_sizes(shares, midpoint, np)[0] == pytest.approx(np.log(SIZES[4:6]).mean(), rel=1e-3)
    beyond = log_sizes(np.repeat(shares, 2, 0), np.log(np.array([2.0, 1e-9], np.float32)), np)
    np.testing.assert_allclose(np.exp(beyond), SIZES[[0, -1]], rtol=1e-3)


def test_of_a_plain_image_the_headers_are_all_and_the_step_is_the_smallest_that_has_room_for_them():
    flat = significance_of(np.full((64, 64, 3), 128, np.uint8))
    np.testing.assert_allclose(flat, HEADERS / (64 * 64 * 3), rtol=1e-6)
    assert log_sizes(flat[None], np.log(np.array([0.05], np.float32)), np) == 0


def test_headers_take_a_larger_share_of_a_smaller_image():
    small = image(128, 128)
    large = np.tile(small, (2, 2, 1))
    added = significance_of(small)[-1] - significance_of(large)[-1]
    assert added == pytest.approx(HEADERS / small.size - HEADERS / large.size, abs=1e-3)


def test_workers_that_read_it_start_no_backend():
    code = (
        "import sys, numpy; from distort_pipeline.steps import truth;"
        "from distort_pipeline.networks.wavelets import significance_of;"
        "significance_of(numpy.zeros((64, 64, 3), numpy.uint8));"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
