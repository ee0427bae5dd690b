import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from distort_pipeline.statistics.full_reference import psnr, ssim

SAMPLE = Path(__file__).parents[2] / "data/sample"


def photograph(number):
    path = sorted(SAMPLE.glob("*.png"))[number]
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:192, :241]


def noisy(picture, sigma=19.0):
    noise = np.random.default_rng(7).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def compressed(picture):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)


def blurred(picture):
    return cv2.blur(picture, (5, 5))


@pytest.mark.parametrize("distort", [noisy, compressed, blurred])
@pytest.mark.parametrize("number", [0, 9, 17])
def test_both_agree_with_scikit_image(number, distort):
    pristine = photograph(number)
    distorted = distort(pristine)
    expected = structural_similarity(
        pristine,
        distorted,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert expected < 0.995
    assert ssim(pristine, distorted) == pytest.approx(expected, abs=1e-4)
    assert psnr(pristine, distorted) == pytest.approx(peak_signal_noise_ratio(pristine, distorted), abs=1e-9)


def test_identical_pictures():
    picture = photograph(3)
    assert psnr(picture, picture.copy()) == math.inf
    assert ssim(picture, picture.copy()) == pytest.approx(1, abs=1e-6)


def test_one_grey_everywhere_has_closed_forms():
    dark, bright = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 110, np.uint8)
    assert psnr(dark, bright) == pytest.approx(20 * math.log10(255 / 10))
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, bright) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), abs=1e-6)


def test_opposites_on_the_whole_range():
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0)
    assert 0 <= ssim(black, white) < 1e-3


def test_more_noise_scores_lower():
    picture = photograph(5)
    levels = [noisy(picture, sigma) for sigma in (5, 20, 60)]
    for measure in (psnr, ssim):
        scores = [measure(picture, level) for level in levels]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_unequal_shapes_are_refused(measure):
    with pytest.raises(ValueError, match="one shape"):
        measure(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 17, 3), np.uint8))


def test_ssim_refuses_a_picture_smaller_than_its_window():
    small = np.zeros((10, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="11 px"):
        ssim(small, small)
