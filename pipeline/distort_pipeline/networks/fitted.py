"""A generator without a network, in NumPy: the image plus the change of its coefficients, or plus coloured noise.

The same models as the layers of `networks/layers.py`, on arrays: neither Keras nor a backend is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_prior import CODEC_PRIORS, ChangedCoefficients
from distort_pipeline.networks.inputs import GeneratorInputs
from distort_pipeline.networks.noise import ColouredNoise
from distort_pipeline.records import NetworkPixels

COEFFICIENT_CURVES, NOISE_PYRAMID = "coefficient_curves", "noise_pyramid"  # prefixes of weights, names of layers
Weights = Mapping[str, NDArray[Any]]


class FittedCurves(ChangedCoefficients):
    """Coefficient curves with these `weights`, flat ones without: T is 0."""

    def __init__(self, codec_prior: str, levels: int, weights: Weights | None = None) -> None:
        self.codec_prior, self.levels = CODEC_PRIORS[codec_prior], levels
        shapes = self.weight_shapes()
        if weights is None:
            self.set_arrays({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        else:
            self.set_arrays({name: weights[f"{COEFFICIENT_CURVES}/{name}"] for name in shapes})

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the curves and steps, or shares, under their names."""
        steps = [self.log_shares, *self.log_offsets] if self.codec_prior.scaled else self.log_steps
        return dict(zip(self.weight_shapes(), (*self.curves, *steps), strict=True))

    def residual(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the change of the coefficients."""
        return self.change(inputs.image, inputs.severity, inputs.significance)


class FittedNoise(ColouredNoise):
    """A noise pyramid with fixed weights."""

    def __init__(self, levels: int, weights: Weights) -> None:
        self.levels = levels
        self.octaves, self.kernels = (weights[f"{NOISE_PYRAMID}/{name}"] for name in ("octaves", "kernels"))

    def residual(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the noise."""
        return self.noise(inputs.noises, inputs.severity)


class FittedGenerator:
    """x (N, H, W, 3) in [-1, 1] → x + residuals, same shape, float32, not clipped; H, W multiples of 128."""

    def __init__(self, models: Sequence[FittedCurves | FittedNoise]) -> None:
        self.models = models

    def __call__(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the images of `inputs` distorted."""
        distorted = inputs.image
        for model in self.models:
            distorted = distorted + model.residual(inputs)
        return np.asarray(distorted, np.float32)
