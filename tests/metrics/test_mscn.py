from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import correlate

from distort_pipeline.metrics.jsd_nss import WINDOW, luma, mscn

SAMPLE = Path(__file__).parents[2] / "data/sample"
PHOTOGRAPHS = sorted(SAMPLE.glob("*.png"))[:3]


def reference_mscn(grey):
    """The definition in float64 and another library: a two-dimensional window, no shift of the levels."""
    y, x = np.mgrid[-3:4, -3:4]
    window = np.exp(-(x**2 + y**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    grey = grey.astype(np.float64)
    mean = correlate(grey, window, mode="nearest")
    square = correlate(grey**2, window, mode="nearest")
    return (grey - mean) / (np.sqrt(np.maximum(square - mean**2, 0)) + 1)


def read_luma(path):
    return luma(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def test_luma_weighs_channels_as_bt601_in_rgb_order():
    primaries = np.zeros((1, 3, 3), np.uint8)
    primaries[0, range(3), range(3)] = 255
    assert luma(primaries).tolist() == [[76, 150, 29]]  # 255 × (0.299, 0.587, 0.114), rounded
    assert luma(primaries).dtype == np.uint8


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_float64_agrees_with_the_definition(path):
    grey = read_luma(path).astype(np.float64)
    assert mscn(grey).dtype == np.float64
    np.testing.assert_allclose(mscn(grey), reference_mscn(grey), rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_8_bit_and_float32_input_gives_float32_and_stays_near(path):
    grey = read_luma(path)
    fast = mscn(grey)
    assert fast.dtype == np.float32
    assert mscn(grey.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(fast, mscn(grey.astype(np.float32)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(fast, mscn(grey.astype(np.float64)), rtol=0, atol=5e-6)


def test_the_border_is_replicated():
    grey = np.random.default_rng(1).uniform(0, 255, (9, 12))
    wide = mscn(np.pad(grey, 3, mode="edge"))[3:-3, 3:-3]
    np.testing.assert_allclose(mscn(grey), wide, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("level", [0, 3, 255])
def test_flat_tile_is_all_zero(dtype, level):
    assert not np.abs(mscn(np.full((32, 32), level, dtype))).max() > 1e-4


def test_one_bright_pixel_has_a_closed_form():
    grey = np.full((15, 15), 40.0)
    grey[7, 7] += 100
    weight = WINDOW[3] ** 2  # of the window's centre: mean 100 w, variance 100² (w - w²)
    expected = 100 * (1 - weight) / (100 * np.sqrt(weight - weight**2) + 1)
    assert mscn(grey)[7, 7] == pytest.approx(expected, abs=1e-9)


def test_the_input_is_left_alone():
    grey = np.random.default_rng(2).uniform(0, 255, (16, 16))
    before = grey.copy()
    mscn(grey)
    np.testing.assert_array_equal(grey, before)


def test_window_is_symmetric_and_sums_to_one():
    assert WINDOW.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(WINDOW, WINDOW[::-1])
    assert WINDOW[2] / WINDOW[3] == pytest.approx(np.exp(-18 / 49))  # 1 / (2 (7/6)²)
