import numpy as np
import pytest

from distort_pipeline.metrics.residuals import compare_draws
from distort_pipeline.records import to_uint8


def noisy(pristine, seed, sigma):
    return to_uint8(pristine + sigma * np.random.default_rng(seed).standard_normal(pristine.shape))


@pytest.fixture
def pristine():
    """Half mid-grey, half black: there, noise is clipped and not measured."""
    image = np.full((200, 200, 3), 128, np.uint8)
    image[:100] = 0
    return image


def test_independent_noise_is_uncorrelated_and_its_variance_is_found(pristine):
    likeness = compare_draws(pristine, noisy(pristine, 1, 20), noisy(pristine, 2, 20))
    assert abs(likeness.correlation) < 0.02
    assert likeness.variance == pytest.approx(400, rel=0.03)


def test_noise_with_half_the_variance_independent_correlates_by_a_half(pristine):
    fixed = 20 * np.random.default_rng(0).standard_normal(pristine.shape)
    first, second = (
        to_uint8(pristine + fixed + 20 * np.random.default_rng(seed).standard_normal(pristine.shape)) for seed in (1, 2)
    )
    likeness = compare_draws(pristine, first, second)
    assert likeness.correlation == pytest.approx(0.5, abs=0.02)
    assert likeness.variance == pytest.approx(400, rel=0.03)


def test_the_same_draw_twice_has_no_variance_and_no_draw_at_all_no_correlation(pristine):
    once = noisy(pristine, 1, 20)
    likeness = compare_draws(pristine, once, once)
    assert (likeness.correlation, likeness.variance) == (pytest.approx(1), 0)
    assert compare_draws(pristine, pristine, pristine).correlation is None


def test_a_black_image_tells_nothing():
    black = np.zeros((64, 64, 3), np.uint8)
    assert compare_draws(black, noisy(black, 1, 20), noisy(black, 2, 20)) is None
