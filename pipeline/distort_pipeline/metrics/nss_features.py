"""Histograms of MSCN coefficients and of their products with neighbours, the basis of all NSS features.

Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE TIP 21(12) 2012.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import Grey, Image

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


Direction: TypeAlias = Literal["H", "V", "D1", "D2"]

DIRECTIONS: tuple[Direction, ...] = ("H", "V", "D1", "D2")

_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_PARTNERS = {  # (rows, columns) of the pixel, and of its neighbour
    "H": ((_ALL, _HEAD), (_ALL, _TAIL)),
    "V": ((_HEAD, _ALL), (_TAIL, _ALL)),
    "D1": ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    "D2": ((_HEAD, _TAIL), (_TAIL, _HEAD)),
}


def pair_products(field: NDArray[np.floating[Any]], direction: Direction) -> NDArray[np.floating[Any]]:
    """Return the product of each value of `field` (H, W) with its neighbour in `direction`.

    H is to the right, V below, D1 below to the right, D2 below to the left. Pixels without a neighbour are left out
    (no wrap-around): the result is a row shorter, a column shorter, or both.

    >>> field = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> [pair_products(field, direction).ravel().tolist() for direction in DIRECTIONS]
    [[2.0, 15.0], [3.0, 10.0], [5.0], [6.0]]
    """
    pixels, shifted = neighbours(field, direction)
    return pixels * shifted


def neighbours(
    field: NDArray[np.floating[Any]], direction: Direction
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the pixels of `field` with a neighbour in `direction`, and the neighbours: two views of equal shape."""
    pixel, partner = _PARTNERS[direction]
    return field[pixel], field[partner]


BINS = 101  # ours; odd, so that 0, the value of flat regions, is in the middle of a bin
LIMIT = 2.0  # ours; the equal bins cover [-2, 2]
COUNTS = BINS + 2  # with one overflow bin at each end: no value is dropped
PER_UNIT = BINS / (2 * LIMIT)  # bins
BLOCK = 65_536  # values counted at a time, in cache: see benchmarks/statistics.py

_STEPS = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)  # signed value of each byte
_BIN_OF_BYTE = np.clip(_STEPS, -(COUNTS // 2), COUNTS // 2) + COUNTS // 2

Counts: TypeAlias = NDArray[np.int64]  # (103,): below -2, the 101 bins from left to right, above 2


def histogram(values: NDArray[np.floating[Any]]) -> Counts:
    """Return the number of `values`, of any shape, in each bin; the counts add up to `values.size`.

    A bin includes its left edge, the last bin 2.0 too, as in np.histogram. Arithmetic has the precision of `values`:
    a value within a rounding error of an inner edge may fall on the other side. ValueError for NaN.
    """
    _require_numbers(values)
    counts = np.zeros(COUNTS, np.int64)
    flat = values.ravel()
    for first in range(0, flat.size, BLOCK):
        steps = np.clip(flat[first : first + BLOCK], -2 * LIMIT, 2 * LIMIT) * values.dtype.type(PER_UNIT)
        counts += _step_counts(np.rint(steps, out=steps).astype(np.int8))
    return counts


def pair_histogram(field: NDArray[np.floating[Any]], direction: Direction) -> Counts:
    """Return the histogram of the products of neighbours in `direction` among MSCN coefficients (H, W).

    Equal to the histogram of `pair_products` except for rounding errors at inner edges, in half the time: the products
    are not stored.
    """
    _require_numbers(field)
    counts = np.zeros(COUNTS, np.int64)
    pixels, shifted = neighbours(field, direction)
    rows = max(BLOCK // max(pixels.shape[1], 1), 1)
    for first in range(0, len(pixels) if pixels.size else 0, rows):
        block = slice(first, first + rows)
        counts += _step_counts(cv2.multiply(pixels[block], shifted[block], scale=PER_UNIT, dtype=cv2.CV_8S))
    return counts


def _require_numbers(values: NDArray[np.floating[Any]]) -> None:
    if values.size and np.isnan(values.min()):  # the minimum propagates NaN
        raise ValueError("cannot count values that are not numbers (NaN)")


def _step_counts(steps: NDArray[np.int8]) -> Counts:
    """Return the histogram of at most 2^24 values, given as bin offsets from the middle bin.

    Offsets are values times PER_UNIT, rounded to nearest, halves to even, and saturated. Halves are edges; only ±LIMIT
    is exact as a float: 50.5 becomes 50, the last bin, and -50.5 becomes -50, the first.
    """
    byte_counts = cv2.calcHist([steps.view(np.uint8)], [0], None, [256], [0, 256])  # float32, exact up to 2^24
    return np.bincount(_BIN_OF_BYTE, byte_counts.ravel(), COUNTS).astype(np.int64)


def product_histogram(image: Image) -> Counts:
    """Return the histogram of JSD_NSS: products of diagonal (D1) neighbours among the MSCN coefficients of the luma."""
    return plane_histogram(luma(image))


def binned_products(image: Image, bins: int, low: float, high: float) -> Counts:
    """Return the histogram (bins + 2,) of the products in JSD_NSS, `bins` equal bins over [low, high] and two beyond.

    >>> noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    >>> int(np.abs(binned_products(noise, BINS, -LIMIT, LIMIT) - product_histogram(noise)).sum())
    0
    """
    if (bins, low, high) == (BINS, -LIMIT, LIMIT):
        return product_histogram(image)
    bounds = [-np.inf, *np.linspace(low, high, bins + 1), np.inf]
    return np.histogram(pair_products(mscn(luma(image)), "D1"), bounds)[0]


def plane_histogram(plane: NDArray[np.uint8] | Grey) -> Counts:
    """Return the histogram of the D1 products of one `plane` (H, W) on 0-255."""
    return pair_histogram(mscn(plane), "D1")


def edges() -> NDArray[np.float64]:
    """Return the 102 edges of the equal bins; the overflow bins reach from the outermost edges to infinity."""
    return np.linspace(-LIMIT, LIMIT, BINS + 1)


def centres() -> NDArray[np.float64]:
    """Return 103 positions for drawing: centres of the equal bins, and half a bin outside ±2 for the overflow bins."""
    width = 2 * LIMIT / BINS
    return width * np.arange(-(COUNTS // 2), COUNTS // 2 + 1, dtype=np.float64)
