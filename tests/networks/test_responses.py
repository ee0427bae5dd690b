import keras
import numpy as np
import pytest

from distort_pipeline.networks.responses import Responses, curve_places, scale_features
from distort_pipeline.networks.transforms import TRANSFORMS


def built(transform):
    layer = Responses(transform)
    layer.build((None, None, None, 3))
    return layer


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_before_a_fit_nothing_changes(transform):
    assert not np.any(built(transform)(pictures(2, 128, 128, 3)))


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_curves_that_cancel_every_coefficient_leave_mid_grey(transform):
    layer = built(transform)
    for variable, curves in zip(layer.curves, layer.transform.curves, strict=True):
        knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
        variable.assign(np.tile(-knots, (curves.count, 1)).astype(np.float32))
    if layer.transform.scaled:
        layer.scale_bias.assign([np.log(200.0).astype(np.float32)])  # so that no coefficient is beyond the last knot
    x = pictures(1, 128, 128, 3) * 0.5
    np.testing.assert_allclose(x + np.asarray(layer(x)), 0, atol=1e-3)


def test_a_staircase_of_one_coefficient_rounds_that_coefficient():
    layer = built("blocks")
    curves = np.zeros((64, 2049), np.float32)
    greys = np.arange(2049) - 1024.0
    curves[0] = 64 * np.rint(greys / 64) - greys
    layer.curves[0].assign(curves)
    grey = np.full((1, 128, 128, 3), 1 / 127.5, np.float32)  # one grey above the middle: 8 in the DCT's scale
    grey[:, :, 64:] = 5 / 127.5  # 40, which rounds up to 64, eight greys
    found = 127.5 * (grey + np.asarray(layer(grey)))
    np.testing.assert_allclose(found[:, :, :64], 0, atol=1e-3)
    np.testing.assert_allclose(found[:, :, 64:], 8, atol=1e-3)


def test_the_scale_is_read_off_the_picture_and_stretches_the_curves():
    layer = built("wavelet")
    layer.scale_bias.assign([np.log(8.0).astype(np.float32)])
    kernel = np.zeros((32, 1), np.float32)
    kernel[0] = 1.0
    layer.scale_kernel.assign(kernel)
    quiet, loud = 0.05 * pictures(1, 128, 128, 3), 0.2 * pictures(1, 128, 128, 3)
    scales = [float(np.asarray(layer.scale(layer.analyse(x))).item()) for x in (quiet, loud)]
    first = [float(np.asarray(scale_features(layer.analyse(x)))[0, 0]) for x in (quiet, loud)]
    np.testing.assert_allclose(scales, 8 * np.exp(first), rtol=1e-4)


def test_values_are_placed_between_knots():
    index, rest = curve_places(np.array([-99.0, -1.0, 0.0, 0.75, 99.0], np.float32), spacing=1.0, knots=5)
    assert np.asarray(index).tolist() == [0, 1, 2, 2, 3]
    np.testing.assert_allclose(rest, [0, 0, 0, 0.75, 1], atol=2e-3)


def test_it_is_rebuilt_from_its_configuration_without_code():
    layer = built("wavelet")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.transform is layer.transform
    assert not layer.trainable_variables
