"""Multi-scale structural similarity between a pristine and a distorted picture.

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ranges import Picture
from distort_pipeline.statistics.full_reference import (
    MID_GREY,
    SSIM_BLOCK_PX,
    SSIM_C1,
    SSIM_C2,
    SSIM_WINDOW_PX,
    require_same_shape,
    windowed,
)

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # their table 1: of contrast and structure at each scale
MS_SSIM_SMALLEST_PX = SSIM_WINDOW_PX * 2 ** (len(SCALE_WEIGHTS) - 1)  # the window fits into the smallest scale: 176

Planes: TypeAlias = NDArray[np.float32]  # (H, W, 3), 8-bit greys minus MID_GREY


def ms_ssim(reference: Picture, distorted: Picture) -> float | None:
    """Return the mean over the three channels, from 0 to 1 for identical pictures; None if a side is below 176 px.

    Window, constants and borders are those of `ssim`. From scale to scale both pictures are averaged over 2 x 2 px, a
    last odd row or column over itself. The same as TensorFlow's, and on sides that halve evenly as piq's.
    """
    require_same_shape(reference, distorted)
    if min(reference.shape[:2]) < MS_SSIM_SMALLEST_PX:
        return None
    x, y = (picture.astype(np.float32) - MID_GREY for picture in (reference, distorted))
    last = len(SCALE_WEIGHTS) - 1
    likeness = np.ones(3)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
        likeness *= np.maximum(_mean_likeness(x, y, with_luminance=scale == last), 0) ** weight
    return min(1.0, float(likeness.mean()))  # rounding can leave 1 + 1e-9


def _mean_likeness(x: Planes, y: Planes, *, with_luminance: bool) -> NDArray[np.float64]:
    """Return the mean likeness of contrast and structure over the window's centres, (3,), by channel."""
    height, width = (side - SSIM_WINDOW_PX + 1 for side in x.shape[:2])
    block_rows = max(SSIM_BLOCK_PX // width, 1)
    total = np.zeros(3)
    for first in range(0, height, block_rows):
        rows = slice(first, min(first + block_rows, height) + SSIM_WINDOW_PX - 1)
        likeness = _likeness(x[rows], y[rows], with_luminance=with_luminance)
        total += likeness.reshape(-1, 3).sum(axis=0, dtype=np.float64)
    return total / (height * width)


def _likeness(x: Planes, y: Planes, *, with_luminance: bool) -> Planes:
    x_mean, y_mean = windowed(x), windowed(y)
    products = x_mean * y_mean
    squares = x_mean * x_mean
    squares += y_mean * y_mean
    likeness = windowed(x * y)
    likeness -= products
    likeness *= 2
    likeness += SSIM_C2
    variances = windowed(x * x + y * y)  # of x and y, added up
    variances -= squares
    variances += SSIM_C2
    likeness /= variances
    if with_luminance:
        x_mean += MID_GREY
        y_mean += MID_GREY
        likeness *= (2 * x_mean * y_mean + SSIM_C1) / (x_mean * x_mean + y_mean * y_mean + SSIM_C1)
    return likeness


def _halved(planes: Planes) -> Planes:
    """Return the means over 2 x 2 px, (ceil(H / 2), ceil(W / 2), 3)."""
    height, width = planes.shape[:2]
    if height % 2 or width % 2:
        planes = cv2.copyMakeBorder(planes, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = (math.ceil(width / 2), math.ceil(height / 2))
    return np.asarray(cv2.resize(planes, half, interpolation=cv2.INTER_AREA), np.float32)
