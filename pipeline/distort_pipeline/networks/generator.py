"""The generator G: a 14-layer U-Net that adds a learned residual to the image (section II-A, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.codec_prior import CoefficientCurves, is_scaled
from distort_pipeline.networks.layers import BatchNorm, UpsampledConv2D, fade, highest_severity, severity_map
from distort_pipeline.networks.noise import NoisePyramid
from distort_pipeline.networks.wavelets import SIZES

ENCODER_WIDTHS = (1, 2, 4, 8, 8, 8, 8)  # in units of base_filters; from the paper's figure
DECODER_WIDTHS = (8, 8, 8, 4, 2, 1)  # the seventh block outputs the 3 channels of the residual
NO_PRIOR = "none"
COEFFICIENT_CURVES, NOISE_PYRAMID = "coefficient_curves", "noise_pyramid"  # names of layers
BLOCKS = len(ENCODER_WIDTHS)
MULTIPLE_PX = 2**BLOCKS  # sides of the input are multiples of this
LEAK = 0.2
RESIDUAL_START = 0.002  # deviation of the last kernel: the first residual is a few 8-bit levels, not dozens
NOISE_START = 0.02  # the same for the last noise kernel: noise of about 13 levels of 8 bits
BATCH_NORM_MOMENTUM = 0.95  # short trainings: the moving averages are within 1 % of the truth after 90 steps


def build_generator(
    *,
    base_filters: int = 64,
    noise_channels: int = 0,
    codec_prior: str = NO_PRIOR,
    noise_pyramid: bool = False,
    levels: int = 1,
    kinds: int = 1,
    precision: str = "float32",
    side_px: int | None = None,
    fused: bool = False,
    image_stats: bool = False,
) -> keras.Model:
    """Return G: x (N, H, W, 3) in [-1, 1] → x + residual(x), same shape, float32, not clipped; H, W multiples of 128.

    With `noise_channels` the inputs are [x, z1, ..., z7] with the maps of `noise_shapes`: independent standard normal
    noise, added in every decoder block at its own resolution. Without, G is the paper's, a function of x alone. With a
    `codec_prior` it is x + T(x) + residual(x), see `CoefficientCurves`. With a `noise_pyramid`
    the noise maps also add a sum of coloured octaves, see `NoisePyramid`. With either, `base_filters` 0 leaves the
    U-Net out. With several `levels` a severity (N, 1) in [0, 1] follows the image among the inputs:
    the U-Net gets a severity map, and nothing is added at severity 0. With several `kinds` of distortion in the same
    U-Net the severity is (N, kinds), with a map for each kind; kinds may be combined. With `image_stats` and a codec
    prior with a quantisation step per image, the significance (N, 18) of the whole image of each tile is the last
    input, see `networks/wavelets.py`; otherwise there is no such input. A `fused` generator has biases in place of
    batch norms and kernels in the precision of the layers, for the weights of `fused_weights`: inference only.
    """
    if kinds > 1 and (levels == 1 or noise_pyramid or codec_prior != NO_PRIOR):
        raise ValueError("several kinds need several levels, and neither a codec prior nor a noise pyramid")
    if fused:
        precision = precision.removeprefix("mixed_")  # constant weights are rounded once, not in every call
    image = keras.Input((side_px, side_px, 3), name="pristine")
    # one input for each scale, coarsest first
    noises = [
        keras.Input((*(side and side // 2**halvings for side in (side_px, side_px)), noise_channels), name=f"z{block}")
        for block, halvings in enumerate(reversed(range(BLOCKS)), start=1)
        if noise_channels
    ]
    severity = keras.Input((kinds,), name="severity") if levels > 1 else None
    multi_level = [] if severity is None else [severity]
    needs_image_stats = image_stats and is_scaled(codec_prior)
    significances = [keras.Input((len(SIZES),), name="significance")] if needs_image_stats else []
    terms = [image]
    if base_filters:
        fitted = codec_prior != NO_PRIOR or noise_pyramid
        unet_input = image
        if severity is not None:
            unet_input = keras.layers.Concatenate(name="beside", dtype="float32")(
                [image, severity_map(severity, image)]
            )
        residuals = _residuals(unet_input, noises, base_filters, precision, fused, fitted=fitted)
        if severity is not None:
            fading = ops.reshape(fade(highest_severity(severity), levels), (-1, 1, 1, 1))
            residuals = [fading * ops.cast(residual, "float32") for residual in residuals]
        terms += residuals
    if codec_prior != NO_PRIOR:
        coefficient_curves = CoefficientCurves(
            codec_prior, levels, image_stats=needs_image_stats, name=COEFFICIENT_CURVES
        )
        curve_inputs = [image, *multi_level, *significances]
        terms.append(coefficient_curves(curve_inputs if len(curve_inputs) > 1 else image))
    if noise_pyramid:
        terms.append(NoisePyramid(levels, name=NOISE_PYRAMID)([*multi_level, *noises]))
    # float32 in any precision: 8-bit pixels need more than bfloat16's 8 bits
    distorted = keras.layers.Add(name="global_skip", dtype="float32")(terms)
    inputs = [image, *multi_level, *noises, *significances]
    return keras.Model(inputs if len(inputs) > 1 else image, distorted, name="generator")


def noise_shapes(height_px: int, width_px: int, noise_channels: int) -> list[tuple[int, int, int]]:
    """Return the shape (h, w, noise_channels) of each noise map for a padded image, coarsest first.

    >>> noise_shapes(256, 128, 3)[0], noise_shapes(256, 128, 3)[-1], len(noise_shapes(256, 128, 3))
    ((4, 2, 3), (256, 128, 3), 7)
    """
    if not noise_channels:
        return []
    return [(height_px // 2**halvings, width_px // 2**halvings, noise_channels) for halvings in reversed(range(BLOCKS))]


def generator_inputs(
    images: Any, noises: Sequence[Any], severity: Any | None = None, significance: Any | None = None
) -> Any:
    """Return the model's inputs: images, then severity, noise maps and significance if given."""
    inputs = [images, *([] if severity is None else [severity]), *noises]
    inputs += [] if significance is None else [significance]
    return inputs if len(inputs) > 1 else images


def _residuals(
    image: Any, noises: Sequence[Any], base_filters: int, precision: str, fused: bool, *, fitted: bool
) -> list[Any]:
    """Return the residuals of the U-Net and of the finest noise; both start at 0 if curves or noise were `fitted`."""
    skips = []
    features = image
    for block, width in enumerate(ENCODER_WIDTHS, start=1):
        # bfloat16 cannot resolve single 8-bit levels: small differences would be lost before the first kernel
        dtype = "float32" if block == 1 else precision
        features = _encoder_block(features, width * base_filters, f"encoder_{block}", precision, fused, dtype=dtype)
        skips.append(features)
    skips.pop()  # the bottleneck is the decoder's input, not a skip
    for block, width in enumerate(DECODER_WIDTHS, start=1):
        noise = noises[block - 1] if noises else None
        features = _decoder_block(features, noise, width * base_filters, f"decoder_{block}", precision, fused)
        features = keras.layers.Concatenate(name=f"skip_{block}", dtype=precision)([features, skips.pop()])
    last = f"decoder_{BLOCKS}"
    initializers = [
        keras.initializers.Zeros() if fitted else keras.initializers.RandomNormal(stddev=deviation)
        for deviation in (RESIDUAL_START, NOISE_START)
    ]
    upsampled = UpsampledConv2D(
        3, use_bias=True, fused=fused, kernel_initializer=initializers[0], name=f"{last}_conv", dtype=precision
    )
    residuals = [upsampled(features)]
    if noises:
        residuals.append(_noise_conv(3, f"{last}_noise", precision, initializer=initializers[1])(noises[-1]))
    return residuals


def _encoder_block(features: Any, filters: int, name: str, precision: str, fused: bool, *, dtype: str) -> Any:
    features = keras.layers.Conv2D(
        filters, 4, strides=2, padding="same", use_bias=fused, name=f"{name}_conv", dtype=dtype
    )(features)
    return _activated(features, name, precision, fused)


def _decoder_block(features: Any, noise: Any, filters: int, name: str, precision: str, fused: bool) -> Any:
    features = UpsampledConv2D(filters, use_bias=fused, fused=fused, name=f"{name}_conv", dtype=precision)(features)
    if noise is not None:
        injected = _noise_conv(filters, f"{name}_noise", precision)(noise)
        features = keras.layers.Add(name=f"{name}_inject", dtype=precision)([features, injected])
    return _activated(features, name, precision, fused)


def _noise_conv(filters: int, name: str, precision: str, *, initializer: Any = "glorot_uniform") -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters, 3, padding="same", use_bias=False, kernel_initializer=initializer, name=name, dtype=precision
    )


def _activated(features: Any, name: str, precision: str, fused: bool) -> Any:
    if not fused:
        norm = BatchNorm(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm", dtype=precision)
        features = norm(features)
    return keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_act", dtype=precision)(features)
