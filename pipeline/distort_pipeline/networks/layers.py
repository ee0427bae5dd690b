"""Keras layers: the fitted models, batch norm, and a transposed convolution for few filters."""

from __future__ import annotations

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


STRIDE = 2  # of the transposed convolutions: sub-pixels on each axis


@keras.saving.register_keras_serializable(package="distort_pipeline")
class SubpixelConv2DTranspose(keras.layers.Conv2DTranspose):  # type: ignore[misc]
    """`Conv2DTranspose(filters, 4, strides=2, padding="same")`, with the same weights, faster for very few filters.

    Even and odd rows of the output read different rows of the 4x4 kernel, and so do columns: each of the four sub-pixel
    positions is a 2x2 convolution of the input. One convolution with four times the filters computes all, and the
    results are interleaved (W. Shi et al., CVPR 2016). With 3 filters oneDNN takes 0.35 of the time of the transposed
    convolution, 0.7 with gradients; with 32 filters more time, see benchmarks/training_step.py.
    """

    def call(self, inputs: Any) -> Any:
        """Return (N, 2h, 2w, filters) for `inputs` (N, h, w, c)."""
        padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        upsampled = interleaved(ops.conv(padded, subpixel_kernel(self.kernel), padding="valid"))
        batch, height, width, _ = ops.shape(inputs)
        # a slice with steps, `upsampled[:, 1:-1]`, would have a gradient that takes several times as long
        outputs = ops.slice(upsampled, (0, 1, 1, 0), (batch, STRIDE * height, STRIDE * width, self.filters))
        return outputs if self.bias is None else outputs + ops.cast(self.bias, outputs.dtype)


def subpixel_kernel(kernel: Any) -> Any:
    """Return the (2, 2, c, 4 filters) kernel of the sub-pixels for the (4, 4, filters, c) `kernel`."""
    filters, channels = kernel.shape[2:]
    # row, its sub-pixel, column, its sub-pixel; a transposed convolution's kernel points away from the pixel
    taps = ops.flip(ops.reshape(kernel, (STRIDE, STRIDE, STRIDE, STRIDE, filters, channels)), axis=(0, 2))
    return ops.reshape(ops.transpose(taps, (0, 2, 5, 1, 3, 4)), (STRIDE, STRIDE, channels, STRIDE**2 * filters))


def interleaved(subpixels: Any) -> Any:
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


def fused_weights(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights, path → array, of the equivalent generator built with `fused=True`.

    A norm with moving mean m and variance v is y = gamma (x - m) / sqrt(v + epsilon) + beta. Its scale multiplies the
    kernels of the block and of its noise, since the norm follows their sum; the rest becomes the bias.
    """
    fused = {path: array for path, array in weights.items() if "_norm/" not in path}
    for block in (path.removesuffix(NORM) for path in weights if path.endswith(NORM)):
        gamma, beta, mean, variance = (
            weights[f"{block}_norm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + np.float32(EPSILON))
        # the filters are the last axis, but of a transposed convolution's kernel, (4, 4, filters, c)
        factors = {f"{block}_conv": scale, f"{block}_up": scale[:, None], f"{block}_noise": scale}
        present = [layer for layer in factors if f"{layer}/kernel" in fused]
        for layer in present:
            fused[f"{layer}/kernel"] = fused[f"{layer}/kernel"] * factors[layer]
        fused[f"{present[0]}/bias"] = beta - mean * scale
    return fused
