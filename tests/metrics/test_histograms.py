import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distort_pipeline.metrics.jsd_nss import (
    DIRECTIONS,
    centres,
    edges,
    histogram,
    luma,
    pair_histogram,
    pair_products,
    plane_histogram,
    product_histogram,
)


def reference_histogram(values):
    """NumPy's histogram, between the two overflow counts."""
    inner, _ = np.histogram(values, bins=101, range=(-2, 2))
    return np.concatenate([[np.sum(values < -2)], inner, [np.sum(values > 2)]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_numpy_and_counts_both_ends(dtype):
    values = np.random.default_rng(0).normal(0, 1.2, (200, 300)).astype(dtype)
    counts = histogram(values)
    assert counts.shape == (103,)
    assert counts.dtype == np.int64
    assert counts[0] > 1000
    assert counts[-1] > 1000
    # a value within a rounding error of an edge may be counted next door, in float32
    assert np.abs(counts - reference_histogram(values)).sum() <= (4 if dtype == np.float32 else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "index"),
    [
        (-2.0, 1),  # a bin holds its left edge
        (np.nextafter(np.float32(-2), np.float32(-3)), 0),
        (0.0, 51),  # the middle of the middle bin
        (2.0, 101),  # and the last one its right edge too
        (np.nextafter(np.float32(2), np.float32(0)), 101),  # 2 added, float32 rounds it to 4
        (np.nextafter(np.float32(2), np.float32(3)), 102),
        (-1e30, 0),
        (np.inf, 102),
    ],
)
def test_ends(dtype, value, index):
    assert np.flatnonzero(histogram(np.array([value], dtype))).tolist() == [index]


@given(arrays.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32, allow_nan=False)))
def test_no_mass_is_lost(values):
    assert histogram(values).sum() == values.size


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        histogram(np.array([0.0, np.nan]))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_are_counted_as_their_products_are(dtype, direction):
    field = np.random.default_rng(4).normal(0, 1.2, (300, 450)).astype(dtype)  # more than one block
    field[7, 9:11] = 255, -255  # the largest there can be
    counts = pair_histogram(field, direction)
    products = pair_products(field, direction)
    assert counts.sum() == products.size
    assert counts[0] > 1000
    assert counts[-1] > 1000
    assert np.abs(counts - reference_histogram(products)).sum() <= (12 if dtype == np.float32 else 0)


def test_product_of_two_is_in_the_last_bin_and_of_minus_two_in_the_first():
    assert np.flatnonzero(pair_histogram(np.array([[1.0, 2.0]]), "H")).tolist() == [101]
    assert np.flatnonzero(pair_histogram(np.array([[1.0, -2.0]]), "H")).tolist() == [1]


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (0, 5), (5, 0)])
def test_where_nothing_has_a_diagonal_neighbour_nothing_is_counted(shape):
    assert not pair_histogram(np.zeros(shape, np.float32), "D1").any()


def test_products_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        pair_histogram(np.array([[0.0, np.nan], [1.0, 1.0]]), "V")


def test_edges_and_centres_fit_the_counts():
    assert len(edges()) == 102
    np.testing.assert_allclose(centres()[1:-1], (edges()[:-1] + edges()[1:]) / 2, atol=1e-12)
    assert centres()[51] == 0
    assert centres()[0] < -2
    assert centres()[-1] > 2


def test_flat_image_puts_every_product_into_the_middle_bin():
    counts = product_histogram(np.full((20, 30, 3), 77, np.uint8))
    assert counts[51] == counts.sum() == 19 * 29


def test_jsd_nss_is_of_the_luma_plane_of_the_image():
    image = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(product_histogram(image), plane_histogram(luma(image)))
    assert not np.array_equal(product_histogram(image), plane_histogram(image[..., 0]))
