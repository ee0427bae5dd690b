"""The generator G: the image plus the residuals of small models, each called on the same inputs.

G(x) = x + U(x) is the paper's, with the U-Net of `networks/unet.py`. Beside or in place of U stand the coefficient
curves of a codec (`networks/codec_prior.py`) and a pyramid of coloured noise (`networks/noise.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from distort_pipeline.networks.backend import keras
from distort_pipeline.networks.codec_prior import NO_PRIOR, is_scaled
from distort_pipeline.networks.fitted import COEFFICIENT_CURVES, NOISE_PYRAMID
from distort_pipeline.networks.inputs import BLOCKS, GeneratorInputs
from distort_pipeline.networks.layers import CoefficientCurves, NoisePyramid
from distort_pipeline.networks.unet import UNet
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
