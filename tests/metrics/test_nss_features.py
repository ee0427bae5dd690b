from pathlib import Path

import cv2
import numpy as np
import pytest

from distort_pipeline.metrics.jsd_nss import (
    JSD_NSS,
    NSS_FEATURES,
    feature_divergences,
    half_size,
    jsd_bits,
    nss_histograms,
    plane_histogram,
    product_histogram,
)

SAMPLE = Path(__file__).parents[2] / "data/sample"


@pytest.fixture(scope="module")
def image():
    return cv2.cvtColor(cv2.imread(str(sorted(SAMPLE.glob("*.png"))[0])), cv2.COLOR_BGR2RGB)[:257, :301]


def test_names_and_shape(image):
    assert len(set(NSS_FEATURES)) == 12
    counts = nss_histograms(image)
    assert counts.shape == (12, 103)
    assert counts.dtype == np.int64
    sizes = dict(zip(NSS_FEATURES, counts.sum(1).tolist(), strict=True))
    assert sizes["mscn_1"] == 257 * 301
    assert sizes["h_1"] == 257 * 300
    assert sizes["v_1"] == 256 * 301
    assert sizes["d2_1"] == sizes["cb"] == sizes["cr"] == 256 * 300
    assert sizes["mscn_2"] == 128 * 150  # odd edges are cropped
    assert sizes["d1_2"] == 127 * 149


def test_jsd_nss_is_a_feature(image):
    np.testing.assert_array_equal(nss_histograms(image)[NSS_FEATURES.index(JSD_NSS)], product_histogram(image))


def test_half_size_is_the_mean_of_boxes():
    plane = np.random.default_rng(0).integers(0, 256, (7, 9), np.uint8)
    expected = [[plane[i : i + 2, j : j + 2].mean() for j in range(0, 8, 2)] for i in range(0, 6, 2)]
    assert half_size(plane).dtype == np.float32
    np.testing.assert_array_equal(half_size(plane), expected)
    assert half_size(plane.astype(np.float64)).dtype == np.float64


def test_chroma_rows_are_the_right_planes():
    """Only blue varies, and red and green together undo it in the luma: Cb sees it far more than Cr."""
    image = np.full((64, 64, 3), 128, np.uint8)
    image[..., 2] = np.random.default_rng(0).integers(0, 256, (64, 64))
    counts = dict(zip(NSS_FEATURES, nss_histograms(image), strict=True))
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    assert planes[..., 2].std() > 3 * planes[..., 1].std()
    np.testing.assert_array_equal(counts["cb"], plane_histogram(planes[..., 2]))
    np.testing.assert_array_equal(counts["cr"], plane_histogram(planes[..., 1]))


def test_divergences_carry_the_names(image):
    rows = nss_histograms(image)
    blurred = nss_histograms(cv2.blur(image, (3, 3)))
    divergences = feature_divergences(rows, blurred)
    assert tuple(divergences) == NSS_FEATURES
    assert all(
        divergences[name] == pytest.approx(jsd_bits(*pair))
        for name, *pair in zip(NSS_FEATURES, rows, blurred, strict=True)
    )
    assert min(divergences.values()) > 0
    assert set(feature_divergences(rows, rows).values()) == {0.0}


def test_blocking_shows_in_h_and_v_more_than_in_jsd_nss(image):
    """Nearest-neighbour blocks of 8 × 1 and 1 × 8 px are flat in one direction only."""
    rows = nss_histograms(image)
    stripes = np.repeat(image[:, ::8], 8, axis=1)[:, : image.shape[1]]
    divergences = feature_divergences(rows, nss_histograms(stripes))
    assert divergences["h_1"] > 1.2 * divergences["v_1"]


def test_another_number_of_rows_is_refused(image):
    rows = nss_histograms(image)
    with pytest.raises(ValueError, match="12 histograms"):
        feature_divergences(rows[:3], rows[:3])
