"""Histograms of MSCN coefficients and of their products: counts, which add up over images and batches."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Grey, Image
from distort_pipeline.statistics.mscn import luma, mscn
from distort_pipeline.statistics.products import Direction, neighbours

BINS = 101  # ours; odd, so that 0, where flat regions gather, is in the middle of a bin
LIMIT = 2.0  # ours; the equal bins cover [-2, 2]
COUNTS = BINS + 2  # and one overflow bin at each end: mass outside is counted, never dropped
PER_UNIT = BINS / (2 * LIMIT)  # bins
BLOCK = 65_536  # values counted at a time, in cache: see benchmarks/statistics.py

_STEPS = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)  # what each byte is as a signed one
_BIN_OF_BYTE = np.clip(_STEPS, -(COUNTS // 2), COUNTS // 2) + COUNTS // 2

Counts: TypeAlias = NDArray[np.int64]  # (103,): below -2, the 101 bins from left to right, above 2


def histogram(values: NDArray[np.floating[Any]]) -> Counts:
    """Return how many of `values`, of any shape, fall into each bin; the counts add up to `values.size`.

    A bin holds its left edge, and the last one 2.0 itself too, as in np.histogram. Arithmetic is in the values' own
    precision, so one within a rounding error of an inner edge may land on its other side. NaN is a ValueError.
    """
    _refuse_nan(values)
    counts = np.zeros(COUNTS, np.int64)
    flat = values.ravel()
    for first in range(0, flat.size, BLOCK):
        steps = np.clip(flat[first : first + BLOCK], -2 * LIMIT, 2 * LIMIT) * values.dtype.type(PER_UNIT)
        counts += _step_counts(np.rint(steps, out=steps).astype(np.int8))
    return counts


def pair_histogram(field: NDArray[np.floating[Any]], direction: Direction) -> Counts:
    """Return the histogram of the products of neighbours in `direction` among MSCN coefficients (H, W).

    The same as that of `pair_products`, but for rounding errors at inner edges, in half the time: the products
    themselves are nowhere written down.
    """
    _refuse_nan(field)
    counts = np.zeros(COUNTS, np.int64)
    one, other = neighbours(field, direction)
    rows = max(BLOCK // max(one.shape[1], 1), 1)
    for first in range(0, len(one) if one.size else 0, rows):
        block = slice(first, first + rows)
        counts += _step_counts(cv2.multiply(one[block], other[block], scale=PER_UNIT, dtype=cv2.CV_8S))
    return counts


def _refuse_nan(values: NDArray[np.floating[Any]]) -> None:
    if values.size and np.isnan(values.min()):  # NaN has no bin, and a minimum passes it on
        raise ValueError("cannot count values that are not numbers (NaN)")


def _step_counts(steps: NDArray[np.int8]) -> Counts:
    """Return the histogram of at most 2^24 values, given as how many bins each is to the right of the middle one.

    They are values times PER_UNIT, rounded to the nearest, halves to even, and saturated. Halves are edges, and of
    these float numbers know only ±LIMIT exactly: 50.5 steps become 50, the last bin, and -50.5 become -50, the first.
    """
    found = cv2.calcHist([steps.view(np.uint8)], [0], None, [256], [0, 256])  # float32, exact up to 2^24
    return np.bincount(_BIN_OF_BYTE, found.ravel(), COUNTS).astype(np.int64)


def product_histogram(image: Image) -> Counts:
    """Return the headline's histogram: products of diagonal (D1) neighbours among the MSCN coefficients of the luma."""
    return plane_histogram(luma(image))


def plane_histogram(plane: NDArray[np.uint8] | Grey) -> Counts:
    """Return the histogram of the D1 products of one `plane` (H, W) on 0-255."""
    return pair_histogram(mscn(plane), "D1")


def edges() -> NDArray[np.float64]:
    """Return the 102 edges of the equal bins; the overflow bins reach from the outermost ones to infinity."""
    return np.linspace(-LIMIT, LIMIT, BINS + 1)


def centres() -> NDArray[np.float64]:
    """Return where to draw the 103 counts: centres of the equal bins, the overflow bins half a bin outside ±2."""
    width = 2 * LIMIT / BINS
    return width * np.arange(-(COUNTS // 2), COUNTS // 2 + 1, dtype=np.float64)
