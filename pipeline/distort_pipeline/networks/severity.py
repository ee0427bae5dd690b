"""Severity as networks see it: how much of each learned level an image gets.

A multi-level network has learned n levels, weakest first. Level k lies at severity k / n, the untouched image at 0, and
between two levels what was learned is interpolated. Not in the paper, which trains one level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def interpolation_weights(severity: Any, levels: int) -> Any:
    """Return the share of each level, (N, levels), at `severity` (N, 1) in [0, 1]: at most two are not 0, the sum is 1.

    Below the first level it is the first alone, see `fade`.
    """
    place = ops.clip(severity * levels - 1, 0.0, levels - 1.0)
    return ops.relu(1 - ops.abs(place - np.arange(levels, dtype=np.float32)))


def fade(severity: Any, levels: int) -> Any:
    """Return how much of the first level is left, (N, 1): 0 at `severity` 0, 1 from the first level on."""
    return ops.minimum(severity * levels, 1.0)


def shared(shares: Any, weights: Any) -> Any:
    """Return for each image the mean of `weights` (levels, ...) with its `shares` (N, levels): (N, ...)."""
    flat = ops.reshape(weights, (weights.shape[0], -1))
    return ops.reshape(ops.matmul(shares, flat), (-1, *weights.shape[1:]))


def strongest(severity: Any) -> Any:
    """Return the largest of each image's severities (N, k): (N, 1), 0 where nothing at all is asked."""
    return severity if severity.shape[-1] == 1 else ops.max(severity, axis=-1, keepdims=True)


def severity_map(severity: Any, images: Any) -> Any:
    """Return `severity` (N, k) as maps beside `images` (N, H, W, c): (N, H, W, k)."""
    return ops.zeros_like(images[..., :1]) + ops.reshape(severity, (-1, 1, 1, severity.shape[-1]))
