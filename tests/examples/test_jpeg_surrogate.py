"""The watermark experiment at a tiny size: amplitude of the mark, training, and the real JPEG."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distort_pipeline.distortions import apply
from distort_pipeline.records import LEVELS_PER_UNIT, denormalize, make_rng, normalize
from examples.jpeg_surrogate.__main__ import main
from examples.jpeg_surrogate.experiment import (
    BITS,
    bits_right,
    new_marker,
    random_messages,
    straight_through,
    surrogate,
    train_marker,
    true_jpeg,
)

pytest_plugins = ["corpus_fixtures"]
QUALITY = {"quality": 12}


@pytest.fixture
def crops(sample_images):
    """A function that gives batches of four crops without end."""

    def make():
        rng = make_rng(3)
        while True:
            chosen = [list(sample_images.values())[index] for index in rng.integers(len(sample_images), size=4)]
            corners = [16 * rng.integers((np.array(image.shape[:2]) - 64) // 16 + 1) for image in chosen]
            yield np.stack([image[y : y + 64, x : x + 64] for image, (y, x) in zip(chosen, corners, strict=True)])

    return make


def test_a_mark_has_the_requested_deviation_and_message():
    marker = new_marker(0)
    flat = tf.zeros((3, 64, 64, 3))
    message = random_messages(3, make_rng(1))
    marked = np.asarray(marker.mark(flat, tf.constant(message), 6.0))
    np.testing.assert_allclose(marked.std((1, 2, 3)) * LEVELS_PER_UNIT, 6.0, rtol=1e-3)
    assert (np.sign(np.asarray(marker.read(tf.constant(marked)))) == message).mean() > 0.95


def test_training_through_the_identity_reads_clean_images_better(crops):
    held_out = list(next(crops())) * 4
    before, after = (
        bits_right(
            train_marker(crops(), lambda images: images, steps=steps, strength_8bit=0.5, seed=0), held_out, QUALITY,
            strength_8bit=0.5, seed=2,
        )[0]
        for steps in (0, 60)
    )  # fmt: skip
    assert after > before + 0.05


def test_straight_through_gives_the_real_jpeg_and_a_gradient(crops):
    images = tf.constant(normalize(next(crops())))
    with tf.GradientTape() as tape:
        tape.watch(images)
        out = straight_through(QUALITY)(images)
    real = np.stack([apply("jpeg", image, QUALITY, make_rng(0)).image for image in denormalize(images)])
    np.testing.assert_array_equal(denormalize(out), real)
    np.testing.assert_array_equal(denormalize(true_jpeg(images, QUALITY)), real)
    np.testing.assert_allclose(np.asarray(tape.gradient(out, images)), 1.0)


def test_a_generator_in_the_loop_trains_the_mark_and_stays_frozen(crops):
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(3, 5, padding="same")])
    weights = [value.copy() for value in model.get_weights()]
    trained = train_marker(crops(), surrogate(model), steps=2, strength_8bit=6.0, seed=0)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.abs(np.asarray(trained.patterns) - np.asarray(new_marker(0).patterns)).max() > 0


@pytest.mark.usefixtures("eager")
def test_the_program_prints_a_row_for_each_channel(models, small_manifest, capsys):
    sizes = ["--steps", "1", "--batch-size", "2", "--crop-px", "128", "--test-crops", "2"]
    main(["--model", str(models / "jpeg"), "--manifest", str(small_manifest), *sizes])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{BITS} bits in 128 px crops")
    assert [line[:36].strip() for line in lines[2:]] == ["identity", "the generator", "JPEG, straight through"]
    assert all(0 <= float(value) <= 1 for line in lines[2:] for value in line[36:].split())
