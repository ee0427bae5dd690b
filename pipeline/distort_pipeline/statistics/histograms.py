"""Histograms of MSCN coefficients and of their products: counts, which add up over pictures and batches."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ranges import Grey, Picture
from distort_pipeline.statistics.mscn import luma, mscn
from distort_pipeline.statistics.products import pair_products

BINS = 101  # ours; odd, so that 0, where flat regions gather, is in the middle of a bin
LIMIT = 2.0  # ours; the equal bins cover [-2, 2]
COUNTS = BINS + 2  # and one overflow bin at each end: mass outside is counted, never dropped
BLOCK = 65_536  # values counted at a time, in cache: see benchmarks/statistics.py

Counts: TypeAlias = NDArray[np.int64]  # (103,): below -2, the 101 bins from left to right, above 2


def histogram(values: NDArray[np.floating[Any]]) -> Counts:
    """Return how many of `values`, of any shape, fall into each bin; the counts add up to `values.size`.

    A bin holds its left edge, and the last one 2.0 itself too, as in np.histogram. Arithmetic is in the values' own
    precision, so one within a rounding error of an inner edge may land on its other side. NaN is a ValueError.
    """
    counts = np.zeros(COUNTS, np.int64)
    flat = values.ravel()
    for first in range(0, flat.size, BLOCK):
        counts += _block_counts(flat[first : first + BLOCK])
    return counts


def _block_counts(values: NDArray[np.floating[Any]]) -> Counts:
    """Return the histogram of 1 to BLOCK values."""
    if np.isnan(values.min()):  # NaN has no bin, and a minimum passes it on
        raise ValueError("cannot count values that are not numbers (NaN)")
    places = values * values.dtype.type(BINS / (2 * LIMIT))
    places += values.dtype.type(BINS / 2 + 1)  # bin 1 starts at -LIMIT: what lies left of it falls into bin 0
    np.clip(places, 0, BINS, out=places)  # rounding can put a value just below LIMIT at it, so those above are counted
    found = cv2.calcHist([places.astype(np.uint8)], [0], None, [COUNTS], [0, COUNTS])
    counts = found.ravel().astype(np.int64)  # float32, and exact: a block holds fewer values than 2^24
    above = np.count_nonzero(values > LIMIT)
    counts[-2:] += (-above, above)
    return counts


def product_histogram(picture: Picture) -> Counts:
    """Return the headline's histogram: products of diagonal (D1) neighbours among the MSCN coefficients of the luma."""
    return plane_histogram(luma(picture))


def plane_histogram(plane: NDArray[np.uint8] | Grey) -> Counts:
    """Return the histogram of the D1 products of one `plane` (H, W) on 0-255."""
    return histogram(pair_products(mscn(plane), "D1"))


def edges() -> NDArray[np.float64]:
    """Return the 102 edges of the equal bins; the overflow bins reach from the outermost ones to infinity."""
    return np.linspace(-LIMIT, LIMIT, BINS + 1)


def centres() -> NDArray[np.float64]:
    """Return where to draw the 103 counts: centres of the equal bins, the overflow bins half a bin outside ±2."""
    width = 2 * LIMIT / BINS
    return width * np.arange(-(COUNTS // 2), COUNTS // 2 + 1, dtype=np.float64)
