"""Histograms of MSCN coefficients and of their products: counts, which add up over pictures and batches."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ranges import Grey, Picture
from distort_pipeline.statistics.mscn import luma, mscn
from distort_pipeline.statistics.products import pair_products

BINS = 101  # ours; odd, so that 0, where flat regions gather, is in the middle of a bin
LIMIT = 2.0  # ours; the equal bins cover [-2, 2]
COUNTS = BINS + 2  # and one overflow bin at each end: mass outside is counted, never dropped

Counts: TypeAlias = NDArray[np.int64]  # (103,): below -2, the 101 bins from left to right, above 2


def histogram(values: NDArray[np.floating[Any]]) -> Counts:
    """Return how many of `values`, of any shape, fall into each bin; the counts add up to `values.size`.

    A bin holds its left edge, and the last one 2.0 itself too, as in np.histogram. Arithmetic is in the values' own
    precision, so one within a rounding error of an inner edge may land on its other side. NaN is a ValueError.
    """
    if values.size == 0:
        return np.zeros(COUNTS, np.int64)
    if np.isnan(values.min()):  # NaN has no bin, and a minimum passes it on
        raise ValueError("cannot count values that are not numbers (NaN)")
    places = np.clip(values, -LIMIT, LIMIT)
    places += values.dtype.type(LIMIT)
    places *= values.dtype.type(BINS / (2 * LIMIT))
    np.minimum(places, BINS - 1, out=places)
    counts = np.zeros(COUNTS, np.int64)
    counts[1:-1] = np.bincount(places.astype(np.intp).ravel(), minlength=BINS)
    below, above = np.count_nonzero(values < -LIMIT), np.count_nonzero(values > LIMIT)
    counts[[0, 1, -2, -1]] += np.array([below, -below, -above, above])  # the clip had put them into the outermost bins
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
