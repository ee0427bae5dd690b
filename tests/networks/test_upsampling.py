import keras
import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.generator import UNet
from distort_pipeline.networks.layers import SubpixelConv2DTranspose
from studies.nearest_upsampling import FEW_FILTERS, NearestUpsampledConv2D

TRANSPOSED = {"kernel_size": 4, "strides": 2, "padding": "same"}


def both(channels, filters, seed=0, **options):
    """Return the layer, and Keras's with the same weights."""
    layers = [
        SubpixelConv2DTranspose(filters, **TRANSPOSED, **options),
        keras.layers.Conv2DTranspose(filters, **TRANSPOSED),
    ]
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((4, 4, filters, channels)), rng.standard_normal(filters)]
    for layer in layers:
        layer.build((None, None, None, channels))
        layer.set_weights(weights)
    return layers


def nearest(filters):
    return keras.Sequential([keras.layers.UpSampling2D(2), keras.layers.Conv2D(filters, 4, padding="same")])


def pixels(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (1, 1), (1, 6), (2, 3), (16, 9)])
def test_it_is_keras_transposed_convolution_borders_included(height, width):
    layer, plain = both(5, 3)
    inputs = pixels(2, height, width, 5)
    np.testing.assert_allclose(layer(inputs), plain(inputs), rtol=0, atol=2e-5)  # sums of 20 standard normals


def test_its_gradients_are_those_of_the_plain_form():
    layer, plain = both(4, 3)
    inputs, target = pixels(2, 5, 7, 4), pixels(2, 10, 14, 3, seed=2)
    gradients = []
    for network in (layer, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(network(inputs) * target)
        gradients.append(tape.gradient(loss, [inputs, *network.trainable_variables]))
    for gradient, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-4)  # sums of up to 280 products


def test_images_of_sizes_known_only_when_they_come_are_no_others():
    layer, _ = both(3, 2)
    compiled = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for shape in ((2, 8, 4, 3), (1, 3, 6, 3)):
        np.testing.assert_allclose(compiled(pixels(*shape)), layer(pixels(*shape)), rtol=0, atol=1e-5)


def test_in_bfloat16_it_is_close():
    layer, plain = both(8, 3, dtype="mixed_bfloat16")
    inputs = pixels(1, 8, 8, 8)
    upsampled = layer(inputs)
    assert upsampled.dtype == tf.bfloat16
    exact = np.asarray(plain(inputs))
    assert np.abs(np.asarray(tf.cast(upsampled, tf.float32)) - exact).max() < 0.03 * np.abs(exact).max()


def learned_checkerboard(layer):
    """Return what is left of a checkerboard of 2 x 2 px period that `layer` learns to make of a constant, as a share.

    The layer is linear in its kernel: one response for each of its sixteen weights, and least squares.
    """
    size, inside = 8, slice(4, -4)
    constant = np.ones((1, size, size, 1), np.float32)
    checkerboard = (-1.0) ** np.add.outer(np.arange(2 * size), np.arange(2 * size))
    layer.build(constant.shape)
    responses = []
    for weight in np.eye(16):
        layer.set_weights([weight.reshape(layer.get_weights()[0].shape), np.zeros(1)])
        responses.append(np.asarray(layer(constant))[0, inside, inside, 0].ravel())
    target = checkerboard[inside, inside].ravel()
    solution = np.linalg.lstsq(np.stack(responses, axis=1), target, rcond=None)[0]
    return np.square(target - np.stack(responses, axis=1) @ solution).mean()


def test_the_papers_upsampling_can_make_a_checkerboard_and_nearest_upsampling_cannot():
    last, inner = (UNet(base_filters=2)._upsampled(filters, "up", use_bias=True) for filters in (1, 16))
    assert isinstance(last, SubpixelConv2DTranspose)
    assert type(inner) is keras.layers.Conv2DTranspose
    assert learned_checkerboard(last) < 1e-10
    assert learned_checkerboard(keras.layers.Conv2DTranspose(1, **TRANSPOSED)) < 1e-10
    assert learned_checkerboard(nearest(1)) > 0.999  # a zero at the Nyquist frequency


@pytest.mark.parametrize("filters", [5, FEW_FILTERS + 1])  # one for each computation
def test_the_studys_form_is_nearest_upsampling_and_a_convolution(filters):
    layer, plain = NearestUpsampledConv2D(filters, use_bias=True), nearest(filters)
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((4, 4, 3, filters)), rng.standard_normal(filters)]
    for network in (layer, plain):
        network.build((None, None, None, 3))
        network.set_weights(weights)
    for shape in ((2, 5, 7, 3), (1, 1, 6, 3)):
        np.testing.assert_allclose(layer(pixels(*shape)), plain(pixels(*shape)), rtol=0, atol=2e-5)
