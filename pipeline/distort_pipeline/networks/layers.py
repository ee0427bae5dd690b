"""Keras layers: the fitted models, batch norm, and upsampling with a quarter of the multiplications."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.codec_prior import CODEC_PRIORS, ChangedCoefficients
from distort_pipeline.networks.noise import SLOWER, ColouredNoise
from distort_pipeline.records import Json


@keras.saving.register_keras_serializable(package="distort_pipeline")
class CoefficientCurves(keras.layers.Layer, ChangedCoefficients):  # type: ignore[misc]
    """`ChangedCoefficients` as a layer.

    Called with images, [images, severity] with several `levels`, and with `image_stats` the significance (N, 18) of the
    whole image of each tile as the last input. Curves and steps are fitted beforehand and not trained; initially the
    curves are flat, and T is 0.
    """

    xp = ops

    def __init__(self, codec_prior: str, levels: int = 1, image_stats: bool = False, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.prior_name = codec_prior
        self.codec_prior = CODEC_PRIORS[codec_prior].on(ops)
        self.levels = levels
        self.image_stats = image_stats

    def build(self, input_shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """Make the weights."""
        self.set_arrays({name: _zeros(self, name, shape) for name, shape in self.weight_shapes().items()})

    def call(self, inputs: Any) -> Any:
        """Return T(x), T(x, severity), T(x, significance) or T(x, severity, significance)."""
        images, *extra = inputs if self.levels > 1 or self.image_stats else [inputs]
        return self.change(images, extra[0] if self.levels > 1 else None, extra[-1] if self.image_stats else None)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the images."""
        return tuple(input_shape[0] if self.levels > 1 or self.image_stats else input_shape)

    def get_config(self) -> dict[str, Json]:
        """Return the arguments of `from_config`."""
        settings = {"codec_prior": self.prior_name, "levels": self.levels, "image_stats": self.image_stats}
        return {"name": super().get_config()["name"], **settings}


@keras.saving.register_keras_serializable(package="distort_pipeline")
class NoisePyramid(keras.layers.Layer, ColouredNoise):  # type: ignore[misc]
    """`ColouredNoise` as a layer, called with maps, or [severity, maps...] with several `levels`.

    Matrices and kernels are fitted beforehand and not trained; initially the matrices and the sum are 0.
    """

    xp = ops

    def __init__(self, levels: int = 1, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.levels = levels

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Make the weights."""
        maps = input_shape[1:] if self.levels > 1 else input_shape
        self.octaves = _zeros(self, "octaves", (self.levels, SLOWER + len(maps), maps[0][-1], 3))
        self.kernels = self.add_weight(
            name="kernels", shape=(self.levels, 2, 2), initializer=_identity_kernels, trainable=False
        )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the coloured sum of the maps."""
        severity, maps = (inputs[0], inputs[1:]) if self.levels > 1 else (None, inputs)
        return self.noise(maps, severity)

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape of the image."""
        return (*input_shape[-1][:-1], 3)

    def get_config(self) -> dict[str, Json]:
        """Return the arguments of `from_config`."""
        return {"name": super().get_config()["name"], "levels": self.levels}


def _zeros(layer: keras.layers.Layer, name: str, shape: tuple[int | None, ...]) -> Any:
    return layer.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)


def _identity_kernels(shape: Sequence[int], dtype: str | None = None) -> Any:
    """Return identity kernels (levels, 2, 2)."""
    return ops.broadcast_to(ops.convert_to_tensor([[1.0, 0.0], [0.0, 0.0]], dtype), shape)


def severity_map(severity: Any, images: Any) -> Any:
    """Return `severity` (N, k) as maps (N, H, W, k) of the size of `images` (N, H, W, c)."""
    return ops.zeros_like(images[..., :1]) + ops.reshape(severity, (-1, 1, 1, severity.shape[-1]))


@keras.saving.register_keras_serializable(package="distort_pipeline")
class BatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's own batch norm over the last axis of (N, H, W, c), trained by TensorFlow's fused kernel.

    Keras casts low-precision features to float32, takes moments, subtracts, multiplies and casts back: each a pass over
    memory, and TensorFlow fuses none, a third of a training step on two cores. The fused kernel computes the same, in
    float32 internally, in one pass.
    """

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


STRIDE = 2  # sub-pixels on each axis
KERNEL_PX = 4
BOX_PX = 2
COMPOSED_PX = KERNEL_PX + BOX_PX - 1
FEW_FILTERS = 8  # in bfloat16 the box was slower with 3 filters and faster with 16; see benchmarks/training_step.py


@keras.saving.register_keras_serializable(package="distort_pipeline")
class UpsampledConv2D(keras.layers.Layer):  # type: ignore[misc]
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

    def trained_kernel(self) -> Any:
        """Return the (4, 4, c, filters) kernel as trained."""
        return full_kernel(self.kernel) / BOX_PX**2 if self.fused else self.kernel

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the outputs for inputs of `input_shape`."""
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict[str, Json]:
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


def subpixel_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) sub-pixel kernel of the (4, 4, c, filters) `kernel`."""
    channels, filters = kernel.shape[2:]
    # row, its sub-pixel, column, its sub-pixel
    taps = ops.reshape(kernel, (STRIDE, STRIDE, STRIDE, STRIDE, channels, filters))
    taps = ops.transpose(ops.flip(taps, axis=(1, 3)), (0, 2, 4, 1, 3, 5))
    return ops.reshape(taps, (STRIDE, STRIDE, channels, STRIDE**2 * filters))


def full_kernel(kernel: Any) -> Any:
    """Return the (4, 4, c, filters) kernel of the sub-pixel `kernel` (2, 2, c, 4 filters)."""
    channels, filters = kernel.shape[2], kernel.shape[3] // STRIDE**2
    taps = ops.reshape(kernel, (STRIDE, STRIDE, channels, STRIDE, STRIDE, filters))
    taps = ops.flip(ops.transpose(taps, (0, 3, 1, 4, 2, 5)), axis=(1, 3))
    return ops.reshape(taps, (STRIDE**2, STRIDE**2, channels, filters))


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


EPSILON = 1e-3  # default of Keras's BatchNormalization
NORM = "_norm/gamma"
UPSAMPLED = re.compile(r"decoder_\d+_conv/kernel")


def fused_weights(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights, path → array, of the equivalent generator built with `fused=True`.

    A norm with moving mean m and variance v is y = gamma (x - m) / sqrt(v + epsilon) + beta. Its scale multiplies the
    kernels of the block and of its noise, since the norm follows their sum; the rest becomes the bias.
    Kernels of upsampling layers become sub-pixel kernels, see `fused_kernel`.
    """
    fused = {path: array for path, array in weights.items() if "_norm/" not in path}
    for block in (path.removesuffix(NORM) for path in weights if path.endswith(NORM)):
        gamma, beta, mean, variance = (
            weights[f"{block}_norm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + np.float32(EPSILON))
        for path in (f"{block}_conv/kernel", f"{block}_noise/kernel"):
            if path in fused:
                fused[path] = fused[path] * scale  # the last axis is filters
        fused[f"{block}_conv/bias"] = beta - mean * scale
    return {
        path: np.asarray(fused_kernel(array)) if UPSAMPLED.fullmatch(path) else array for path, array in fused.items()
    }
