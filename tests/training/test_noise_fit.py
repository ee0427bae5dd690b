import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.networks.layers import NoisePyramid
from distort_pipeline.records import LEVELS_PER_UNIT
from distort_pipeline.training import fit_noise as fit_noise_module
from distort_pipeline.training.fit_noise import MAPS, fit_noise, roomy_tiles

SIDE = 384


def noisy(distortion, parameters, count=6):
    """Mid-grey tiles, and the same under a random distortion: nothing is clipped."""
    rng = np.random.default_rng(0)
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    return np.stack([grey] * count), np.stack([apply(distortion, grey, parameters, rng).image for _ in range(count)])


def spectrum(fields):
    return np.square(np.abs(np.fft.fft2(fields, axes=(1, 2)))).mean((0, 3))


@pytest.fixture(scope="module", autouse=True)
def _few_fields():
    """The octaves' own spectra are measured on fewer fields: that takes most of a fit's time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fit_noise_module, "FIELDS", 24)
        yield


@pytest.fixture(scope="module", params=[("white_noise", 19.0), ("pink_noise", 25.0)], ids=lambda given: given[0])
def fitted(request):
    """The true noise of two distortions, and that of a pyramid fitted to it."""
    name, sigma = request.param
    pristine, distorted = noisy(name, {"sigma_8bit": sigma})
    return distorted.astype(np.float32) - pristine, drawn(fit_noise(pristine, distorted, channels=3))


def drawn(weights, count=6):
    layer = NoisePyramid()
    layer.build([(None, None, None, 3)] * MAPS)
    for variable in layer.variables:
        variable.assign(weights[variable.name][None])
    rng = np.random.default_rng(1)
    sides = [SIDE // 2**halvings for halvings in reversed(range(MAPS))]
    maps = [rng.standard_normal((count, side, side, 3), dtype=np.float32) for side in sides]
    return np.asarray(layer(maps)) * LEVELS_PER_UNIT


def test_the_pyramid_has_the_deviation_of_the_true_noise(fitted):
    true, noise = fitted
    assert noise.std() == pytest.approx(true.std(), rel=0.05)


def test_it_has_the_true_noises_spectrum(fitted):
    expected, learned = map(spectrum, fitted)
    for cycles in (4, 12, 40, 120, 190):
        decibels = 10 * np.log10(learned[cycles, :cycles].mean() / expected[cycles, :cycles].mean())
        assert abs(decibels) < 1.5, cycles  # far from the finest octaves, steps are left where 1/f is smooth


def test_its_neighbours_differ_alike_at_odd_and_even_positions(fitted):
    steps = np.square(np.diff(fitted[1], axis=2)).mean((0, 1, 3))
    assert steps[0::2].mean() == pytest.approx(steps[1::2].mean(), rel=0.03)


def test_the_kernel_lowers_jsd_nss_of_pink_noise():
    pristine, distorted = noisy("pink_noise", {"sigma_8bit": 25.0})
    weights = fit_noise(pristine, distorted, channels=3)
    bare = {**weights, "kernels": np.array([[1, 0], [0, 0]], np.float32)}

    def counts(tiles):
        return sum(product_histogram(np.clip(np.rint(tile), 0, 255).astype(np.uint8)) for tile in tiles)

    true = counts(distorted)
    assert jsd_bits(true, counts(128 + drawn(weights))) < 0.5 * jsd_bits(true, counts(128 + drawn(bare)))


def test_noise_along_rows_is_distinguished_from_noise_along_columns():
    rng = np.random.default_rng(0)
    pristine = np.full((12, 256, 256, 3), 128, np.uint8)
    noise = rng.standard_normal((12, 256, 257, 3))
    rows = np.rint(128 + 8 * (noise[:, :, 1:] + noise[:, :, :-1])).astype(np.uint8)
    weights = fit_noise(pristine, rows, channels=3)
    noise = drawn(weights)
    across, below = (np.mean(noise * np.roll(noise, 1, axis)) / np.mean(noise * noise) for axis in (2, 1))
    assert across == pytest.approx(0.5, abs=0.1)
    assert below == pytest.approx(0, abs=0.1)


def test_the_loss_by_clipping_is_compensated():
    rng = np.random.default_rng(0)
    bright = np.full((12, 128, 128, 3), 225, np.uint8)
    noisy = np.clip(np.rint(bright + 40 * rng.standard_normal(bright.shape)), 0, 255).astype(np.uint8)
    weights = fit_noise(bright, noisy, channels=3)
    shown = np.clip(np.rint(225 + drawn(weights)), 0, 255)
    assert np.square(shown - 225.0).mean() == pytest.approx(np.square(noisy - 225.0).mean(), rel=0.03)


def test_tiles_are_chosen_by_their_headroom():
    dark, grey = np.zeros((10, 128, 128, 3), np.uint8), np.full((10, 128, 128, 3), 120, np.uint8)
    explained = np.concatenate([dark, grey])
    distorted = np.clip(explained + np.random.default_rng(0).normal(0, 20, explained.shape), 0, 255).astype(np.uint8)
    assert roomy_tiles(explained, distorted).tolist() == list(range(10, 20))
    assert roomy_tiles(dark, distorted[:10]).tolist() == list(range(8))


def test_colours_are_as_independent_as_the_true_ones(fitted):
    expected, learned = (np.corrcoef(noise.reshape(-1, 3).T) for noise in fitted)
    np.testing.assert_allclose(learned, expected, atol=0.15)


def test_noise_that_is_the_same_in_all_colours_needs_one_channel():
    rng = np.random.default_rng(0)
    pristine = np.full((8, 128, 128, 3), 128, np.uint8)
    grey = np.rint(128 + 10 * rng.standard_normal((8, 128, 128, 1))).astype(np.uint8)
    matrices = fit_noise(pristine, np.broadcast_to(grey, pristine.shape), channels=1)["octaves"]
    levels_8bit = np.abs(matrices[-1, 0]) * LEVELS_PER_UNIT
    np.testing.assert_allclose(levels_8bit, 10, rtol=0.1)
    np.testing.assert_allclose(levels_8bit, levels_8bit[0], rtol=0.01)


def test_where_nothing_differs_there_is_no_noise():
    pristine = np.full((8, 128, 128, 3), 128, np.uint8)
    assert not np.any(fit_noise(pristine, pristine, channels=2)["octaves"])
