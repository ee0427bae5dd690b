"""The generator of Keras's own layers as far as possible: opening its file needs none of our code.

Coefficient curves and the noise pyramid stay layers of ours. As a graph, in a SavedModel or an ONNX file, these are
plain operations all the same; a Keras file names their classes.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from distort_pipeline.networks.upsampling import COMPOSED_PX, UpsampledConv2D, composed_kernel

AHEAD, BEHIND = 2, 1  # rows and columns added by the transposed convolution before and behind; see upsampling.py


def portable_generator(generator: keras.Model) -> keras.Model:
    """Return a model equivalent to the fused `generator`: convolutions, LeakyReLU and sums, float32.

    Our upsampling layer becomes the equivalent transposed convolution with a composed kernel.
    """
    copy = keras.models.clone_model(generator, clone_function=_plain_layer)
    for layer in generator.layers:
        twin = copy.get_layer(layer.name)
        if isinstance(layer, UpsampledConv2D):
            twin.set_weights([np.asarray(composed_kernel(layer.trained_kernel())), *layer.get_weights()[1:]])
        else:
            twin.set_weights(layer.get_weights())
    return copy


def needs_our_layers(model: keras.Model) -> bool:
    """Return whether a Keras file of `model` opens only where this package is imported."""
    return any(type(layer).__module__.startswith("distort_pipeline") for layer in model.layers)


def _plain_layer(layer: keras.layers.Layer) -> Any:
    if not isinstance(layer, UpsampledConv2D):
        return layer.__class__.from_config(layer.get_config())
    return keras.Sequential(
        [
            keras.layers.Conv2DTranspose(
                layer.filters, COMPOSED_PX, strides=2, padding="valid", use_bias=layer.use_bias, name="conv"
            ),
            keras.layers.Cropping2D(((AHEAD, BEHIND), (AHEAD, BEHIND)), name="crop"),
        ],
        name=layer.name,
    )
