"""Batch norm in one pass over the features, where Keras makes a dozen.

Keras casts low-precision features to float32, takes moments, subtracts, multiplies and casts back. Each is a separate
pass over memory, and TensorFlow fuses none, forward or backward: a third of a training step on two cores.
TensorFlow's fused kernel computes the same in float32 internally, for any input type.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="distort_pipeline")
class BatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's own batch norm over the last axis of (N, H, W, c), trained by TensorFlow's fused kernel."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised `inputs`; training uses the moments of the batch and updates the moving moments."""
        fused = training and self.trainable and mask is None and keras.backend.backend() == "tensorflow"
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = _fused(inputs, self.gamma, self.beta, self.epsilon)
        for moving, moment in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + moment * (1 - self.momentum))
        return outputs


def _fused(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return normalised `inputs` in their own type, and mean and variance of each channel, (c,) in float32."""
    import tensorflow as tf

    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, ops.convert_to_tensor(gamma), ops.convert_to_tensor(beta), epsilon=epsilon, is_training=True
    )
    # TensorFlow returns the unbiased variance, divided by n - 1; Keras keeps the batch's, divided by n
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
    return outputs, mean, variance * (count - 1) / count
