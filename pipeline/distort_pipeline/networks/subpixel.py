"""Sub-pixel convolution: a transposed convolution of stride 2 as an ordinary convolution with four times the filters.

Even and odd rows of the output read different rows of the 4x4 kernel, and so do columns. Each of the four sub-pixel
positions is a 2x2 convolution of the input: one convolution computes all four, as four times as many filters, and the
results are interleaved (W. Shi et al., CVPR 2016). In inference oneDNN does this in half the time with many channels;
its gradient takes longer, so training uses the transposed convolution.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

STRIDE = 2  # sub-pixels on each axis


def subpixel_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) sub-pixel kernel of the (4, 4, c, filters) `kernel`."""
    channels, filters = kernel.shape[2:]
    taps = ops.reshape(
        kernel, (STRIDE, STRIDE, STRIDE, STRIDE, channels, filters)
    )  # row, its sub-pixel, column, its sub-pixel
    taps = ops.transpose(ops.flip(taps, axis=(1, 3)), (0, 2, 4, 1, 3, 5))
    return ops.reshape(taps, (STRIDE, STRIDE, channels, STRIDE**2 * filters))


def full_kernel(kernel: Any) -> Any:
    """Return the (4, 4, c, filters) kernel of the sub-pixel `kernel` (2, 2, c, 4 filters)."""
    channels, filters = kernel.shape[2], kernel.shape[3] // STRIDE**2
    taps = ops.reshape(kernel, (STRIDE, STRIDE, channels, STRIDE, STRIDE, filters))
    taps = ops.flip(ops.transpose(taps, (0, 3, 1, 4, 2, 5)), axis=(1, 3))
    return ops.reshape(taps, (STRIDE**2, STRIDE**2, channels, filters))


def subpixel_convolution(inputs: Any, kernel: Any, bias: Any | None) -> Any:
    """Return `inputs` (N, h, w, c), zeros put between and around pixels, convolved: (N, 2h + 2, 2w + 2, filters)."""
    outputs = ops.conv(ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel, padding="valid")
    if bias is not None:
        outputs = ops.add(outputs, ops.reshape(ops.tile(bias, STRIDE**2), (1, 1, 1, -1)))  # fused with the convolution
    return _interleaved(outputs)


def _interleaved(subpixels: Any) -> Any:
    """Return (N, h, w, 4 filters) `subpixels` as (N, 2h, 2w, filters) pixels."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.depth_to_space(subpixels, STRIDE)
    batch, height, width, filters = ops.shape(subpixels)
    pixels = ops.reshape(subpixels, (batch, height, width, STRIDE, STRIDE, filters // STRIDE**2))
    pixels = ops.transpose(pixels, (0, 1, 3, 2, 4, 5))
    return ops.reshape(pixels, (batch, STRIDE * height, STRIDE * width, filters // STRIDE**2))
