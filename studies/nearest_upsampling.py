"""The other reading of the paper's decoder: nearest 2x upsampling, then a 4x4 convolution.

"Upsampling, with symmetric parameters" was read so until December 2026. A 4x4 kernel over copies of pixels has a zero
at the Nyquist frequency and one phase for four positions: it can neither make nor cancel fine detail, see
tests/networks/test_upsampling.py. By squared error alone on camera pairs it stays at 25.0 to 25.7 dB to the true image,
where the transposed convolution of the package comes to 27.8 to 28.0. It remains here for studies/variants.py and
`make bench`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.generator import UNet
from distort_pipeline.networks.layers import interleaved

STRIDE = 2  # sub-pixels on each axis
KERNEL_PX = 4
BOX_PX = 2
COMPOSED_PX = KERNEL_PX + BOX_PX - 1
FEW_FILTERS = (
    8  # in bfloat16 the box was slower with 3 filters and faster with 16; measured on A of benchmarks/README.md
)


class NearestUpsampledConv2D(keras.layers.Layer):  # type: ignore[misc]
    """Maps (N, h, w, c) to (N, 2h, 2w, filters): `UpSampling2D(2)` then `Conv2D(filters, 4, padding="same")`.

    Computed in two steps with a quarter of the multiplications. Of the sixteen upsampled pixels that an output pixel
    reads, several are copies of the same input pixel. The copies are a 2x2 box over pixels with zeros between them, and
    the two filters commute: first the 4x4 kernel over the pixels with zeros between, a transposed convolution of stride
    2, then the box. With few filters the box costs more time than saved: box and kernel are then a 5x5 kernel, made of
    the 4x4 kernel in every call. A free 5x5 kernel would be another model (and draws checkerboards).

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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the outputs for inputs of `input_shape`."""
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)


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


def subpixel_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) sub-pixel kernel of the (4, 4, c, filters) `kernel`."""
    channels, filters = kernel.shape[2:]
    # row, its sub-pixel, column, its sub-pixel
    taps = ops.reshape(kernel, (STRIDE, STRIDE, STRIDE, STRIDE, channels, filters))
    taps = ops.transpose(ops.flip(taps, axis=(1, 3)), (0, 2, 4, 1, 3, 5))
    return ops.reshape(taps, (STRIDE, STRIDE, channels, STRIDE**2 * filters))


def subpixel_convolution(inputs: Any, kernel: Any, bias: Any | None) -> Any:
    """Return `inputs` (N, h, w, c), zeros put between and around pixels, convolved: (N, 2h + 2, 2w + 2, filters).

    Even and odd rows of the output read different rows of the 4x4 kernel, and so do columns: each of the four sub-pixel
    positions is a 2x2 convolution of the input. One convolution with four times the filters computes all, and the
    results are interleaved (W. Shi et al., CVPR 2016). In inference oneDNN does this in half the time of the transposed
    convolution with many channels; its gradient takes longer.
    """
    outputs = ops.conv(ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel, padding="valid")
    if bias is not None:
        outputs = ops.add(outputs, ops.reshape(ops.tile(bias, STRIDE**2), (1, 1, 1, -1)))  # fused with the convolution
    return interleaved(outputs)


@contextmanager
def nearest_upsampling() -> Iterator[None]:
    """Build the paper's network with this form of upsampling; its fused weights cannot be made of trained ones."""

    def upsampled(self: UNet, filters: int, name: str, **options: Any) -> keras.layers.Layer:
        return NearestUpsampledConv2D(filters, fused=self.fused, name=name, dtype=self.precision, **options)

    with patch.object(UNet, "_upsampled", upsampled):
        yield
