"""Types of pixel arrays, and the conversions between 8-bit levels and the range of the networks.

Pixels are stored as 8-bit sRGB; networks take [-1, 1].
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3), sRGB, RGB order
Images: TypeAlias = NDArray[np.uint8]  # (N, H, W, 3), sRGB, RGB order
NetworkPixels: TypeAlias = NDArray[np.float32]  # (N, H, W, 3) in [-1, 1]
Grey: TypeAlias = NDArray[np.floating[Any]]  # (H, W) on 0-255

LEVELS_PER_UNIT = 127.5  # 8-bit levels in one unit of the networks' range


def normalize(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 8-bit `pixels` on the networks' range [-1, 1].

    >>> normalize(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    values = pixels.astype(np.float32)
    values /= np.float32(LEVELS_PER_UNIT)  # in place, here and below: allocation costs more than arithmetic
    values -= np.float32(1)
    return values


def denormalize(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return network `values` as 8-bit pixels, rounded and clipped.

    >>> denormalize(np.array([-1.2, 0.0, 1.0], np.float32)).tolist()
    [0, 128, 255]
    """
    levels_8bit = np.asarray(values, np.float32) + np.float32(1)
    levels_8bit *= np.float32(LEVELS_PER_UNIT)
    return to_uint8(levels_8bit)


def to_uint8(levels_8bit: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return `levels_8bit` rounded (halves to even) and clipped to 8 bits.

    >>> to_uint8(np.array([-3.0, 1.5, 300.0])).tolist()
    [0, 2, 255]
    """
    rounded = np.rint(levels_8bit)
    np.clip(rounded, 0, 255, out=rounded)
    return rounded.astype(np.uint8)
