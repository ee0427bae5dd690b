"""Severity as networks take it: the weight of each learned level for each image.

A multi-level network has learned n levels, weakest first. Level k lies at severity k / n, the pristine image at 0, and
weights are interpolated between two levels. Not in the paper, whose networks train a single level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def interpolation_weights(severity: Any, levels: int) -> Any:
    """Return the weight of each level, (N, levels), at `severity` (N, 1) in [0, 1]: at most two are not 0, sum 1.

    Below the first level its weight is 1, see `fade`.
    """
    position = ops.clip(severity * levels - 1, 0.0, levels - 1.0)
    return ops.relu(1 - ops.abs(position - np.arange(levels, dtype=np.float32)))


def fade(severity: Any, levels: int) -> Any:
    """Return the factor of the first level's effect, (N, 1): 0 at `severity` 0, 1 from the first level on."""
    return ops.minimum(severity * levels, 1.0)


def interpolate(shares: Any, weights: Any) -> Any:
    """Return the mean of `weights` (levels, ...) for each image, weighted by `shares` (N, levels): (N, ...)."""
    flat = ops.reshape(weights, (weights.shape[0], -1))
    return ops.reshape(ops.matmul(shares, flat), (-1, *weights.shape[1:]))


def highest_severity(severity: Any) -> Any:
    """Return the largest of each image's severities (N, k): (N, 1), 0 for a pristine image."""
    return severity if severity.shape[-1] == 1 else ops.max(severity, axis=-1, keepdims=True)


def severity_map(severity: Any, images: Any) -> Any:
    """Return `severity` (N, k) as maps (N, H, W, k) of the size of `images` (N, H, W, c)."""
    return ops.zeros_like(images[..., :1]) + ops.reshape(severity, (-1, 1, 1, severity.shape[-1]))
