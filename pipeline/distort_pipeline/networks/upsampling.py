"""Nearest 2x upsampling followed by a 4x4 convolution, done in two steps that multiply a quarter as often.

Each output pixel of the plain form reads sixteen upsampled pixels, of which several are copies of one input pixel. The
copies are a 2x2 box over pixels with zeros between them, and filters may change places: first the 4x4 kernel over the
pixels with zeros between, which is a transposed convolution of stride 2, then the box. That is 4 instead of 16
multiplications for each output pixel and pair of channels, and four additions for each output value.

Where there are few filters the box costs more than it saves; box and kernel are then one 5x5 kernel, 6.25
multiplications. Either is made from the 4x4 kernel in every call, which stays the trained variable: a free 5x5 kernel
would be another model (and draws checkerboards). A layer that trains no more takes the first step by phases, which is
faster forwards (see phases.py), and is given the kernel for that once for all.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.subpixel import PHASES, full_kernel, subpixel_convolution, subpixel_kernel

KERNEL_PX = 4
BOX_PX = 2
COMPOSED_PX = KERNEL_PX + BOX_PX - 1
FEW_FILTERS = 8  # in bfloat16 the box was slower with 3 filters and faster with 16; see benchmarks/training_step.py


@keras.saving.register_keras_serializable(package="distort_pipeline")
class UpsampledConv2D(keras.layers.Layer):  # type: ignore[misc]
    """Maps (N, h, w, c) to (N, 2h, 2w, filters): `UpSampling2D(2)` then `Conv2D(filters, 4, padding="same")`.

    The kernel is that of the Conv2D, (4, 4, c, filters), and with `ready` the `ready_kernel` of it: generation only.
    """

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = False,
        ready: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filters = filters
        self.use_bias = use_bias
        self.ready = ready
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel, and the bias if there is one."""
        channels = input_shape[-1]
        fused_shape = (KERNEL_PX // PHASES, KERNEL_PX // PHASES, channels, PHASES**2 * self.filters)
        self.kernel = self.add_weight(
            name="kernel",
            shape=fused_shape if self.ready else (KERNEL_PX, KERNEL_PX, channels, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Return the upsampled and convolved `inputs`."""
        if self.ready:
            return _boxed(subpixel_convolution(inputs, self.kernel, self.bias), inputs)
        if self.filters > FEW_FILTERS:
            kernel = _transposed(BOX_PX**2 * self.kernel)
            outputs = _boxed(ops.conv_transpose(inputs, kernel, strides=2, padding="valid"), inputs)
        else:
            grown = ops.conv_transpose(inputs, composed_kernel(self.kernel), strides=2, padding="valid")
            outputs = _cropped(grown, inputs, before=2)  # as the plain form's "same" padding does, and one behind
        return outputs if self.bias is None else outputs + ops.cast(self.bias, outputs.dtype)

    def trained_kernel(self) -> Any:
        """Return the (4, 4, c, filters) kernel that is trained, or that was."""
        return full_kernel(self.kernel) / BOX_PX**2 if self.ready else self.kernel

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
            "ready": self.ready,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def fused_kernel(kernel: Any) -> Any:
    """Return what a `ready` layer has for the (4, 4, c, filters) `kernel` of the trained one: (2, 2, c, 4 filters)."""
    return subpixel_kernel(BOX_PX**2 * kernel)


def composed_kernel(kernel: Any) -> Any:
    """Return the (5, 5, filters, c) kernel of the transposed convolution for a (4, 4, c, filters) `kernel`."""
    steps = _transposed(kernel)
    rows = ops.pad(steps, ((0, 1), (0, 0), (0, 0), (0, 0))) + ops.pad(steps, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return ops.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + ops.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))


def _transposed(kernel: Any) -> Any:
    """Return a convolution's (h, w, c, filters) `kernel` as a transposed convolution takes it, (h, w, filters, c)."""
    return ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))


def _boxed(grown: Any, inputs: Any) -> Any:
    """Return the box over `grown`: means, for which kernels are four times as large, which rounds nothing."""
    # pooling reads no borders, and so leaves out one of the two pixels before, and the one behind
    return _cropped(ops.average_pool(grown, BOX_PX, strides=1, padding="valid"), inputs, before=1)


def _cropped(grown: Any, inputs: Any, *, before: int) -> Any:
    """Return twice as many rows and columns of `grown` as `inputs` has, from the `before`-th on."""
    batch, height, width, _ = ops.shape(inputs)
    # a slice with steps, `grown[:, ...]`, would have a gradient that takes several times as long
    return ops.slice(grown, (0, before, before, 0), (batch, 2 * height, 2 * width, grown.shape[-1]))
