"""Pink noise: the slope of its spectrum, its exact deviation, its independence."""

from itertools import pairwise

import numpy as np
import pytest

from distort_pipeline.distortions.pink_noise import pink_field, pink_noise
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import make_rng

GREY = np.full((480, 531, 3), 128, np.uint8)


def amplitude_slope(noise):
    """Return the exponent of amplitude over radial frequency, fitted over 1/64 to 1/2 cycles per pixel."""
    height, width = noise.shape
    power = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    edges = np.geomspace(1 / 64, 1 / 2, 25)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(edges)]
    amplitudes = [np.sqrt(power[ring].mean()) for ring in rings]
    centres = [np.exp(np.log(frequency[ring]).mean()) for ring in rings]
    return np.polyfit(np.log(centres), np.log(amplitudes), 1)[0]


def test_the_fit_itself_sees_white_noise_as_flat():
    assert abs(amplitude_slope(make_rng(0).standard_normal((480, 531)))) < 0.05


@pytest.mark.parametrize("size", [(480, 531), (256, 768), (401, 383)])  # even, oblong, both prime
def test_amplitude_falls_as_one_over_f(size):
    assert amplitude_slope(pink_field(*size, make_rng(1))) == pytest.approx(-1, abs=0.05)


def test_amplitude_falls_as_one_over_f_in_the_image_itself():
    # rounding adds white noise of 1/12, far below the 25² of the noise even at the highest frequency
    noisy = pink_noise(GREY, sigma_8bit=25, rng=make_rng(2)).astype(float) - 128
    for channel in range(3):
        assert amplitude_slope(noisy[..., channel]) == pytest.approx(-1, abs=0.05)


def test_the_spectrum_is_the_same_in_all_directions():
    power = np.mean([np.abs(np.fft.fft2(pink_field(256, 384, make_rng(seed)))) ** 2 for seed in range(8)], axis=0)
    down, across = np.fft.fftfreq(256)[:, None], np.fft.fftfreq(384)[None]
    shaped = power * (down**2 + across**2)
    band = (np.hypot(down, across) > 1 / 32) & (np.hypot(down, across) < 1 / 2)
    steep, level = band & (abs(down) > 2 * abs(across)), band & (abs(across) > 2 * abs(down))
    assert shaped[steep].mean() == pytest.approx(shaped[level].mean(), rel=0.03)


@pytest.mark.parametrize("size", [(480, 531), (8, 8), (1, 2), (33, 1)])
def test_every_draw_has_exactly_unit_deviation_and_no_mean(size):
    field = pink_field(*size, make_rng(3)).astype(float)
    assert field.shape == size
    assert field.std() == pytest.approx(1, abs=1e-5)
    assert abs(field.mean()) < 1e-5


def test_each_channel_of_the_image_has_the_requested_deviation():
    noisy = pink_noise(GREY, sigma_8bit=25, rng=make_rng(4)).astype(float)
    # rounding adds 1/12 to the variance, ±128 is beyond 5 σ; sampling plays no part, as every draw is scaled
    assert noisy.std(axis=(0, 1)) == pytest.approx(np.full(3, np.sqrt(25**2 + 1 / 12)), abs=0.01)
    assert noisy.mean(axis=(0, 1)) == pytest.approx(np.full(3, 128), abs=0.01)


def test_channels_are_independent():
    # pink noise has few independent values (its low frequencies rule), so the mean over draws is what is near 0
    fields = [pink_noise(GREY[:128, :128], sigma_8bit=25, rng=make_rng(seed)).reshape(-1, 3) for seed in range(40)]
    correlations = np.array([np.corrcoef(field.T)[np.triu_indices(3, 1)] for field in fields])
    assert np.abs(correlations.mean(axis=0)).max() < 5 * correlations.std() / np.sqrt(len(fields))
    assert np.abs(correlations).max() < 0.9


def test_one_pixel_has_no_pink_noise():
    with pytest.raises(PipelineError, match="one pixel"):
        pink_noise(GREY[:1, :1], sigma_8bit=25, rng=make_rng(0))
