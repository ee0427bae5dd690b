import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.networks.noise_pyramid import NoisePyramid
from distort_pipeline.ranges import GREYS_PER_UNIT
from distort_pipeline.training.noise_fit import MAPS, fit_noise


def noisy(distortion, parameters, count=12):
    """Mid-grey tiles, and the same under a random distortion: nothing is clipped."""
    rng = np.random.default_rng(0)
    grey = np.full((384, 384, 3), 128, np.uint8)
    return np.stack([grey] * count), np.stack([apply(distortion, grey, parameters, rng).picture for _ in range(count)])


def spectrum(fields):
    return np.square(np.abs(np.fft.fft2(fields, axes=(1, 2)))).mean((0, 3))


@pytest.fixture(scope="module", params=[("white_noise", 19.0), ("pink_noise", 25.0)], ids=lambda given: given[0])
def fitted(request):
    name, sigma = request.param
    pristine, distorted = noisy(name, {"sigma_grey": sigma})
    return sigma, distorted.astype(np.float32) - pristine, fit_noise(pristine, distorted, channels=3)


def drawn(matrices, count=12):
    layer = NoisePyramid()
    layer.build([(None, None, None, 3)] * MAPS)
    layer.matrices.assign(matrices[None])
    rng = np.random.default_rng(1)
    sides = [384 // 2**halvings for halvings in reversed(range(MAPS))]
    maps = [rng.standard_normal((count, side, side, 3), dtype=np.float32) for side in sides]
    return np.asarray(layer(maps)) * GREYS_PER_UNIT


def test_the_pyramid_is_as_strong_as_the_true_noise(fitted):
    _, true, matrices = fitted
    assert drawn(matrices).std() == pytest.approx(true.std(), rel=0.05)


def test_it_has_the_true_noises_spectrum(fitted):
    _, true, matrices = fitted
    wanted, found = spectrum(true), spectrum(drawn(matrices))
    for cycles in (4, 12, 40, 120, 190):
        decibels = 10 * np.log10(found[cycles, :cycles].mean() / wanted[cycles, :cycles].mean())
        assert abs(decibels) < 3, cycles  # octaves make steps where 1/f is smooth


def test_colours_are_as_independent_as_the_true_ones(fitted):
    _, true, matrices = fitted
    wanted, found = (np.corrcoef(noise.reshape(-1, 3).T) for noise in (true, drawn(matrices)))
    np.testing.assert_allclose(found, wanted, atol=0.15)


def test_noise_that_is_the_same_in_all_colours_needs_one_channel():
    rng = np.random.default_rng(0)
    pristine = np.full((8, 128, 128, 3), 128, np.uint8)
    grey = np.rint(128 + 10 * rng.standard_normal((8, 128, 128, 1))).astype(np.uint8)
    matrices = fit_noise(pristine, np.broadcast_to(grey, pristine.shape), channels=1)
    greys = np.abs(matrices[-1, 0]) * GREYS_PER_UNIT
    np.testing.assert_allclose(greys, 10, rtol=0.1)
    np.testing.assert_allclose(greys, greys[0], rtol=0.01)


def test_where_nothing_differs_there_is_no_noise():
    pristine = np.full((8, 128, 128, 3), 128, np.uint8)
    assert not np.any(fit_noise(pristine, pristine, channels=2))
