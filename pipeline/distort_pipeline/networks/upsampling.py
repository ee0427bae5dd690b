"""Nearest 2x upsampling followed by a 4x4 convolution, in two steps with a quarter of the multiplications.

Each output pixel of the plain form reads sixteen upsampled pixels, several of them copies of the same input pixel. The
copies are a 2x2 box over pixels with zeros between them, and the two filters commute: first the 4x4 kernel over the
pixels with zeros between, a transposed convolution of stride 2, then the box. This takes 4 instead of 16
multiplications for each output pixel and pair of channels, and four additions for each output value.

With few filters the box costs more time than saved; box and kernel are then a 5x5 kernel, 6.25 multiplications. Either
is made from the 4x4 kernel in every call; the 4x4 kernel stays the trained variable. A free 5x5 kernel would be
another model (and draws checkerboards). A fused layer takes the first step as a sub-pixel convolution, faster in
inference (see subpixel.py), with a kernel prepared once.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.subpixel import STRIDE, full_kernel, subpixel_convolution, subpixel_kernel

KERNEL_PX = 4
BOX_PX = 2
COMPOSED_PX = KERNEL_PX + BOX_PX - 1
FEW_FILTERS = 8  # in bfloat16 the box was slower with 3 filters and faster with 16; see benchmarks/training_step.py


@keras.saving.register_keras_serializable(package="distort_pipeline")
class UpsampledConv2D(keras.layers.Layer):  # type: ignore[misc]
    """Maps (N, h, w, c) to (N, 2h, 2w, filters): `UpSampling2D(2)` then `Conv2D(filters, 4, padding="same")`.

    The kernel is the Conv2D's, (4, 4, c, filters), or with `fused` its `fused_kernel`: inference only.
    """

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = False,
        fused: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filters = filters
        self.use_bias = use_bias
        self.fused = fused
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel, and the bias with `use_bias`."""
        channels = input_shape[-1]
        fused_shape = (KERNEL_PX // STRIDE, KERNEL_PX // STRIDE, channels, STRIDE**2 * self.filters)
        self.kernel = self.add_weight(
            name="kernel",
            shape=fused_shape if self.fused else (KERNEL_PX, KERNEL_PX, channels, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Return the upsampled and convolved `inputs`."""
        if self.fused:
            return _boxed(subpixel_convolution(inputs, self.kernel, self.bias), inputs)
        if self.filters > FEW_FILTERS:
            kernel = _transposed(BOX_PX**2 * self.kernel)
            outputs = _boxed(ops.conv_transpose(inputs, kernel, strides=2, padding="valid"), inputs)
        else:
            upsampled = ops.conv_transpose(inputs, composed_kernel(self.kernel), strides=2, padding="valid")
            outputs = _cropped(upsampled, inputs, before=2)  # two before as with padding "same", and one behind
        return outputs if self.bias is None else outputs + ops.cast(self.bias, outputs.dtype)

    def trained_kernel(self) -> Any:
        """Return the (4, 4, c, filters) kernel as trained."""
        return full_kernel(self.kernel) / BOX_PX**2 if self.fused else self.kernel

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the outputs for inputs of `input_shape`."""
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "use_bias": self.use_bias,
            "fused": self.fused,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def fused_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) kernel of a fused layer for the trained (4, 4, c, filters) `kernel`."""
    return subpixel_kernel(BOX_PX**2 * kernel)


def composed_kernel(kernel: Any) -> Any:
    """Return the (5, 5, filters, c) kernel of the transposed convolution for a (4, 4, c, filters) `kernel`."""
    transposed = _transposed(kernel)
    rows = ops.pad(transposed, ((0, 1), (0, 0), (0, 0), (0, 0))) + ops.pad(transposed, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return ops.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + ops.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))


def _transposed(kernel: Any) -> Any:
    """Return a convolution's (h, w, c, filters) `kernel` as a transposed convolution's, (h, w, filters, c)."""
    return ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))


def _boxed(upsampled: Any, inputs: Any) -> Any:
    """Return the box over `upsampled` as means: kernels are four times as large, and scaling by 4 rounds nothing."""
    # pooling reads no borders: it drops one of the two pixels before, and the one behind
    return _cropped(ops.average_pool(upsampled, BOX_PX, strides=1, padding="valid"), inputs, before=1)


def _cropped(upsampled: Any, inputs: Any, *, before: int) -> Any:
    """Return twice as many rows and columns of `upsampled` as `inputs` has, from the `before`-th on."""
    batch, height, width, _ = ops.shape(inputs)
    # a slice with steps, `upsampled[:, ...]`, would have a gradient that takes several times as long
    return ops.slice(upsampled, (0, before, before, 0), (batch, 2 * height, 2 * width, upsampled.shape[-1]))
