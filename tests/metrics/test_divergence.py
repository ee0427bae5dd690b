import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import correlate
from scipy.spatial.distance import jensenshannon

from distort_pipeline.metrics.jsd_nss import jsd_bits, jsd_bits_rows, jsd_nats, jsd_nss

SAMPLE = Path(__file__).parents[2] / "data/sample"
PHOTOGRAPHS = sorted(SAMPLE.glob("*.png"))

histograms = arrays.arrays(np.int64, 12, elements=st.integers(0, 10**6)).filter(lambda counts: counts.sum() > 0)


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def noisy(image):
    noise = np.random.default_rng(7).normal(0, 19, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def compressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)


def reference_jsd_nss(true, generated):
    """SPEC's five steps, each as plainly as NumPy and SciPy can say it, in float64."""
    y, x = np.mgrid[-3:4, -3:4]
    window = np.exp(-(x**2 + y**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    proportions = []
    for image in (true, generated):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
        mean = correlate(grey, window, mode="nearest")
        variance = np.maximum(correlate(grey**2, window, mode="nearest") - mean**2, 0)
        field = (grey - mean) / (np.sqrt(variance) + 1)
        products = field[:-1, :-1] * field[1:, 1:]
        bins = np.concatenate([[-np.inf], np.linspace(-2, 2, 102), [np.inf]])
        proportions.append(np.histogram(products, bins)[0] / products.size)
    p, q = proportions
    bits = 0.0
    for p_k, q_k in zip(p, q, strict=True):
        for share in (p_k, q_k):
            if share > 0:
                bits += 0.5 * share * math.log2(share / ((p_k + q_k) / 2))
    return bits


@pytest.mark.parametrize("distort", [noisy, compressed])
@pytest.mark.parametrize("path", PHOTOGRAPHS[::3], ids=lambda path: path.stem)
def test_float32_jsd_nss_agrees_with_the_definition_in_float64(path, distort):
    pristine = read(path)
    distorted = distort(pristine)
    expected = reference_jsd_nss(pristine, distorted)
    assert expected > 0.005  # there is something to measure
    assert jsd_nss(pristine, distorted) == pytest.approx(expected, abs=1e-5)


def test_closed_forms():
    assert jsd_bits(np.array([3, 1, 0]), np.array([3, 1, 0])) == 0
    assert jsd_bits(np.array([3, 1, 7]), np.array([9, 3, 21])) == 0  # proportions count, not sizes
    assert jsd_bits(np.array([5, 2, 0, 0]), np.array([0, 0, 1, 1])) == pytest.approx(1, abs=1e-15)
    # (1/2, 1/2) and (1, 0) around (3/4, 1/4): half of 1/2 log2(2/3) + 1/2 log2(2), and half of log2(4/3)
    by_hand = (0.5 * math.log2(2 / 3) + 0.5 + math.log2(4 / 3)) / 2
    assert jsd_bits(np.array([1, 1]), np.array([1, 0])) == pytest.approx(by_hand, abs=1e-15)


@given(histograms, histograms)
def test_symmetric_bounded_and_the_square_of_scipys_distance(p, q):
    bits = jsd_bits(p, q)
    assert 0 <= bits <= 1
    assert bits == jsd_bits(q, p)
    assert jsd_bits(p, p) == 0
    assert jsd_nats(p, q) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12, nan_ok=True)


def test_rows_are_the_single_ones():
    p, q = np.random.default_rng(0).integers(0, 50, (2, 4, 9))
    assert jsd_bits_rows(p, q).tolist() == pytest.approx([jsd_bits(*pair) for pair in zip(p, q, strict=True)])
    assert jsd_bits_rows(p, q[0]).tolist() == pytest.approx([jsd_bits(row, q[0]) for row in p])


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([0, 0], [1, 1], "positive sum"),
        ([1, 1], [0, 0], "positive sum"),
        ([2, -1], [1, 1], "0 or more"),
        ([1, 1, 1], [1, 1], "differ in bins"),
        ([[1, 1]], [1, 1], "one histogram"),
    ],
)
def test_what_is_no_histogram_is_refused(p, q, message):
    with pytest.raises(ValueError, match=message):
        jsd_bits(np.array(p), np.array(q))


def test_flat_images_have_a_divergence():
    dark, bright = (np.full((16, 16, 3), grey, np.uint8) for grey in (3, 250))
    assert jsd_nss(dark, bright) == 0
    assert 0 < jsd_nss(dark, np.random.default_rng(0).integers(0, 256, dark.shape, np.uint8)) <= 1
