import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.networks.losses import discriminator_hinge, generator_adversarial, l1_loss


def logits(*values):
    return tf.constant(np.array(values, np.float32).reshape(1, -1, 1, 1))


@pytest.mark.parametrize(
    ("real", "fake", "loss"),
    [
        (logits(1, 2), logits(-1, -3), 0.0),  # both beyond the margin: nothing to learn
        (logits(0), logits(0), 2.0),  # undecided
        (logits(-1), logits(1), 4.0),  # wrong both times
        (logits(0.5, 3), logits(-0.5, 1), 0.25 + 1.25),
    ],
)
def test_hinge_by_hand(real, fake, loss):
    assert float(discriminator_hinge(real, fake)) == pytest.approx(loss)


def test_the_hinge_pushes_true_pairs_up_and_generated_ones_down():
    # equation 4 as the paper prints it would do the opposite, without end
    real, fake = logits(0.2, -4), logits(0.1, 5)
    with tf.GradientTape() as tape:
        tape.watch([real, fake])
        loss = discriminator_hinge(real, fake)
    up, down = tape.gradient(loss, [real, fake])
    assert np.all(np.asarray(up) < 0)  # descending the loss raises D(x, y)
    assert np.all(np.asarray(down) > 0)
    assert float(discriminator_hinge(logits(1e6), logits(-1e6))) == 0  # bounded below


def test_the_generator_pulls_its_logits_up():
    fake = logits(-1, 3)
    with tf.GradientTape() as tape:
        tape.watch(fake)
        loss = generator_adversarial(fake)
    assert float(loss) == -1
    assert np.asarray(tape.gradient(loss, fake)).ravel().tolist() == [-0.5, -0.5]


def test_l1_loss_by_hand():
    x = np.zeros((2, 2, 2, 3), np.float32)
    y = x.copy()
    y[0, 0, 0, 0] = -0.5
    y[1, 1, 1, :] = 0.25
    # 0.5 and 3 * 0.25 of a range of 2, over 12 values an image
    assert float(l1_loss(y, x, span=2.0, reduction="sum")) == pytest.approx((0.5 + 0.75) / 2)
    assert float(l1_loss(y, x, span=2.0, reduction="mean")) == pytest.approx((0.5 + 0.75) / 24)
    assert float(l1_loss(y, x, span=255.0, reduction="mean")) == pytest.approx((0.5 + 0.75) / 24 * 127.5)
    assert float(l1_loss(x, x, span=255.0, reduction="sum")) == 0


def test_sum_and_mean_differ_by_the_values_of_a_crop():
    x, y = tf.zeros((1, 256, 256, 3)), tf.fill((1, 256, 256, 3), 2 / 255)
    assert float(l1_loss(y, x, span=255.0, reduction="mean")) == pytest.approx(1, rel=1e-4)  # one 8-bit level
    assert float(l1_loss(y, x, span=255.0, reduction="sum")) == pytest.approx(196_608, rel=1e-4)
