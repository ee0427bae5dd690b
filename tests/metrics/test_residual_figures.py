import numpy as np
import pytest

from distort_pipeline.metrics.residuals import FREQUENCIES, mean_figures, residual_figures
from distort_pipeline.records import to_uint8


def pair(height, width, sigma, seed=3):
    pristine = np.full((height, width, 3), 128, np.uint8)
    return pristine, to_uint8(pristine + sigma * np.random.default_rng(seed).standard_normal(pristine.shape))


def test_images_of_different_sizes_average_to_the_power_of_their_noise():
    figures = mean_figures([residual_figures(*pair(256, 300, 10)), residual_figures(*pair(32, 45, 10))])
    assert figures.power.shape == FREQUENCIES.shape
    assert figures.power[6:] == pytest.approx(100, rel=0.5)
    assert figures.variance == pytest.approx(100, rel=0.1)


def test_white_noise_is_flat_and_nothing_added_has_no_slope():
    assert residual_figures(*pair(400, 400, 10)).spectral_slope == pytest.approx(0, abs=0.05)
    pristine, _ = pair(64, 64, 0)
    assert residual_figures(pristine, pristine).spectral_slope is None
