import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.networks.inputs import GeneratorInputs, noise_shapes


def images(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, shape), tf.float32)


def noises(height, width, channels, batch, seed=0):
    rng = np.random.default_rng(seed)
    return [
        tf.constant(rng.standard_normal((batch, *shape)), tf.float32) for shape in noise_shapes(height, width, channels)
    ]


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_the_paper_size_network_has_the_papers_number_of_weights():
    model = build_generator(Architecture(base_filters=64))
    assert trainable(model) == 41_830_147
    convolutions = [layer for layer in model.layers if layer.name.endswith(("_conv", "_up"))]
    assert len(convolutions) == 14
    # no bias before a batch norm; the last, linear block has one
    assert [layer.name for layer in convolutions if layer.use_bias] == ["decoder_7_up"]


def test_base_filters_scale_every_layer():
    widths = {
        layer.name: layer.filters // 3
        for layer in build_generator(Architecture(base_filters=3)).layers
        if layer.name.endswith(("_conv", "_up"))
    }
    assert list(widths.values()) == [1, 2, 4, 8, 8, 8, 8, 8, 8, 8, 4, 2, 1, 1]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (128, 256)])
def test_the_output_has_the_inputs_shape_and_is_float32(height, width):
    model = build_generator(Architecture(base_filters=2))
    outputs = model(images(2, height, width, 3))
    assert outputs.shape == (2, height, width, 3)
    assert outputs.dtype == tf.float32


@pytest.mark.parametrize("channels", [0, 2])
def test_with_a_zero_last_kernel_the_image_passes_unchanged(channels):
    model = build_generator(Architecture(base_filters=2, noise_channels=channels))
    for name in ["decoder_7_up", *(["decoder_7_noise"] if channels else [])]:
        layer = model.get_layer(name)
        layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    x = images(2, 128, 128, 3) * 1.5  # beyond [-1, 1]: nothing is clipped
    inputs = GeneratorInputs(x, noises(128, 128, channels, 2)).listed()
    for training in (False, True):
        assert np.array_equal(model(inputs, training=training), x)


def test_it_adds_a_residual_that_its_head_scales():
    model = build_generator(Architecture(base_filters=2))
    x = images(1, 128, 128, 3)
    head = model.get_layer("decoder_7_up")
    once = np.asarray(model(x, training=False) - x)
    head.set_weights([2 * weights for weights in head.get_weights()])
    twice = np.asarray(model(x, training=False) - x)
    assert np.abs(once).max() > 1e-4
    np.testing.assert_allclose(twice, 2 * once, atol=1e-5)


def test_every_weight_learns():
    # training mode: in inference mode of a new network the moments of the batch norms are not yet those of its features
    model = build_generator(Architecture(base_filters=2, noise_channels=1))
    inputs = GeneratorInputs(images(2, 128, 128, 3), noises(128, 128, 1, 2)).listed()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(inputs, training=True) ** 2)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.path
        # the bottleneck is one pixel of each of two images: its batch norm leaves little, but never nothing exactly
        assert np.any(np.asarray(gradient)), variable.path


def test_noise_enters_at_every_scale():
    assert noise_shapes(256, 128, 0) == []
    assert noise_shapes(256, 128, 3) == [(2 * 2**n, 2**n, 3) for n in range(1, 8)]
    model = build_generator(Architecture(base_filters=2, noise_channels=2))
    assert [tuple(variable.shape)[1:] for variable in model.inputs] == [(None, None, 3), *[(None, None, 2)] * 7]
    x = images(1, 128, 128, 3)
    z = noises(128, 128, 2, 1)
    still = np.asarray(model(GeneratorInputs(x, z).listed(), training=False))
    for scale in range(7):
        changed = [*z[:scale], z[scale] + 1, *z[scale + 1 :]]
        assert not np.array_equal(model(GeneratorInputs(x, changed).listed(), training=False), still), scale


def test_bfloat16_computes_the_same_image_in_float32():
    exact = build_generator(Architecture(base_filters=4))
    rounded = build_generator(Architecture(base_filters=4), precision="mixed_bfloat16")
    rounded.set_weights(exact.get_weights())
    assert all(variable.dtype == "float32" for variable in rounded.variables)
    x = images(1, 128, 128, 3)
    residual = np.asarray(exact(x, training=False) - x)
    outputs = rounded(x, training=False)
    assert outputs.dtype == tf.float32
    assert 0 < np.abs(np.asarray(outputs - x) - residual).max() < 0.05 * np.abs(residual).max()


def test_in_bfloat16_differences_of_one_level_are_seen_near_white():
    exact = build_generator(Architecture(base_filters=4))
    first = exact.get_layer("encoder_1_conv")
    kernel = np.asarray(first.kernel)
    first.kernel.assign(kernel - kernel.mean((0, 1), keepdims=True))  # sees differences only
    rounded = build_generator(Architecture(base_filters=4), precision="mixed_bfloat16")
    rounded.set_weights(exact.get_weights())
    bright = 0.93 + np.asarray(images(1, 128, 128, 3)) / 128  # within one 8-bit level of each other, near white
    residual, seen = (np.asarray(model(bright, training=False)) - bright for model in (exact, rounded))
    inside = (slice(None), slice(32, 96), slice(32, 96))  # zeros beyond the border are a difference too
    varying, error = (
        values - values.mean((1, 2), keepdims=True) for values in (residual[inside], (seen - residual)[inside])
    )
    assert np.std(error) < 0.1 * np.std(varying)
