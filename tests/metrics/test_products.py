import numpy as np
import pytest

from distort_pipeline.metrics.jsd_nss import DIRECTIONS, pair_products

STEPS = {"H": (0, 1), "V": (1, 0), "D1": (1, 1), "D2": (1, -1)}  # rows down, columns to the right


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_product_is_of_a_pixel_and_its_neighbour_and_none_wraps(direction):
    field = np.random.default_rng(0).standard_normal((5, 7))
    down, right = STEPS[direction]
    expected = [
        [field[i, j] * field[i + down, j + right] for j in range(7) if 0 <= j + right < 7] for i in range(5 - down)
    ]
    np.testing.assert_array_equal(pair_products(field, direction), expected)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_precision_is_kept(direction):
    assert pair_products(np.ones((3, 3), np.float32), direction).dtype == np.float32


def test_directions_differ_on_a_vertical_edge():
    field = np.tile([1.0, 1.0, -1.0, -1.0], (4, 1))
    assert pair_products(field, "V").min() == 1
    assert all(pair_products(field, direction).min() == -1 for direction in ("H", "D1", "D2"))
