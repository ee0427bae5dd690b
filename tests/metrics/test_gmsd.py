from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.signal import convolve2d

from distort_pipeline.metrics.full_reference import gmsd

SAMPLE = Path(__file__).parents[2] / "data/sample"
PIQ = {0: 0.0792542, 9: 0.0466101, 17: 0.0081308}  # piq 0.8.0, gmsd in float64, of the images below: one side is odd


def pair(number):
    path = sorted(SAMPLE.glob("*.png"))[number]
    pristine = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:208, :241]
    return pristine, cv2.blur(pristine, (5, 5))


def as_published(reference, distorted):
    """The authors' few lines of MATLAB, in SciPy: conv2(..., 'same') and every second pixel."""

    def gradient(image):
        luma = image.astype(float) @ (0.299, 0.587, 0.114)
        half = convolve2d(luma, np.full((2, 2), 0.25))[1:, 1:][::2, ::2]
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        return np.hypot(convolve2d(half, prewitt, "same"), convolve2d(half, prewitt.T, "same"))

    x, y = gradient(reference), gradient(distorted)
    return np.std((2 * x * y + 170) / (x**2 + y**2 + 170))


@pytest.mark.parametrize(("number", "expected"), PIQ.items())
def test_it_agrees_with_piq_and_with_the_publication(number, expected):
    assert gmsd(*pair(number)) == pytest.approx(expected, abs=1e-6)
    assert gmsd(*pair(number)) == pytest.approx(as_published(*pair(number)), abs=1e-6)


def test_identical_images_deviate_in_nothing():
    pristine, _ = pair(3)
    assert gmsd(pristine, pristine.copy()) == 0


def test_more_noise_scores_higher():
    pristine, _ = pair(5)
    noise = np.random.default_rng(7).normal(0, 1, pristine.shape)
    scores = [gmsd(pristine, np.clip(pristine + sigma * noise, 0, 255).astype(np.uint8)) for sigma in (5, 20, 60)]
    assert scores == sorted(scores)


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="the same shape"):
        gmsd(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 17, 3), np.uint8))
