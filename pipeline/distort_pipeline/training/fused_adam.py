"""Keras's Adam in a single pass over each weight, where Keras makes a dozen. TensorFlow only."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam with TensorFlow's fused update: D. P. Kingma, J. L. Ba, "Adam", ICLR 2015."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one `variable` and its two moments."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:  # mirrored variables
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        first, second = (moments[index].value for moments in (self._momentums, self._velocities))
        rate, beta_1, beta_2, epsilon = (
            tf.cast(number, variable.dtype) for number in (learning_rate, self.beta_1, self.beta_2, self.epsilon)
        )
        steps = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=beta_1**steps,
            beta2_power=beta_2**steps,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )
