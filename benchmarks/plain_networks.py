"""The generator as it is usually written in Keras: Conv2DTranspose, float32, nothing fused. For comparison only.

Same layers, widths and noise inputs as `build_generator`, so that only the form differs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from distort_pipeline.networks.generator import Architecture

ENCODER = (1, 2, 4, 8, 8, 8, 8)
DECODER = (8, 8, 8, 4, 2, 1)


def build_plain_generator(
    architecture: Architecture,
    *,
    precision: str = "float32",
    image_stats: bool = False,  # noqa: ARG001 - of transforms, and there is none
) -> keras.Model:
    """Return the plain generator: x (N, H, W, 3), or [x, z1, ..., z7], to x + residual."""
    base_filters, noise_channels = architecture.base_filters, architecture.noise_channels
    if precision != "float32" or architecture != Architecture(base_filters, noise_channels):
        raise ValueError("the plain form is the paper's network in float32, of one level, for comparison only")
    image = keras.Input((None, None, 3))
    noises = [keras.Input((None, None, noise_channels)) for _ in range(7) if noise_channels]
    features, skips = image, []
    for width in ENCODER:
        features = layers.Conv2D(width * base_filters, 4, strides=2, padding="same", use_bias=False)(features)
        features = _normalised(features)
        skips.append(features)
    for block, width in enumerate(DECODER):
        features = _upsampled(features, width * base_filters, use_bias=False)
        if noises:
            features = layers.Add()([features, _noise_conv(width * base_filters)(noises[block])])
        features = layers.Concatenate()([_normalised(features), skips[5 - block]])
    terms = [image, _upsampled(features, 3, use_bias=True)]
    if noises:
        terms.append(_noise_conv(3)(noises[-1]))
    return keras.Model([image, *noises] if noises else image, layers.Add()(terms))


def _upsampled(features: Any, filters: int, *, use_bias: bool) -> Any:
    return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=use_bias)(features)


def _noise_conv(filters: int) -> keras.layers.Layer:
    return layers.Conv2D(filters, 3, padding="same", use_bias=False)


def _normalised(features: Any) -> Any:
    return layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization(momentum=0.95)(features))
