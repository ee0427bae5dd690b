"""Mean-subtracted, contrast-normalised (MSCN) coefficients: an image without its local mean and contrast."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Grey, Image

# Mittal et al., "No-reference image quality assessment in the spatial domain", IEEE TIP 21(12) 2012, section II
WINDOW_PX = 7
WINDOW_SIGMA_PX = 7 / 6
STABILISER = 1.0  # their C; for 8-bit levels, 0-255

REACH_PX = WINDOW_PX // 2
BLOCK_PX = 32_768  # rows are processed in blocks of so many pixels, in cache: see benchmarks/statistics.py

_OFFSETS_PX = np.arange(WINDOW_PX) - REACH_PX
_BELL = np.exp(-0.5 * (_OFFSETS_PX / WINDOW_SIGMA_PX) ** 2)
WINDOW: NDArray[np.float64] = _BELL / _BELL.sum()  # (7,); the two-dimensional window is its outer product


def luma(image: Image) -> NDArray[np.uint8]:
    """Return the BT.601 luma of `image`, (H, W), rounded to 8 bits as OpenCV does."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def mscn(grey: NDArray[np.uint8] | Grey) -> NDArray[np.floating[Any]]:
    """Return (I - mean) / (deviation + 1) of `grey` I, (H, W) on 0-255, over a Gaussian window; borders replicated.

    float64 input gives float64, the reference; 8-bit and float32 input float32, with divergences equal to 1e-5 bits.
    """
    field: NDArray[np.floating[Any]] = np.empty(grey.shape, np.float64 if grey.dtype == np.float64 else np.float32)
    height, width = grey.shape
    block_rows = max(BLOCK_PX // max(width, 1), REACH_PX)
    for first in range(0, height, block_rows):
        last = min(first + block_rows, height)
        top, bottom = max(first - REACH_PX, 0), min(last + REACH_PX, height)
        _fill_rows(field[first:last], grey[top:bottom], slice(first - top, last - top))
    return field


def _fill_rows(field: NDArray[np.floating[Any]], grey: NDArray[np.uint8] | Grey, inside: slice) -> None:
    """Write the coefficients of the rows `inside` of `grey` into `field`; the other rows complete their windows."""
    # E[I²] - mean² cancels in flat regions, so all of it is float64. In float32, even with mid-grey subtracted
    # before squaring, divergences from JPEG images were wrong by up to 3.4e-4 bits, in 60 % of the time.
    mean = _windowed(grey, WINDOW)[inside]
    square = np.square(grey, dtype=np.uint16 if grey.dtype == np.uint8 else np.float64)
    variance = _windowed(square, -WINDOW)[inside]
    cv2.accumulateSquare(mean, variance)  # with opposite sign: mean² - E[I²] in one pass over memory
    depth = cv2.CV_64F if field.dtype == np.float64 else cv2.CV_32F
    cv2.subtract(grey[inside], mean, dst=field, dtype=depth)
    # by rounding a variance of 0 can be 1e-11 to either side
    deviation = np.abs(variance, out=np.empty_like(field), casting="same_kind")
    np.sqrt(deviation, out=deviation)
    deviation += field.dtype.type(STABILISER)
    field /= deviation


def _windowed(
    values: NDArray[np.integer[Any]] | NDArray[np.floating[Any]], window: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean around each of `values` (H, W), weighted by `WINDOW` down the columns and `window` along rows."""
    return cv2.sepFilter2D(values, cv2.CV_64F, window, WINDOW, borderType=cv2.BORDER_REPLICATE)
