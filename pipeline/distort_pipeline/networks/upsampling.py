"""Nearest 2x upsampling followed by a 4x4 convolution, done as the one transposed convolution that it is.

Each output pixel of the plain form reads sixteen upsampled pixels, of which several are copies of one input pixel.
Adding up the kernel's weights for those copies first gives a 5x5 kernel of a stride-2 transposed convolution: 6.25
instead of 16 multiplications for each output pixel and pair of channels. The 4x4 kernel stays the trained variable and
the 5x5 is composed from it in every call; a free 5x5 kernel would be another model (and draws checkerboards).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

KERNEL_PX = 4


@keras.saving.register_keras_serializable(package="distort_pipeline")
class UpsampledConv2D(keras.layers.Layer):  # type: ignore[misc]
    """Maps (N, h, w, c) to (N, 2h, 2w, filters): `UpSampling2D(2)` then `Conv2D(filters, 4, padding="same")`."""

    def __init__(
        self, filters: int, *, use_bias: bool = False, kernel_initializer: Any = "glorot_uniform", **options: Any
    ) -> None:
        super().__init__(**options)
        self.filters = filters
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the 4x4 kernel, and the bias if there is one."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(KERNEL_PX, KERNEL_PX, input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Return the upsampled and convolved `inputs`."""
        height, width = ops.shape(inputs)[1:3]
        grown = ops.conv_transpose(inputs, composed_kernel(self.kernel), strides=2, padding="valid")
        # the plain form's "same" padding puts one pixel before and two behind: output pixel 0 is number 2 here
        outputs = grown[:, 2 : 2 + 2 * height, 2 : 2 + 2 * width, :]
        return outputs if self.bias is None else outputs + ops.cast(self.bias, outputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the outputs for inputs of `input_shape`."""
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def composed_kernel(kernel: Any) -> Any:
    """Return the (5, 5, filters, c) kernel of the transposed convolution for a (4, 4, c, filters) `kernel`."""
    flipped = ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))
    rows = ops.pad(flipped, ((0, 1), (0, 0), (0, 0), (0, 0))) + ops.pad(flipped, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return ops.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + ops.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))
