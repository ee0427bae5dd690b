"""Nearest 2x upsampling followed by a 4x4 convolution, done in two steps that multiply a quarter as often.

Each output pixel of the plain form reads sixteen upsampled pixels, of which several are copies of one input pixel. The
copies are a 2x2 box over pixels with zeros between them, and filters may change places: first the 4x4 kernel over the
pixels with zeros between, which is a transposed convolution of stride 2, then the box. That is 4 instead of 16
multiplications for each output pixel and pair of channels, and four additions for each output value.

Where there are few filters the box costs more than it saves; box and kernel are then one 5x5 kernel, 6.25
multiplications. It is composed from the 4x4 kernel in every call, which stays the trained variable: a free 5x5 kernel
would be another model (and draws checkerboards).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

KERNEL_PX = 4
BOX_PX = 2
FEW_FILTERS = 8  # in bfloat16 the box was slower with 3 filters and faster with 16; see benchmarks/training_step.py


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
        outputs = (
            _boxed_after(inputs, self.kernel) if self.filters > FEW_FILTERS else _boxed_before(inputs, self.kernel)
        )
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


def _boxed_after(inputs: Any, kernel: Any) -> Any:
    """Return the transposed convolution by the 4x4 kernel, then the box, which sums neighbours."""
    # four times the kernel, so that means of four become sums: a power of two, which rounds nothing
    spread = _flipped(BOX_PX**2 * kernel)
    grown = ops.conv_transpose(inputs, spread, strides=2, padding="valid")
    # of the box's full output the plain form's "same" padding leaves out two pixels before and one behind, and the
    # pooling, which reads no borders, one on either side
    return _cropped(ops.average_pool(grown, BOX_PX, strides=1, padding="valid"), inputs, before=1)


def _boxed_before(inputs: Any, kernel: Any) -> Any:
    """Return the transposed convolution by the 5x5 kernel that box and 4x4 kernel are together."""
    return _cropped(ops.conv_transpose(inputs, composed_kernel(kernel), strides=2, padding="valid"), inputs, before=2)


def _cropped(grown: Any, inputs: Any, *, before: int) -> Any:
    """Return twice as many rows and columns of `grown` as `inputs` has, from the `before`-th on."""
    batch, height, width, _ = ops.shape(inputs)
    # a slice with steps, as of `grown[...]`, has a gradient that takes several times as long
    return ops.slice(grown, (0, before, before, 0), (batch, 2 * height, 2 * width, grown.shape[-1]))


def composed_kernel(kernel: Any) -> Any:
    """Return the (5, 5, filters, c) kernel of the transposed convolution for a (4, 4, c, filters) `kernel`."""
    flipped = _flipped(kernel)
    rows = ops.pad(flipped, ((0, 1), (0, 0), (0, 0), (0, 0))) + ops.pad(flipped, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return ops.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + ops.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))


def _flipped(kernel: Any) -> Any:
    """Return a convolution's (h, w, c, filters) `kernel` as a transposed convolution takes it, (h, w, filters, c)."""
    return ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))
