"""The inputs of a generator, and severity between its levels.

`xp` is `NumpyOps` or `keras.ops`, here and in the fitted models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCKS = 7  # of the U-Net's encoder, each half as large; noise maps have as many scales
MULTIPLE_PX = 2**BLOCKS  # sides of the input are multiples of this


class NumpyOps:
    """NumPy under the names of `keras.ops`: `xp` of the fitted models is this class, or `keras.ops` for tensors.

    So a generator without a network runs without a backend, and its bytes do not depend on the installed one.
    """

    abs, arange, clip, concatenate, exp, floor = np.abs, np.arange, np.clip, np.concatenate, np.exp, np.floor
    log, log2, max, maximum, mean, minimum, pad = np.log, np.log2, np.max, np.maximum, np.mean, np.minimum, np.pad
    reshape, roll, shape, sign, stack = np.reshape, np.roll, np.shape, np.sign, np.stack
    sum, take, where = np.sum, np.take, np.where

    @staticmethod
    def cast(values: Any, dtype: str) -> Any:
        """Return `values` in another type."""
        return np.asarray(values).astype(dtype)

    @staticmethod
    def einsum(subscripts: str, *operands: Any) -> Any:
        """Return Einstein's sum, by matrix products where possible."""
        return np.einsum(subscripts, *operands, optimize=True)

    @staticmethod
    def matmul(a: Any, b: Any) -> Any:
        """Return the product of matrices; in one piece for a single `b`, as NumPy multiplies stacks one by one."""
        if b.size == b.shape[-2] * b.shape[-1] and b.ndim <= a.ndim:
            return (a.reshape(-1, a.shape[-1]) @ b.reshape(b.shape[-2:])).reshape(*a.shape[:-1], b.shape[-1])
        return np.matmul(a, b)


@dataclass(frozen=True)
class GeneratorInputs:
    """The inputs of a generator, and of each of the small models that it is the sum of."""

    image: Any  # (N, H, W, 3) in [-1, 1]; H, W multiples of 128
    noises: Sequence[Any] = ()  # independent standard normal noise at seven scales, coarsest first, see `noise_shapes`
    severity: Any | None = None  # (N, 1) in [0, 1], of a multi-level generator
    significance: Any | None = None  # (N, 18), of the whole image of each tile, see `networks/wavelets.py`

    def listed(self) -> Any:
        """Return the argument of a model's call: the image alone, or the list of all inputs."""
        severity = [] if self.severity is None else [self.severity]
        significance = [] if self.significance is None else [self.significance]
        inputs = [self.image, *severity, *self.noises, *significance]
        return inputs if len(inputs) > 1 else self.image


def interpolation_weights(severity: Any, levels: int, xp: Any = NumpyOps) -> Any:
    """Return the weight of each level, (N, levels), at `severity` (N, 1) in [0, 1]: at most two are not 0, sum 1.

    A multi-level network has learned n levels, weakest first. Its severity is the position of the requested one among
    them (`LevelScale` of `distortions/__init__.py`): level k lies at k / n, the pristine image at 0.
    Below the first level its weight is 1, see `fade`. Not in the paper, whose networks train a single level.
    """
    position = xp.clip(severity * levels - 1, 0.0, levels - 1.0)
    return xp.maximum(1 - xp.abs(position - np.arange(levels, dtype=np.float32)), 0.0)


def fade(severity: Any, levels: int, xp: Any = NumpyOps) -> Any:
    """Return the factor of the first level's effect, (N, 1): 0 at `severity` 0, 1 from the first level on."""
    return xp.minimum(severity * levels, 1.0)


def interpolate(shares: Any, weights: Any, xp: Any = NumpyOps) -> Any:
    """Return the mean of `weights` (levels, ...) for each image, weighted by `shares` (N, levels): (N, ...)."""
    flat = xp.reshape(weights, (weights.shape[0], -1))
    return xp.reshape(xp.matmul(shares, flat), (-1, *weights.shape[1:]))


def noise_shapes(height_px: int, width_px: int, noise_channels: int) -> list[tuple[int, int, int]]:
    """Return the shape (h, w, noise_channels) of each noise map for a padded image, coarsest first.

    >>> noise_shapes(256, 128, 3)[0], noise_shapes(256, 128, 3)[-1], len(noise_shapes(256, 128, 3))
    ((4, 2, 3), (256, 128, 3), 7)
    """
    if not noise_channels:
        return []
    return [(height_px // 2**halvings, width_px // 2**halvings, noise_channels) for halvings in reversed(range(BLOCKS))]
