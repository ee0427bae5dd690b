"""White noise on mid-grey: mean, variance, independence, clipping."""

import numpy as np
import pytest

from distort_pipeline.distortions.white_noise import white_noise
from distort_pipeline.records import make_rng

GREY = np.full((400, 500, 3), 128, np.uint8)
COUNT = 400 * 500  # values of one channel


@pytest.fixture(scope="module")
def noise():
    return white_noise(GREY, sigma_8bit=19, rng=make_rng(1)).astype(float) - 128


def test_mean_and_variance_are_as_requested_in_every_channel(noise):
    expected = 19**2 + 1 / 12  # rounding adds the variance of a uniform unit interval; 128 is 6.7 σ from clipping
    for channel in range(3):
        values = noise[..., channel]
        assert abs(values.mean()) < 5 * 19 / np.sqrt(COUNT)
        assert abs(values.var() - expected) < 5 * expected * np.sqrt(2 / COUNT)


def test_channels_and_neighbours_are_independent(noise):
    flat = noise.reshape(-1, 3)
    across_channels = np.corrcoef(flat.T)[np.triu_indices(3, 1)]
    across = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
    down = np.corrcoef(noise[1:, :, 0].ravel(), noise[:-1, :, 0].ravel())[0, 1]
    assert np.abs([*across_channels, across, down]).max() < 5 / np.sqrt(COUNT)


def test_the_distribution_is_gaussian(noise):
    scaled = noise / noise.std()
    assert abs((scaled**3).mean()) < 5 * np.sqrt(6 / noise.size)
    assert abs((scaled**4).mean() - 3) < 5 * np.sqrt(24 / noise.size)


def test_values_are_rounded_not_cut_off():
    # cutting off decimals would shift the mean by half a level
    assert abs(white_noise(GREY, sigma_8bit=0.4, rng=make_rng(2)).mean() - 128) < 0.01


def test_black_and_white_clip_instead_of_wrapping():
    for value in (0, 255):
        noisy = white_noise(np.full((200, 200, 3), value, np.uint8), sigma_8bit=20, rng=make_rng(3))
        assert np.abs(noisy.astype(int) - value).max() < 120
        assert 0.45 < (noisy == value).mean() < 0.55


def test_no_noise_changes_nothing():
    np.testing.assert_array_equal(white_noise(GREY, sigma_8bit=0, rng=make_rng(4)), GREY)
