"""Keras's Adam in one pass over each weight, where it makes a dozen. TensorFlow only."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's own Adam, its update by TensorFlow's kernel for it: D. P. Kingma, J. L. Ba, "Adam", ICLR 2015."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one `variable` and its two moments."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:  # its variables have a copy on each GPU
            super().update_step(gradient, variable, learning_rate)
            return
        place = self._get_variable_index(variable)
        first, second = (moments[place].value for moments in (self._momentums, self._velocities))
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
