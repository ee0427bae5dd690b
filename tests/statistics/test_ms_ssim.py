from pathlib import Path

import cv2
import numpy as np
import pytest

from distort_pipeline.statistics.ms_ssim import ms_ssim

SAMPLE = Path(__file__).parents[2] / "data/sample"
PIQ = {0: 0.9877623, 9: 0.9874253, 17: 0.9985711}  # piq 0.8.0, multi_scale_ssim in float64, of the pictures below


def pair(number, height=192, width=240):
    path = sorted(SAMPLE.glob("*.png"))[number]
    pristine = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:208, :241]
    return pristine[:height, :width], cv2.blur(pristine, (5, 5))[:height, :width]


@pytest.mark.parametrize(("number", "expected"), PIQ.items())
def test_it_agrees_with_piq(number, expected):
    assert ms_ssim(*pair(number)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("number", PIQ)
@pytest.mark.parametrize("size", [(192, 240), (181, 193), (177, 178)])  # odd sides at several scales
def test_it_agrees_with_tensorflow_also_on_odd_sides(number, size):
    tensorflow = pytest.importorskip("tensorflow")
    expected = float(tensorflow.image.ssim_multiscale(*pair(number, *size), 255))
    assert ms_ssim(*pair(number, *size)) == pytest.approx(expected, abs=1e-4)


def test_identical_pictures_and_opposites():
    pristine, _ = pair(3)
    assert ms_ssim(pristine, pristine.copy()) == pytest.approx(1, abs=1e-6)
    assert ms_ssim(pristine, 255 - pristine) == 0  # structure turned round, at no power negative or complex


def test_more_noise_scores_lower():
    pristine, _ = pair(5)
    noise = np.random.default_rng(7).normal(0, 1, pristine.shape)
    scores = [ms_ssim(pristine, np.clip(pristine + sigma * noise, 0, 255).astype(np.uint8)) for sigma in (5, 20, 60)]
    assert scores == sorted(scores, reverse=True)


def test_there_is_none_below_176_px():
    assert ms_ssim(*pair(0, 175, 240)) is None
    assert ms_ssim(*pair(0, 192, 175)) is None
    assert ms_ssim(*pair(0, 176, 176)) > 0.9


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        ms_ssim(np.zeros((200, 200, 3), np.uint8), np.zeros((200, 201, 3), np.uint8))
