import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from distort_pipeline.metrics.full_reference import psnr

SAMPLE = Path(__file__).parents[2] / "data/sample"


def noisy(image, sigma):
    noise = np.random.default_rng(7).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("number", [0, 9, 17])
def test_it_agrees_with_scikit_image_and_falls_with_noise(number):
    image = cv2.imread(str(sorted(SAMPLE.glob("*.png"))[number]))[:192, :241]
    levels = [noisy(image, sigma) for sigma in (5, 19, 60)]
    scores = [psnr(image, level) for level in levels]
    assert scores == pytest.approx([peak_signal_noise_ratio(image, level) for level in levels], abs=1e-9)
    assert scores == sorted(scores, reverse=True)


def test_closed_forms():
    dark, bright = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 110, np.uint8)
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert psnr(dark, bright) == pytest.approx(20 * math.log10(255 / 10))
    assert psnr(black, white) == pytest.approx(0)
    assert psnr(dark, dark.copy()) == math.inf


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="the same shape"):
        psnr(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 17, 3), np.uint8))
