import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.losses import AMPLIFICATION, DiscriminatorInput, build_discriminator


def images(seed, *shape):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, shape), tf.float32)


@pytest.mark.parametrize("mode", ["plain", "scaled_residual"])
def test_it_has_the_papers_number_of_weights_and_logits(mode):
    model = build_discriminator(discriminator_input=mode)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 2_769_601
    small = build_discriminator(base_filters=2, discriminator_input=mode)
    for side, patches in ((256, 30), (128, 14)):
        logits = small([images(0, 2, side, side, 3), images(1, 2, side, side, 3)])
        assert logits.shape == (2, patches, patches, 1)
        assert logits.dtype == tf.float32


def test_logits_are_no_probabilities():
    model = build_discriminator(base_filters=2)
    head = model.get_layer("logits_conv")
    head.set_weights([0 * head.get_weights()[0], np.array([-7.5])])
    logits = np.asarray(model([images(0, 1, 64, 64, 3), images(1, 1, 64, 64, 3)]))
    assert np.unique(logits).tolist() == [-7.5]


@pytest.mark.parametrize("mode", ["plain", "scaled_residual"])
def test_a_logit_sees_70_pixels(mode):
    # inference mode: in training the batch norm joins all pixels
    model = build_discriminator(base_filters=4, discriminator_input=mode)
    for pixels in (0, 1):
        pair = [images(2, 1, 256, 256, 3), images(3, 1, 256, 256, 3)]
        with tf.GradientTape() as tape:
            tape.watch(pair[pixels])
            logit = model(pair, training=False)[0, 15, 14, 0]
        touched = np.abs(np.asarray(tape.gradient(logit, pair[pixels]))[0]).max(-1) > 0
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == 70
        assert touched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].mean() > 0.999


def test_both_discriminator_inputs_keep_the_whole_pair():
    x, y = images(0, 1, 4, 4, 3), images(1, 1, 4, 4, 3)
    plain = np.asarray(DiscriminatorInput("plain")([x, y]))
    assert np.array_equal(plain, np.concatenate([x, y], -1))
    amplified = np.asarray(DiscriminatorInput("scaled_residual")([x, y]))
    assert np.array_equal(amplified[..., :3], x)
    np.testing.assert_allclose(x + amplified[..., 3:] / AMPLIFICATION, y, atol=1e-6)
    assert not DiscriminatorInput("scaled_residual")([x, x])[..., 3:].numpy().any()
    with pytest.raises(ValueError, match="sideways"):
        DiscriminatorInput("sideways")


def test_bfloat16_keeps_the_pairs_small_difference():
    exact = build_discriminator(base_filters=4, discriminator_input="scaled_residual")
    rounded = build_discriminator(base_filters=4, discriminator_input="scaled_residual", precision="mixed_bfloat16")
    rounded.set_weights(exact.get_weights())
    x = images(0, 1, 64, 64, 3)
    y = x + 1 / 127.5
    # a difference of one level would be half lost if taken after rounding to bfloat16
    difference = np.asarray(rounded.get_layer("discriminator_input")([x, y]))[..., 3:]
    np.testing.assert_allclose(difference, AMPLIFICATION / 127.5, rtol=1e-4)
    logits = rounded([x, y], training=False)
    assert logits.dtype == tf.float32
    expected = np.asarray(exact([x, y], training=False))
    assert np.abs(np.asarray(logits) - expected).max() < 0.05 * np.abs(expected).max()
