"""A watermark robust to JPEG, trained through a generator as differentiable surrogate of JPEG.

JPEG rounds and has no useful gradient; the exported generator has a gradient. The mark is a pattern for each bit, added
to luma; the reader is linear after a learned filter. Trainings differ only in the channel between mark and reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distort_pipeline.distortions import apply
from distort_pipeline.records import LEVELS_PER_UNIT, Image, denormalize, derive_seed, make_rng, normalize

BITS = 16
PATTERN_PX = 32  # a pattern repeats over the crop; a multiple of JPEG's grid
FILTER_PX = 7
RATE = 3e-3
LUMA = (0.299, 0.587, 0.114)  # BT.601

Channel = Callable[[Any], Any]  # pixels (N, H, W, 3) in [-1, 1] → the same, differentiable


@dataclass(frozen=True)
class Marker:
    """The trained parts: a pattern for each bit, and a reader."""

    patterns: Any  # (PATTERN_PX, PATTERN_PX, BITS)
    filter: Any  # (FILTER_PX, FILTER_PX, 1, 1), removes the photograph before reading
    reader: Any  # (PATTERN_PX, PATTERN_PX, BITS)
    gain: Any

    @property
    def variables(self) -> list[Any]:
        """The trainable variables."""
        return [self.patterns, self.filter, self.reader, self.gain]

    def mark(self, images: Any, message: Any, strength_8bit: float) -> Any:
        """Return `images` (N, H, W, 3) with the ±1 `message` (N, BITS) embedded, at `strength_8bit`."""
        mark = tf.einsum("yxb,nb->nyx", self.patterns, message)
        mark *= strength_8bit / LEVELS_PER_UNIT / (tf.math.reduce_std(mark, (1, 2), keepdims=True) + 1e-6)
        times = (1, images.shape[1] // PATTERN_PX, images.shape[2] // PATTERN_PX)
        return tf.clip_by_value(images + tf.tile(mark, times)[..., None], -1.0, 1.0)

    def read(self, images: Any) -> Any:
        """Return a logit for each bit, (N, BITS)."""
        luma = tf.tensordot(images, tf.constant(LUMA), 1)[..., None]
        clean = tf.nn.conv2d(luma, self.filter, 1, "SAME")[..., 0]
        down, across = clean.shape[1] // PATTERN_PX, clean.shape[2] // PATTERN_PX
        pattern = tf.reduce_mean(tf.reshape(clean, (-1, down, PATTERN_PX, across, PATTERN_PX)), (1, 3))
        return self.gain * tf.einsum("yxb,nyx->nb", self.reader, pattern)


def new_marker(seed: int) -> Marker:
    """Return a marker with equal random patterns in mark and reader, and a filter that removes local means."""
    rng = make_rng(seed)
    patterns = rng.standard_normal((PATTERN_PX, PATTERN_PX, BITS)).astype(np.float32)
    sharpen = np.full((FILTER_PX, FILTER_PX, 1, 1), -1 / FILTER_PX**2, np.float32)
    sharpen[FILTER_PX // 2, FILTER_PX // 2] += 1
    return Marker(tf.Variable(patterns), tf.Variable(sharpen), tf.Variable(patterns), tf.Variable(np.float32(1)))


def train_marker(
    crops: Iterator[NDArray[np.uint8]], channel: Channel, *, steps: int, strength_8bit: float, seed: int
) -> Marker:
    """Return a marker trained on `steps` batches of `crops`, marked and passed through `channel`."""
    marker = new_marker(seed)
    optimiser = keras.optimizers.Adam(RATE)
    rng = make_rng(derive_seed(seed, "messages"))

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, message: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = marker.read(channel(marker.mark(images, message, strength_8bit)))
            loss = tf.reduce_mean(tf.nn.softplus(-message * logits))
        optimiser.apply(tape.gradient(loss, marker.variables), marker.variables)
        return loss

    for _, batch in zip(range(steps), crops, strict=False):
        step(tf.constant(normalize(batch)), tf.constant(random_messages(len(batch), rng)))
    return marker


def random_messages(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `count` messages of ±1, (count, BITS)."""
    return rng.choice(np.array([-1, 1], np.float32), (count, BITS))


def true_jpeg(images: Any, parameters: Mapping[str, float]) -> NDArray[np.float32]:
    """Return network pixels (N, H, W, 3) after 8 bits and the real codec."""
    rng = make_rng(0)  # unused by JPEG
    return normalize(np.stack([apply("jpeg", image, parameters, rng).image for image in denormalize(images)]))


def straight_through(parameters: Mapping[str, float]) -> Channel:
    """Return the real codec with the gradient of the identity (straight-through estimator), for comparison."""

    def channel(images: Any) -> Any:
        real = tf.numpy_function(lambda values: true_jpeg(values, parameters), [images], tf.float32)
        real.set_shape(images.shape)
        return images + tf.stop_gradient(real - images)

    return channel


def surrogate(model: keras.Model) -> Channel:
    """Return the exported generator as a channel; its weights are frozen."""
    model.trainable = False
    return lambda images: model(images, training=False)


def bits_right(
    marker: Marker, crops: Sequence[Image], parameters: Mapping[str, float], *, strength_8bit: float, seed: int
) -> tuple[float, float]:
    """Return the shares of bits read correctly from marked crops: clean, and after the real JPEG."""
    message = random_messages(len(crops), make_rng(seed))
    marked = np.asarray(marker.mark(tf.constant(normalize(np.stack(crops))), tf.constant(message), strength_8bit))
    clean, compressed = (
        float(np.mean(np.asarray(marker.read(tf.constant(pixels))) * message > 0))
        for pixels in (normalize(denormalize(marked)), true_jpeg(marked, parameters))
    )
    return clean, compressed
