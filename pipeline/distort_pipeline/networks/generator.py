"""The generator G: the image plus the residuals of small models, each called on the same inputs.

G(x) = x + U(x) is the paper's: a U-Net U of 14 layers outputs the residual (section II-A, figure 1). Beside or in place
of U stand the coefficient curves of a codec (`networks/codec_prior.py`) and a pyramid of coloured noise
(`networks/noise.py`). Not in the paper: noise maps, added in every decoder block at its own resolution, and a severity,
concatenated as a map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.codec_prior import NO_PRIOR, is_scaled
from distort_pipeline.networks.inputs import BLOCKS, GeneratorInputs, fade
from distort_pipeline.networks.layers import (
    BatchNorm,
    CoefficientCurves,
    NoisePyramid,
    SubpixelConv2DTranspose,
    severity_map,
)
from distort_pipeline.networks.predictor import COEFFICIENT_CURVES, NOISE_PYRAMID
from distort_pipeline.networks.wavelets import SIZES

# the residuals (N, H, W, 3) that a model adds to the image
SmallModel: TypeAlias = Callable[[GeneratorInputs], list[Any]]


@dataclass(frozen=True)
class Architecture:
    """The small models of a generator and their sizes; the defaults are the paper's."""

    base_filters: int = 64  # of the U-Net; 0 leaves it out
    noise_channels: int = 0  # of the noise maps; 0 for a deterministic generator, as in the paper
    codec_prior: str = NO_PRIOR  # of the coefficient curves
    noise_pyramid: bool = False
    levels: int = 1  # with several, a severity (N, 1) in [0, 1] is an input, and nothing is added at severity 0


def build_generator(
    architecture: Architecture, *, precision: str = "float32", fused: bool = False, image_stats: bool = False
) -> keras.Model:
    """Return G: x (N, H, W, 3) in [-1, 1] → x + residuals, same shape, float32, not clipped; H, W multiples of 128.

    The inputs are x alone, or a list, see `GeneratorInputs`. With `image_stats` and a codec prior with a quantisation
    step per image, G takes the significance of the whole image of each tile; otherwise it computes that of x. A `fused`
    generator has the U-Net's biases in place of batch norms, and kernels in the precision of the layers.
    """
    if fused:
        precision = precision.removeprefix("mixed_")  # constant weights are rounded once, not in every call
    inputs = _inputs(architecture, image_stats=image_stats)
    models = _small_models(architecture, precision, fused)
    residuals = [residual for model in models for residual in model(inputs)]
    # float32 in any precision: 8-bit pixels need more than bfloat16's 8 bits
    distorted = keras.layers.Add(name="global_skip", dtype="float32")([inputs.image, *residuals])
    return keras.Model(inputs.listed(), distorted, name="generator")


def _small_models(architecture: Architecture, precision: str, fused: bool) -> list[SmallModel]:
    levels, prior = architecture.levels, architecture.codec_prior
    models: list[SmallModel] = []
    if architecture.base_filters:
        fitted = architecture.noise_pyramid or prior != NO_PRIOR  # beforehand; U then starts at 0
        models.append(UNet(architecture.base_filters, levels, fitted, precision, fused))
    if prior != NO_PRIOR:
        models.append(partial(_changed_coefficients, prior, levels))
    if architecture.noise_pyramid:
        models.append(partial(_coloured_noise, levels))
    return models


def _changed_coefficients(codec_prior: str, levels: int, inputs: GeneratorInputs) -> list[Any]:
    given = dataclasses.replace(inputs, noises=())
    image_stats = inputs.significance is not None
    return [CoefficientCurves(codec_prior, levels, image_stats, name=COEFFICIENT_CURVES)(given.listed())]


def _coloured_noise(levels: int, inputs: GeneratorInputs) -> list[Any]:
    severity = [] if inputs.severity is None else [inputs.severity]
    return [NoisePyramid(levels, name=NOISE_PYRAMID)([*severity, *inputs.noises])]


def _inputs(architecture: Architecture, *, image_stats: bool) -> GeneratorInputs:
    """Return the symbolic inputs of a generator."""
    channels = architecture.noise_channels
    return GeneratorInputs(
        keras.Input((None, None, 3), name="pristine"),
        tuple(keras.Input((None, None, channels), name=f"z{block}") for block in range(1, BLOCKS + 1) if channels),
        keras.Input((1,), name="severity") if architecture.levels > 1 else None,
        keras.Input((len(SIZES),), name="significance")
        if image_stats and is_scaled(architecture.codec_prior)
        else None,
    )


ENCODER_WIDTHS = (1, 2, 4, 8, 8, 8, 8)  # in units of base_filters; from the paper's figure
DECODER_WIDTHS = (8, 8, 8, 4, 2, 1)  # the seventh block outputs the 3 channels of the residual
LEAK = 0.2
FEW_FILTERS = 8  # up to which the sub-pixel form is faster
RESIDUAL_START = 0.002  # deviation of the last kernel: the first residual is a few 8-bit levels, not dozens
NOISE_START = 0.02  # the same for the last noise kernel: noise of about 13 levels of 8 bits
BATCH_NORM_MOMENTUM = 0.95  # short trainings: the moving averages are within 1 % of the truth after 90 steps


@dataclass(frozen=True)
class UNet:
    """U, called on the generator's inputs."""

    base_filters: int  # of the first block
    levels: int = 1  # with several, U is 0 at severity 0
    starts_at_zero: bool = False
    precision: str = "float32"
    fused: bool = False  # biases in place of batch norms, for the weights of `fused_weights`: inference only

    def __call__(self, inputs: GeneratorInputs) -> list[Any]:
        """Return the residuals of the last block: of its features, and with noise maps of the finest map."""
        features, skips, noises = inputs.image, [], inputs.noises
        if inputs.severity is not None:
            maps = severity_map(inputs.severity, features)
            features = keras.layers.Concatenate(name="beside", dtype="float32")([features, maps])
        for block, width in enumerate(ENCODER_WIDTHS, start=1):
            features = self._encoder_block(features, width * self.base_filters, block)
            skips.append(features)
        skips.pop()  # the bottleneck is the decoder's input, not a skip
        for block, width in enumerate(DECODER_WIDTHS, start=1):
            features = self._decoder_block(features, noises[block - 1 : block], width * self.base_filters, block)
            features = keras.layers.Concatenate(name=f"skip_{block}", dtype=self.precision)([features, skips.pop()])
        residuals = self._last_block(features, noises[-1:])
        if inputs.severity is None:
            return residuals
        fading = ops.reshape(fade(inputs.severity, self.levels, ops), (-1, 1, 1, 1))
        return [fading * ops.cast(residual, "float32") for residual in residuals]

    def _encoder_block(self, features: Any, filters: int, block: int) -> Any:
        # bfloat16 cannot resolve single 8-bit levels: small differences would be lost before the first kernel
        options = {"use_bias": self.fused, "dtype": "float32" if block == 1 else self.precision}
        name = f"encoder_{block}"
        features = keras.layers.Conv2D(filters, 4, strides=2, padding="same", name=f"{name}_conv", **options)(features)
        return self._activated(features, name)

    def _decoder_block(self, features: Any, noise: Any, filters: int, block: int) -> Any:
        name = f"decoder_{block}"
        features = self._upsampled(filters, f"{name}_up", use_bias=self.fused)(features)
        for noise_map in noise:
            injected = self._noise_conv(filters, f"{name}_noise")(noise_map)
            features = keras.layers.Add(name=f"{name}_inject", dtype=self.precision)([features, injected])
        return self._activated(features, name)

    def _last_block(self, features: Any, noise: Any) -> list[Any]:
        name, deviations = f"decoder_{len(ENCODER_WIDTHS)}", (RESIDUAL_START, NOISE_START)
        start, noise_start = (
            keras.initializers.Zeros() if self.starts_at_zero else keras.initializers.RandomNormal(stddev=d)
            for d in deviations
        )
        residual = self._upsampled(3, f"{name}_up", use_bias=True, kernel_initializer=start)(features)
        return [residual, *(self._noise_conv(3, f"{name}_noise", noise_start)(noise_map) for noise_map in noise)]

    def _upsampled(self, filters: int, name: str, **options: Any) -> keras.layers.Layer:
        """Return the layer that upsamples: the paper's "symmetric parameters" are those of the strided convolution."""
        layer = SubpixelConv2DTranspose if filters <= FEW_FILTERS else keras.layers.Conv2DTranspose
        return layer(filters, 4, strides=2, padding="same", name=name, dtype=self.precision, **options)

    def _noise_conv(self, filters: int, name: str, initializer: Any = "glorot_uniform") -> keras.layers.Layer:
        options = {"kernel_initializer": initializer, "name": name, "dtype": self.precision}
        return keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, **options)

    def _activated(self, features: Any, name: str) -> Any:
        if not self.fused:
            features = BatchNorm(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm", dtype=self.precision)(features)
        return keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_act", dtype=self.precision)(features)
