from pathlib import Path

import cv2
import numpy as np
import pytest

from distort_pipeline.metrics.residuals import (
    channel_correlation,
    grid_autocorrelation,
    grid_profile,
    radial_amplitude,
    residual,
    residual_figures,
)

SAMPLE = Path(__file__).parents[2] / "data/sample"


def coloured_noise(exponent, side=512, seed=0):
    """Periodic Gaussian noise whose amplitude goes as f to the power of `exponent`, without DC."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1
    gain = frequency**exponent
    gain[0, 0] = 0
    white = np.random.default_rng(seed).standard_normal((side, side))
    return np.fft.ifft2(np.fft.fft2(white) * gain).real


def test_residual_keeps_its_sign():
    pristine, distorted = np.full((2, 2, 3), 200, np.uint8), np.full((2, 2, 3), 10, np.uint8)
    assert np.unique(residual(pristine, distorted)).tolist() == [-190]
    assert residual(pristine, distorted).dtype == np.float32
    with pytest.raises(ValueError, match="the same shape"):
        residual(pristine, distorted[:1])


def test_moments_and_correlation_agree_with_numpy():
    rng = np.random.default_rng(0)
    mixed = (rng.standard_normal((64, 80, 3)) @ rng.standard_normal((3, 3)) * 20 + [5, -3, 0]).astype(np.float32)
    flat = mixed.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(channel_correlation(mixed), np.corrcoef(flat.T), atol=1e-6)
    distorted = np.clip(np.rint(128 + mixed), 0, 255).astype(np.uint8)
    figures, added = residual_figures(np.full_like(distorted, 128), distorted), distorted.astype(float) - 128
    np.testing.assert_allclose(figures.mean, added.mean((0, 1)), rtol=1e-9)
    np.testing.assert_allclose(figures.variance, added.var((0, 1)), rtol=1e-6)


def test_a_constant_channel_correlates_with_itself_only():
    field = np.random.default_rng(0).standard_normal((16, 16, 3)).astype(np.float32)
    field[..., 2] = 4
    field[..., 1] = -field[..., 0]
    np.testing.assert_allclose(channel_correlation(field), [[1, -1, 0], [-1, 1, 0], [0, 0, 1]], atol=1e-9)


def slope(field):
    frequencies, amplitudes = radial_amplitude(field)
    return np.polyfit(np.log(frequencies), np.log(amplitudes), 1)[0]


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0])
def test_slope_is_the_exponent_of_the_spectrum(exponent):
    assert slope(coloured_noise(exponent)) == pytest.approx(exponent, abs=0.04)


def test_slope_of_a_crop_is_that_of_the_whole():
    """A tile's opposite borders do not meet; without the window pink noise would lose some of its slope."""
    assert slope(coloured_noise(-1.0)[100:356, 30:286]) == pytest.approx(-1, abs=0.1)
    assert slope(coloured_noise(-2.0)[100:356, 30:286]) == pytest.approx(-2, abs=0.1)


def test_white_noise_has_its_deviation_as_amplitude():
    field = np.random.default_rng(0).normal(50, 19, (256, 320))
    frequencies, amplitudes = radial_amplitude(field)
    assert (np.diff(frequencies) > 0).all()
    assert 1 / 64 <= frequencies[0] < frequencies[-1] <= 1 / 2
    np.testing.assert_allclose(amplitudes[-8:], 19, rtol=0.05)


def test_a_wave_stands_at_its_frequency():
    wave = np.tile(10 * np.sin(2 * np.pi * np.arange(256) / 8), (256, 1))
    frequencies, amplitudes = radial_amplitude(wave)
    assert frequencies[np.argmax(amplitudes)] == pytest.approx(1 / 8, rel=0.15)


def test_grid_profile_is_the_mean_step_by_phase():
    """Blocks of 8 × 8 px of one level each: all steps are at the borders."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    image = np.repeat(np.kron(blocks, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)
    profile = grid_profile(image)
    levels_8bit = blocks.astype(int)
    expected = (np.abs(np.diff(levels_8bit, axis=0)).mean() + np.abs(np.diff(levels_8bit, axis=1)).mean()) / 2
    assert profile.tolist() == pytest.approx([expected, *[0] * 7])
    shifted = grid_profile(image[3:, 3:])
    assert np.argmax(shifted) == 5


def test_jpeg_leaves_its_grid_and_a_photograph_has_none():
    image = cv2.imread(str(sorted(SAMPLE.glob("*.png"))[0]))
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)
    pristine, compressed = grid_profile(image), grid_profile(jpeg)
    assert compressed[0] > 1.5 * compressed[1:].max()
    assert pristine[0] < 1.1 * pristine[1:].max()


def test_an_image_smaller_than_the_grid_is_refused():
    with pytest.raises(ValueError, match="grid of 8 px"):
        grid_profile(np.zeros((8, 30, 3), np.uint8))


def test_steps_at_the_borders_of_blocks_are_found_at_their_distance():
    rng = np.random.default_rng(2)
    blocks = np.kron(rng.normal(0, 20, (20, 24)), np.ones((8, 8)))[..., None].repeat(3, axis=2).astype(np.float32)
    correlations = grid_autocorrelation(blocks)
    assert correlations.shape == (24,)
    assert correlations[[7, 15, 23]] == pytest.approx(1, abs=0.25)  # entry k is the lag k + 1
    assert np.abs(np.delete(correlations, [7, 15, 23])).max() < 0.3
    white = rng.normal(0, 20, (256, 256, 3)).astype(np.float32)
    assert np.abs(grid_autocorrelation(white)).max() < 0.75
    assert not grid_autocorrelation(np.zeros((64, 64, 3), np.float32)).any()
