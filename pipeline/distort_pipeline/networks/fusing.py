"""Batch norms folded into the convolutions before them, and kernels made ready for them.

The same generator in inference mode, in fewer passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.upsampling import fused_kernel

EPSILON = 1e-3  # of Keras's BatchNormalization, which the generator leaves as it is
NORM = "_norm/gamma"
UPSAMPLED = re.compile(r"decoder_\d+_conv/kernel")


def fused_weights(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights, path → array, of a generator built with `folded=True` that does what `weights` do.

    A norm with moving mean m and variance v is y = gamma (x - m) / sqrt(v + epsilon) + beta: its scale goes into the
    kernels of the block, also that of its noise, since the norm stands behind their sum; the rest becomes the bias.
    Kernels of upsampling layers become what those convolve with; see upsampling.py.
    """
    fused = {path: array for path, array in weights.items() if "_norm/" not in path}
    for block in (path.removesuffix(NORM) for path in weights if path.endswith(NORM)):
        gamma, beta, mean, variance = (
            weights[f"{block}_norm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + np.float32(EPSILON))
        for path in (f"{block}_conv/kernel", f"{block}_noise/kernel"):
            if path in fused:
                fused[path] = fused[path] * scale  # the last axis is the filters'
        fused[f"{block}_conv/bias"] = beta - mean * scale
    return {
        path: np.asarray(fused_kernel(array)) if UPSAMPLED.fullmatch(path) else array for path, array in fused.items()
    }
