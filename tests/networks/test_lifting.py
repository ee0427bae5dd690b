import numpy as np
import pytest
from keras import ops

from distort_pipeline.networks.wavelets import MULTIPLE_PX, analysed, lift, unlift


def planes(*shape):
    return np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)


def test_arrays_and_tensors_are_taken_apart_alike():
    values = planes(2, 64, 96, 3)
    for array_band, tensor_band in zip(analysed(values, np), analysed(ops.convert_to_tensor(values), ops), strict=True):
        np.testing.assert_allclose(array_band, np.asarray(tensor_band), atol=1e-3)


@pytest.mark.parametrize("axis", [1, 2])
def test_what_was_taken_apart_is_put_together_again(axis):
    values = planes(1, 10, 12, 2)
    np.testing.assert_allclose(unlift(*lift(values, axis, np), axis, np), values, atol=1e-3)


def test_bands_hold_as_many_values_as_the_planes_and_nearly_their_energy():
    values = planes(1, 2 * MULTIPLE_PX, 3 * MULTIPLE_PX, 3)
    bands = analysed(values, np)
    assert len(bands) == 16
    assert sum(band.size for band in bands) == values.size
    assert sum(np.square(band).sum() for band in bands) == pytest.approx(np.square(values).sum(), rel=0.1)


def test_a_plain_plane_has_no_details():
    *details, smooth = analysed(np.full((1, 64, 64, 1), 7, np.float32), np)
    assert max(np.abs(band).max() for band in details) < 1e-3
    np.testing.assert_allclose(smooth, smooth[0, 0, 0, 0], rtol=1e-5)
