"""The 12 NSS features: MSCN and its products in four directions, at two scales, and D1 products of both chroma planes.

JSD_NSS alone is nearly blind to blocking, a feature of H and V, and as a feature of luma to shifted colours.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Grey, Image
from distort_pipeline.statistics.divergence import jsd_bits_rows
from distort_pipeline.statistics.histograms import Counts, histogram, pair_histogram, plane_histogram
from distort_pipeline.statistics.mscn import luma, mscn
from distort_pipeline.statistics.products import DIRECTIONS

JSD_NSS = "d1_1"
NSS_FEATURES: tuple[str, ...] = (
    *("mscn_1", "h_1", "v_1", "d1_1", "d2_1"),
    *("mscn_2", "h_2", "v_2", "d1_2", "d2_2"),
    *("cb", "cr"),
)


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
