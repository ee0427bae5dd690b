import cv2
import numpy as np
import pytest

from distort_pipeline import config
from distort_pipeline.networks.codec_prior import CODEC_PRIORS, DCT, DWT97, TO_PLANES, TO_RGB


def planes(*shape, seed=0):
    return (40 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.fixture(params=sorted(CODEC_PRIORS))
def codec_prior(request):
    return CODEC_PRIORS[request.param]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (128, 256), (384, 128)])
def test_synthesis_undoes_analysis(codec_prior, height, width):
    images = np.rint(planes(2, height, width, 3))  # integers, as one codec prior rounds
    np.testing.assert_allclose(codec_prior.synthesise(codec_prior.analyse(images)), images, rtol=0, atol=2e-4)


def test_bands_have_as_many_coefficients_as_there_are_curves(codec_prior):
    bands = [np.asarray(band) for band in codec_prior.analyse(planes(1, 128, 256, 3))]
    assert [band.shape[-1] for band in bands] == [curves.count for curves in codec_prior.curves]


def test_as_many_wavelet_coefficients_come_out_as_pixels_go_in():
    bands = [np.asarray(band) for band in DWT97().analyse(planes(1, 128, 256, 3))]
    assert sum(band.size for band in bands) == 128 * 256 * 3


def test_white_noise_has_about_its_own_energy_in_every_band_of_the_wavelet():
    deviations = [float(np.std(np.asarray(band))) for band in DWT97().analyse(planes(4, 256, 256, 3))]
    np.testing.assert_allclose(deviations, 40, rtol=0.15)  # the wavelet is biorthogonal: only nearly orthonormal


def test_a_block_is_transformed_as_opencv_does_and_colour_is_downsampled_first():
    images = planes(1, 128, 128, 3)
    luma, blue, *_ = (np.asarray(band) for band in DCT().analyse(images))
    low = cv2.resize(images[0, ..., 1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(luma[0, 2, 3].reshape(8, 8), cv2.dct(images[0, 16:24, 24:32, 0]), atol=1e-3)
    np.testing.assert_allclose(blue[0, 1, 2].reshape(8, 8), cv2.dct(low[8:16, 16:24]), atol=1e-3)


def test_the_wavelet_is_the_filter_bank_of_jpeg_2000():
    """Lifting against direct convolution with the 9 and 7 taps of ISO/IEC 15444-1, table F.4, borders mirrored."""
    low = np.array([0.602949018236, 0.266864118443, -0.078223266529, -0.016864118443, 0.026748757411])
    high = np.array([1.115087052457, -0.591271763114, -0.057543526229, 0.091271763114])
    rows = planes(1, 128, 128, 3)[0, :, :, 0]
    wide = np.pad(rows, ((0, 0), (4, 4)), mode="reflect")
    low_taps, high_taps = (np.concatenate([taps[:0:-1], taps]) for taps in (low * 2**0.5, high / 2**0.5))
    smooth = np.stack([np.convolve(row, low_taps, "valid") for row in wide])[:, 0:128:2]
    detail = np.stack([np.convolve(row[1:-1], high_taps, "valid") for row in wide])[:, 1:128:2]
    padded = np.pad(smooth, ((4, 4), (0, 0)), mode="reflect")
    detail_whole = np.pad(detail, ((4, 4), (0, 0)), mode="reflect")
    columns, rows_band, both, *_ = (np.asarray(band)[0, :, :, 0] for band in DWT97().analyse(
        np.repeat(rows[None, :, :, None], 3, axis=-1)
    ))  # fmt: skip
    down = lambda image, taps, first: np.stack([np.convolve(c, taps, "valid") for c in image.T], 1)[first:128:2]  # noqa: E731
    np.testing.assert_allclose(columns, down(detail_whole, low_taps, 0), atol=1e-3)
    np.testing.assert_allclose(rows_band, down(padded[1:-1], high_taps, 1), atol=1e-3)
    np.testing.assert_allclose(both, down(detail_whole[1:-1], high_taps, 1), atol=1e-3)


def test_planes_are_luma_and_colour_differences():
    colours = np.random.default_rng(0).integers(0, 256, (1, 50, 3)).astype(np.uint8)
    luma, red, blue = np.moveaxis(cv2.cvtColor(colours, cv2.COLOR_RGB2YCrCb).astype(np.float32), -1, 0)
    planes = colours.astype(np.float32) @ TO_PLANES.T
    np.testing.assert_allclose(planes, np.stack([luma, blue - 128, red - 128], -1), atol=1.0)  # OpenCV rounds twice
    np.testing.assert_allclose(TO_RGB @ TO_PLANES, np.eye(3), atol=1e-5)


def test_settings_name_every_codec_prior():
    assert set(config.CODEC_PRIORS) == {"none", *CODEC_PRIORS}  # config.py is read without Keras
