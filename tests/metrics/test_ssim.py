from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from distort_pipeline.metrics.full_reference import ms_ssim, ssim, ssim_and_ms_ssim

SAMPLE = Path(__file__).parents[2] / "data/sample"
PIQ = {0: 0.9877623, 9: 0.9874253, 17: 0.9985711}  # piq 0.8.0, multi_scale_ssim in float64, of `pair`s


def random_image(number, height=192, width=241):
    path = sorted(SAMPLE.glob("*.png"))[number]
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:height, :width]


def noisy(image, sigma=19.0):
    noise = np.random.default_rng(7).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def compressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)


def blurred(image):
    return cv2.blur(image, (5, 5))


def pair(number, height=192, width=240):
    pristine = random_image(number, 208)
    return pristine[:height, :width], blurred(pristine)[:height, :width]


@pytest.mark.parametrize("distort", [noisy, compressed, blurred])
@pytest.mark.parametrize("number", [0, 9, 17])
def test_ssim_agrees_with_scikit_image(number, distort):
    pristine = random_image(number)
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


@pytest.mark.parametrize(("number", "expected"), PIQ.items())
def test_ms_ssim_agrees_with_piq(number, expected):
    assert ms_ssim(*pair(number)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("number", PIQ)
@pytest.mark.parametrize("size", [(192, 240), (181, 193), (177, 178)])  # odd sides at several scales
def test_ms_ssim_agrees_with_tensorflow_also_on_odd_sides(number, size):
    tensorflow = pytest.importorskip("tensorflow")
    expected = float(tensorflow.image.ssim_multiscale(*pair(number, *size), 255))
    assert ms_ssim(*pair(number, *size)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [(192, 240), (177, 178), (100, 241)])
def test_both_together_equal_each_alone(size):
    pristine, distorted = pair(9, *size)
    assert ssim_and_ms_ssim(pristine, distorted) == (ssim(pristine, distorted), ms_ssim(pristine, distorted))


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_identical_images_score_1_and_noise_lowers_it(measure):
    image = random_image(5)
    scores = [measure(image, other) for other in (image.copy(), *(noisy(image, s) for s in (5, 20, 60)))]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores == sorted(scores, reverse=True)


def test_constant_images_have_a_closed_form():
    dark, bright = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, bright) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), abs=1e-6)


def test_opposites():
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert 0 <= ssim(black, white) < 1e-3
    image = random_image(3)
    assert ms_ssim(image, 255 - image) == 0  # structure turned round, at no power negative or complex


def test_there_is_no_ms_ssim_below_176_px():
    assert ms_ssim(*pair(0, 175, 240)) is None
    assert ms_ssim(*pair(0, 192, 175)) is None
    assert ms_ssim(*pair(0, 176, 176)) > 0.9


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_unequal_shapes_are_refused(measure):
    with pytest.raises(ValueError, match="the same shape"):
        measure(np.zeros((200, 200, 3), np.uint8), np.zeros((200, 201, 3), np.uint8))


def test_ssim_refuses_an_image_smaller_than_its_window():
    small = np.zeros((10, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="11 px"):
        ssim(small, small)
