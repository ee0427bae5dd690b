import keras
import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.layers import FEW_FILTERS, UpsampledConv2D, composed_kernel, fused_kernel

FILTERS = (5, FEW_FILTERS + 1)  # one for each computation


def both(channels, filters, seed=0, **options):
    """The layer, and the plain form that it stands for, with the same weights."""
    layer = UpsampledConv2D(filters, use_bias=True, **options)
    plain = keras.Sequential([keras.layers.UpSampling2D(2), keras.layers.Conv2D(filters, 4, padding="same")])
    layer.build((None, None, None, channels))
    plain.build((None, None, None, channels))
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((4, 4, channels, filters)), rng.standard_normal(filters)]
    layer.set_weights(weights)
    plain.set_weights(weights)
    return layer, plain


def pixels(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (1, 1), (1, 6), (2, 3), (16, 9)])
@pytest.mark.parametrize("filters", FILTERS)
def test_it_is_upsampling_and_convolution_borders_included(filters, height, width):
    layer, plain = both(3, filters)
    inputs = pixels(2, height, width, 3)
    assert layer(inputs).shape == (2, 2 * height, 2 * width, filters)
    np.testing.assert_allclose(layer(inputs), plain(inputs), rtol=0, atol=2e-5)  # sums of 48 standard normals


@pytest.mark.parametrize("filters", FILTERS)
def test_its_gradients_are_those_of_the_plain_form(filters):
    layer, plain = both(3, filters)
    inputs = pixels(2, 5, 7, 3)
    target = pixels(2, 10, 14, filters, seed=2)
    gradients = []
    for network in (layer, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(network(inputs) * target)
        variables = network.trainable_variables
        assert [tuple(variable.shape) for variable in variables] == [(4, 4, 3, filters), (filters,)]
        gradients.append(tape.gradient(loss, [inputs, *variables]))
    for gradient, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-4)  # sums of up to 280 products


@pytest.mark.parametrize("filters", [1, FEW_FILTERS + 1])
def test_one_impulse_shows_the_kernel_and_its_position(filters):
    layer, plain = both(1, filters)
    layer.set_weights([np.repeat(np.arange(16.0), filters).reshape(4, 4, 1, filters), np.zeros(filters)])
    plain.set_weights(layer.get_weights())
    impulse = np.zeros((1, 5, 5, 1), np.float32)
    impulse[0, 2, 2, 0] = 1
    response = np.asarray(layer(impulse))[0, :, :, 0]
    assert np.array_equal(response, np.asarray(plain(impulse))[0, :, :, 0])
    # the impulse fills output pixels 4 and 5, which the kernel's rows and columns reach from 2 to 6
    rows, columns = np.nonzero(response)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 2, 6)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (1, 6), (16, 9)])
@pytest.mark.parametrize("filters", FILTERS)
def test_a_fused_layer_equals_the_trained_one(filters, height, width):
    layer, plain = both(3, filters)
    fused = UpsampledConv2D(filters, use_bias=True, fused=True)
    fused.build((None, None, None, 3))
    fused.set_weights([fused_kernel(layer.kernel.value), layer.bias])
    inputs = pixels(2, height, width, 3)
    np.testing.assert_allclose(fused(inputs), plain(inputs), rtol=0, atol=2e-5)
    assert np.array_equal(fused.trained_kernel(), layer.trained_kernel())


def test_the_composed_kernel_keeps_every_weight_four_times():
    kernel = np.random.default_rng(0).standard_normal((4, 4, 2, 3)).astype(np.float32)
    composed = np.asarray(composed_kernel(kernel))
    assert composed.shape == (5, 5, 3, 2)
    np.testing.assert_allclose(composed.sum((0, 1)).T, 4 * kernel.sum((0, 1)), rtol=1e-5, atol=1e-5)


def test_it_is_made_again_from_its_settings():
    layer = UpsampledConv2D(5, use_bias=True, name="up")
    rebuilt = UpsampledConv2D.from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()
    assert layer.compute_output_shape((2, 3, None, 4)) == (2, 6, None, 5)


def test_images_of_sizes_known_only_when_they_come_are_no_others():
    layer, _ = both(3, FEW_FILTERS + 1)
    compiled = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for shape in ((2, 8, 4, 3), (1, 3, 6, 3)):
        np.testing.assert_allclose(compiled(pixels(*shape)), layer(pixels(*shape)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("filters", FILTERS)
def test_in_bfloat16_it_is_close(filters):
    layer, plain = both(8, filters, dtype="mixed_bfloat16")
    inputs = pixels(1, 8, 8, 8)
    upsampled = layer(inputs)
    assert upsampled.dtype == tf.bfloat16
    exact = np.asarray(plain(inputs))
    assert np.abs(np.asarray(tf.cast(upsampled, tf.float32)) - exact).max() < 0.03 * np.abs(exact).max()
