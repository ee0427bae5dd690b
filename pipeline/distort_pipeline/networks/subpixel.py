"""A transposed convolution of stride 2 as an ordinary convolution, whose filters are the four phases of its output.

Rows 0, 2, 4, ... of the output read other rows of the 4x4 kernel than rows 1, 3, 5, ... do, and so do columns. Each of
the four kinds of output pixel is a 2x2 convolution of the input: one convolution makes all four, as four times as many
filters, and they are put in their places. Forwards oneDNN does this in half the time where there are many channels;
its gradient takes longer, and so training goes the other way.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

PHASES = 2  # on each axis


def subpixel_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) kernel that makes all phases, for the (4, 4, c, filters) `kernel` of one."""
    channels, filters = kernel.shape[2:]
    taps = ops.reshape(kernel, (PHASES, PHASES, PHASES, PHASES, channels, filters))  # row, its phase, column, its phase
    taps = ops.transpose(ops.flip(taps, axis=(1, 3)), (0, 2, 4, 1, 3, 5))
    return ops.reshape(taps, (PHASES, PHASES, channels, PHASES**2 * filters))


def full_kernel(phases: Any) -> Any:
    """Return the (4, 4, c, filters) kernel whose `subpixel_kernel` is `phases`."""
    channels, filters = phases.shape[2], phases.shape[3] // PHASES**2
    taps = ops.reshape(phases, (PHASES, PHASES, channels, PHASES, PHASES, filters))
    taps = ops.flip(ops.transpose(taps, (0, 3, 1, 4, 2, 5)), axis=(1, 3))
    return ops.reshape(taps, (PHASES**2, PHASES**2, channels, filters))


def subpixel_convolution(inputs: Any, phases: Any, bias: Any | None) -> Any:
    """Return `inputs` (N, h, w, c), zeros put between and around pixels, convolved: (N, 2h + 2, 2w + 2, filters)."""
    outputs = ops.conv(ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0))), phases, padding="valid")
    if bias is not None:
        outputs = ops.add(outputs, ops.reshape(ops.tile(bias, PHASES**2), (1, 1, 1, -1)))  # fused with the convolution
    return _interleaved(outputs)


def _interleaved(phases: Any) -> Any:
    """Return (N, h, w, 4 filters) `phases` as the (N, 2h, 2w, filters) pixels that they are."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.depth_to_space(phases, PHASES)
    batch, height, width, filters = ops.shape(phases)
    pixels = ops.reshape(phases, (batch, height, width, PHASES, PHASES, filters // PHASES**2))
    pixels = ops.transpose(pixels, (0, 1, 3, 2, 4, 5))
    return ops.reshape(pixels, (batch, PHASES * height, PHASES * width, filters // PHASES**2))
