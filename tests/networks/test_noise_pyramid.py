import numpy as np
import pytest
from scipy import ndimage

from distort_pipeline.networks.inputs import noise_shapes
from distort_pipeline.networks.layers import NoisePyramid
from distort_pipeline.networks.noise import SLOWER, convolved, upsample2x, upsample_bspline


def pyramid(matrices):
    layer = NoisePyramid()
    layer.build([(None, None, None, matrices.shape[1])] * (len(matrices) - SLOWER))
    layer.octaves.assign(matrices[None])
    return layer


def maps(count, side, channels, seed=0, *, width=None):
    rng = np.random.default_rng(seed)
    shapes = noise_shapes(side, width or side, channels)
    return [rng.standard_normal((count, *shape), dtype=np.float32) for shape in shapes]


def test_before_a_fit_it_adds_nothing():
    assert not np.any(pyramid(np.zeros((9, 3, 3), np.float32))(maps(1, 128, 3)))


def test_the_finest_matrix_colours_independent_pixels():
    matrices = np.zeros((9, 2, 3), np.float32)
    matrices[-1] = [[3, 0, 3], [0, 2, 0]]
    noise = np.asarray(pyramid(matrices)(maps(4, 128, 2)))
    covariance = np.cov(noise.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, [[9, 0, 9], [0, 4, 0], [9, 0, 9]], atol=0.3)
    np.testing.assert_allclose(np.mean(noise[:, :, 1:] * noise[:, :, :-1]), 0, atol=0.1)


def test_upsampling_keeps_a_constant_and_gives_every_pixel_of_white_noise_the_same_variance():
    assert np.all(np.asarray(upsample2x(np.full((1, 4, 6, 2), 5.0, np.float32))) == 5)
    noise = np.random.default_rng(0).standard_normal((4000, 6, 6, 1)).astype(np.float32)
    inner = np.asarray(upsample2x(noise))[:, 2:-2, 2:-2, 0].var(0)
    np.testing.assert_allclose(inner, 0.625**2, rtol=0.1)


def test_bspline_upsampling_keeps_a_constant_and_makes_steps_that_are_alike():
    np.testing.assert_allclose(np.asarray(upsample_bspline(np.full((1, 4, 6, 2), 5.0, np.float32))), 5, rtol=1e-6)
    noise = np.random.default_rng(0).standard_normal((4000, 6, 6, 1)).astype(np.float32)
    inner = np.asarray(upsample_bspline(noise))[:, 4:-4, 4:-4, 0]
    np.testing.assert_allclose(inner.var(0), ((1 + 21**2 + 35**2 + 7**2) / 64**2) ** 2, rtol=0.1)
    within, across = (np.diff(np.asarray(upsample_bspline(noise))[..., 0], axis=2)[:, 4:-4, at].var() for at in (4, 5))
    assert 0.75 < within / across < 0.95  # 0.25 by `upsample2x`


def test_bspline_upsampling_is_symmetric():
    field = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    straight = np.asarray(upsample_bspline(field))
    turned = np.asarray(upsample_bspline(field[:, ::-1, ::-1]))[:, ::-1, ::-1]
    np.testing.assert_allclose(straight, turned, atol=1e-6)
    across = np.asarray(upsample_bspline(field.transpose(0, 2, 1, 3))).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(straight, across, atol=1e-6)


def test_an_octave_is_as_strong_at_the_border_as_inside():
    matrices = np.zeros((9, 3, 3), np.float32)
    matrices[4] = np.eye(3)  # cells of 16 px
    fields = np.asarray(pyramid(matrices)(maps(50, 256, 3)))
    columns = np.square(fields).mean((0, 1, 3))
    np.testing.assert_allclose([columns[:8].mean(), columns[-8:].mean()], columns[64:192].mean(), rtol=0.1)


@pytest.mark.parametrize("axis", [0, 1])
def test_upsampling_puts_three_quarters_on_the_parent(axis):
    rows = np.array([[0.0, 4.0]], np.float32)
    values = np.broadcast_to(rows if axis else rows.T, (2, 2))[None, :, :, None].astype(np.float32)
    upsampled = np.asarray(upsample2x(values))[0, :, :, 0]
    assert (upsampled if axis else upsampled.T)[0].tolist() == [0, 1, 3, 4]


def slowest(octave, count, side, width):
    matrices = np.zeros((9, 3, 3), np.float32)
    matrices[octave] = np.eye(3)
    return np.asarray(pyramid(matrices)(maps(count, side, 3, width=width)))


@pytest.mark.parametrize("octave", range(SLOWER))
def test_a_tile_has_as_much_of_the_slow_octaves_as_a_wide_image(octave):
    tile, wide = slowest(octave, 300, 128, 128), slowest(octave, 24, 128, 1536)
    np.testing.assert_allclose(np.square(tile).mean(), np.square(wide).mean(), rtol=0.15)
    assert np.square(tile.mean((1, 2))).mean() > 0.3 * np.square(tile).mean()  # much of it is brightness
    np.testing.assert_allclose(np.corrcoef(tile.mean((1, 2)).T), np.eye(3), atol=0.2)


def test_octaves_of_an_image_of_odd_multiples_fit_together():
    matrices = np.ones((9, 1, 3), np.float32)
    assert np.asarray(pyramid(matrices)(maps(1, 384, 1))).shape == (1, 384, 384, 3)


def test_kernels_are_convolved_with_mirrored_borders():
    values = np.random.default_rng(0).standard_normal((2, 9, 7, 3)).astype(np.float32)
    kernels = np.array([[[0.5, 0.1], [0.2, 0.05]], [[1, -0.3], [0.4, 0.02]]], np.float32)
    convolved_images = np.asarray(convolved(values, kernels))
    for image, ((centre, side), (above, corner)), convolved_image in zip(
        values, kernels, convolved_images, strict=True
    ):
        kernel = [[corner, above, corner], [side, centre, side], [corner, above, corner]]
        for channel in range(3):
            expected = ndimage.convolve(image[..., channel], np.array(kernel), mode="mirror")
            np.testing.assert_allclose(convolved_image[..., channel], expected, atol=1e-6)


def test_between_levels_a_kernel_is_between_theirs():
    layer = NoisePyramid(2)
    layer.build([(None, 1)] + [(None, None, None, 1)] * 7)
    matrices = np.zeros(layer.octaves.shape, np.float32)
    matrices[:, -1] = 1
    layer.octaves.assign(matrices)
    layer.kernels.assign([[[1, 0], [0, 0]], [[0, 0.5], [0, 0]]])
    drawn = maps(1, 128, 1)
    weak, strong, midpoint = (np.asarray(layer([np.full((1, 1), severity), *drawn])) for severity in (0.5, 1.0, 0.75))
    assert not np.allclose(weak, strong)
    np.testing.assert_allclose(midpoint, (weak + strong) / 2, atol=1e-6)


def test_channels_of_a_slow_octave_are_independent_in_small_images():
    matrices = np.zeros((9, 3, 3), np.float32)
    matrices[2] = np.eye(3)  # the coarsest map: 2 cells on a side, and two beyond the image on each
    noise = np.asarray(pyramid(matrices)(maps(150, 256, 3)))
    correlation = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.085
