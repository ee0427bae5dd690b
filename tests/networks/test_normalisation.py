"""The fused batch norm against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.layers import BatchNorm

CHANNELS = 6


def both(dtype):
    """Ours and Keras's, with the same weights, none of them a fresh norm's."""
    layers = [kind(momentum=0.9, dtype=dtype) for kind in (BatchNorm, keras.layers.BatchNormalization)]
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, (4, CHANNELS))
    for layer in layers:
        layer.build((None, None, None, CHANNELS))
        layer.set_weights(weights)
    return layers


def features(seed, *shape):
    # far from a mean of 0: what a variance of sums of squares alone would get wrong
    return tf.constant(20 + np.random.default_rng(seed).standard_normal((*shape, CHANNELS)), tf.float32)


@pytest.mark.parametrize("shape", [(4, 8, 6), (3, 1, 1), (1, 2, 1), (2, 64, 64)])
def test_a_step_of_training_is_that_of_keras(shape):
    inputs, target = features(1, *shape), features(2, *shape) - 20
    results = []
    for layer in both("float32"):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        sources = [inputs, layer.gamma.value, layer.beta.value]
        gradients = tape.gradient(outputs, sources, output_gradients=target)
        results.append([outputs, *gradients, layer.moving_mean, layer.moving_variance])
    for ours, reference in zip(*results, strict=True):
        scale = np.abs(np.asarray(reference)).max()
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * max(scale, 1))


def test_low_precision_is_that_of_the_features_only():
    inputs = tf.cast(features(1, 4, 16, 16), "bfloat16")
    ours, reference = both("mixed_bfloat16")
    outputs, expected = ours(inputs, training=True), reference(inputs, training=True)
    assert outputs.dtype == expected.dtype == tf.bfloat16
    distance = np.abs(np.asarray(tf.cast(outputs, "float32")) - np.asarray(tf.cast(expected, "float32")))
    assert distance.max() <= 2**-6  # one step of bfloat16 at values from 2 to 4
    for weight, expected_weight in zip(ours.weights, reference.weights, strict=True):
        assert weight.dtype == "float32"
        np.testing.assert_allclose(weight, expected_weight, rtol=1e-5)


def test_inference_is_that_of_keras():
    ours, reference = both("float32")
    inputs = features(1, 2, 4, 4)
    assert np.array_equal(ours(inputs, training=False), reference(inputs, training=False))
    assert np.array_equal(ours(inputs), reference(inputs))


def test_one_that_is_not_trained_keeps_its_moments():
    ours, reference = both("float32")
    inputs = features(1, 2, 4, 4)
    for layer in (ours, reference):
        layer.trainable = False
    assert np.array_equal(ours(inputs, training=True), reference(inputs, training=True))
    assert np.array_equal(ours.moving_mean, reference.moving_mean)


def test_it_is_made_again_from_its_settings():
    layer = BatchNorm(momentum=0.7, name="norm")
    assert BatchNorm.from_config(layer.get_config()).get_config() == layer.get_config()
