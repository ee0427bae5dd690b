"""Histograms of MSCN coefficients and of their products: counts are additive over images and batches."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Grey, Image
from distort_pipeline.statistics.mscn import luma, mscn
from distort_pipeline.statistics.products import Direction, neighbours

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
