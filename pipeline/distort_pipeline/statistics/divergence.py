"""The Jensen-Shannon divergence of histograms, and JSD_NSS, the main metric of generated distortions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from distort_pipeline.pixels import Image
from distort_pipeline.statistics.histograms import product_histogram

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
