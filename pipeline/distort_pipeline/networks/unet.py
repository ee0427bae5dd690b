"""The paper's network, G(x) = x + U(x): a U-Net U of 14 layers outputs the residual (section II-A, figure 1).

Not in the paper: noise maps, added in every decoder block at its own resolution, and a severity, concatenated as a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.inputs import GeneratorInputs, fade
from distort_pipeline.networks.layers import BatchNorm, SubpixelConv2DTranspose, severity_map

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
