"""JSD_NSS, the main metric of generated distortions, the twelve NSS features, and noise floors.

The features: MSCN and its products in four directions, at two scales, and D1 products of both chroma planes. JSD_NSS
alone is nearly blind to blocking, a feature of H and V, and as a feature of luma to shifted colours.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from distort_pipeline.metrics.nss_features import (
    DIRECTIONS,
    Counts,
    histogram,
    luma,
    mscn,
    pair_histogram,
    plane_histogram,
    product_histogram,
)
from distort_pipeline.records import Grey, Image

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
