"""JSD_NSS, the main metric of generated distortions, the twelve NSS features, and noise floors.

The features: MSCN and its products in four directions, at two scales, and D1 products of both chroma planes. JSD_NSS
alone is nearly blind to blocking, a feature of H and V, and as a feature of luma to shifted colours. The basis of all
are histograms of MSCN coefficients and of their products with neighbours.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

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


NATS_PER_BIT = math.log(2)

AnyCounts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]


def jsd_nss(true: Image, generated: Image) -> float:
    """Return JSD_NSS in bits: the divergence between the natural scene statistics of `generated` and of `true`.

    0 for identical statistics, at most 1. Chen et al. 2020; the histogram's bins and the logarithm are ours.
    """
    return jsd_bits(product_histogram(true), product_histogram(generated))


def jsd_bits(p_counts: AnyCounts, q_counts: AnyCounts) -> float:
    """Return the divergence of two histograms (K,) in bits: exactly 0 for the same proportions, 1 for disjoint ones.

    >>> jsd_bits(np.array([1, 2]), np.array([10, 20])), jsd_bits(np.array([1, 0]), np.array([0, 7]))
    (0.0, 1.0)
    """
    return float(jsd_bits_rows(_require_single(p_counts), _require_single(q_counts)))


def jsd_nats(p_counts: AnyCounts, q_counts: AnyCounts) -> float:
    """Return the divergence of two histograms (K,) in nats: the bits times log 2."""
    return jsd_bits(p_counts, q_counts) * NATS_PER_BIT


def jsd_bits_rows(p_counts: AnyCounts, q_counts: AnyCounts) -> NDArray[np.float64]:
    """Return the divergences in bits of many histograms, (..., K) against (..., K), leading axes broadcast.

    Counts are normalised and need not be integers; 0 log 0 is 0. ValueError for an empty histogram or different bins.
    """
    if p_counts.shape[-1] != q_counts.shape[-1]:
        raise ValueError(f"histograms differ in bins: shapes {p_counts.shape} and {q_counts.shape}")
    p, q = _normalised(p_counts), _normalised(q_counts)
    middle = (p + q) / 2
    nats = (rel_entr(p, middle).sum(-1) + rel_entr(q, middle).sum(-1)) / 2
    return np.clip(nats / NATS_PER_BIT, 0, 1)  # rounding can leave -1e-17 or 1 + 1e-16


def _require_single(counts: AnyCounts) -> AnyCounts:
    """Return `counts`; ValueError unless their shape is (K,)."""
    if counts.ndim != 1:
        raise ValueError(f"expected one histogram (bins,), got the shape {counts.shape}")
    return counts


def _normalised(counts: AnyCounts) -> NDArray[np.float64]:
    """Return `counts` (..., K) as proportions that add up to 1 over the last axis."""
    total = counts.sum(-1, keepdims=True)
    if (counts < 0).any() or not (total > 0).all():
        raise ValueError("a histogram needs counts of 0 or more, and a positive sum")
    return np.asarray(counts / total, np.float64)


JSD_NSS = "d1_1"
NSS_FEATURES: tuple[str, ...] = (
    *("mscn_1", "h_1", "v_1", "d1_1", "d2_1"),
    *("mscn_2", "h_2", "v_2", "d1_2", "d2_2"),
    *("cb", "cr"),
)
JSD_NSS_ROW = NSS_FEATURES.index(JSD_NSS)


def nss_histograms(image: Image) -> NDArray[np.int64]:
    """Return a histogram for each of NSS_FEATURES, (12, 103); the row 'd1_1' is product_histogram(image)."""
    fine = luma(image)
    chroma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    cb, cr = plane_histogram(chroma[..., 2]), plane_histogram(chroma[..., 1])
    return np.stack([*_scale_histograms(fine), *_scale_histograms(half_size(fine)), cb, cr])


def feature_divergences(p: NDArray[np.int64], q: NDArray[np.int64]) -> dict[str, float]:
    """Return the divergence in bits by NSS feature, between histograms `p` and `q`, both (12, 103)."""
    if p.shape != q.shape or len(p) != len(NSS_FEATURES):
        raise ValueError(f"expected two stacks of {len(NSS_FEATURES)} histograms, got shapes {p.shape} and {q.shape}")
    return dict(zip(NSS_FEATURES, jsd_bits_rows(p, q).tolist(), strict=True))


def half_size(plane: NDArray[np.uint8] | NDArray[np.floating[Any]]) -> Grey:
    """Return the means of 2×2 boxes of `plane`, (H//2, W//2) floats; an odd last row or column is left out.

    >>> half_size(np.array([[0, 1, 9], [2, 3, 9]], np.uint8)).tolist()
    [[1.5]]
    """
    working = np.float64 if plane.dtype == np.float64 else np.float32  # quarters of 8-bit levels are exact in float32
    height, width = (side // 2 * 2 for side in plane.shape)
    rows = np.add(plane[0:height:2, :width], plane[1:height:2, :width], dtype=working)
    return (rows[:, 0::2] + rows[:, 1::2]) * working(0.25)


def _scale_histograms(plane: NDArray[np.uint8] | Grey) -> list[Counts]:
    """Return the histograms of MSCN and of its products in each of DIRECTIONS, for a luma `plane`."""
    field = mscn(plane)
    return [histogram(field), *(pair_histogram(field, direction) for direction in DIRECTIONS)]


def between_content_baseline(histograms: NDArray[np.int64], ordering: ArrayLike) -> float:
    """Return the divergence in bits between two disjoint halves of the images, each pooled: the effect of content.

    `histograms` is (n, bins), a row for each image under the same true distortion; `ordering` is a permutation of
    0 … n - 1, whose first n // 2 images are the first half.
    """
    order = np.asarray(ordering)
    if len(histograms) < 2 or sorted(order.tolist()) != list(range(len(histograms))):
        raise ValueError(f"expected a permutation of two or more images, 0 to {len(histograms) - 1}, got {order}")
    half = len(order) // 2
    return jsd_bits(histograms[order[:half]].sum(0), histograms[order[half:]].sum(0))
