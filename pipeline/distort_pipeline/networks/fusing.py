"""Fusing for inference: batch norms go into the convolutions before them, upsampling kernels into sub-pixel kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.upsampling import fused_kernel

EPSILON = 1e-3  # default of Keras's BatchNormalization
NORM = "_norm/gamma"
UPSAMPLED = re.compile(r"decoder_\d+_conv/kernel")


def fused_weights(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights, path → array, of the equivalent generator built with `fused=True`.

    A norm with moving mean m and variance v is y = gamma (x - m) / sqrt(v + epsilon) + beta. Its scale multiplies the
    kernels of the block and of its noise, since the norm follows their sum; the rest becomes the bias.
    Kernels of upsampling layers become sub-pixel kernels, see upsampling.py.
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
