"""Full-reference measures between a pristine and a distorted picture: PSNR and SSIM."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ranges import Picture

DATA_RANGE = 255.0
# Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13(4) 2004
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_C1 = (0.01 * DATA_RANGE) ** 2
SSIM_C2 = (0.03 * DATA_RANGE) ** 2
SSIM_BLOCK_PX = 8_192  # rows are worked on so many centres at a time: in cache, twice as fast as whole pictures
MID_GREY = np.float32(128)  # taken off before squaring: float32 squares of small numbers keep more digits


def psnr(reference: Picture, distorted: Picture) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; math.inf for identical pictures.

    JSON and SampleRecord know no infinity: a record of identical pictures carries None.
    """
    require_same_shape(reference, distorted)
    squares = cv2.norm(reference, distorted, cv2.NORM_L2SQR)
    return math.inf if squares == 0 else 10 * math.log10(DATA_RANGE**2 * reference.size / squares)


def ssim(reference: Picture, distorted: Picture) -> float:
    """Return the structural similarity, the mean over the three channels: 1 for identical pictures, at least -1.

    Gaussian window, population covariance, no downsampling; window centres keep the whole window inside the picture.
    The same as scikit-image with gaussian_weights, sigma 1.5, use_sample_covariance off and data_range 255. ValueError
    for pictures smaller than the window.
    """
    require_same_shape(reference, distorted)
    if min(reference.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs sides of {SSIM_WINDOW_PX} px or more, got the shape {reference.shape}")
    height, width = (side - SSIM_WINDOW_PX + 1 for side in reference.shape[:2])  # of the window's centres
    block_rows = max(SSIM_BLOCK_PX // width, 1)
    total = 0.0
    for first in range(0, height, block_rows):
        rows = slice(first, min(first + block_rows, height) + SSIM_WINDOW_PX - 1)
        total += _likeness_sum(reference[rows], distorted[rows])
    return min(1.0, total / (height * width * reference.shape[2]))  # rounding can leave 1 + 1e-9


def _likeness_sum(reference: Picture, distorted: Picture) -> float:
    """Return the sum of the likeness over the centres and channels of some rows."""
    x, y = reference.astype(np.float32), distorted.astype(np.float32)
    x -= MID_GREY
    y -= MID_GREY
    x_mean, y_mean = windowed(x), windowed(y)
    covariance = windowed(x * y)
    covariance -= x_mean * y_mean
    x *= x
    y *= y
    x += y
    variances = windowed(x)  # of x and y, added up
    variances -= x_mean * x_mean
    variances -= y_mean * y_mean
    x_mean += MID_GREY
    y_mean += MID_GREY
    likeness = (2 * x_mean * y_mean + SSIM_C1) * (2 * covariance + SSIM_C2)
    likeness /= (x_mean * x_mean + y_mean * y_mean + SSIM_C1) * (variances + SSIM_C2)
    return float(likeness.sum(dtype=np.float64))


def windowed(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Gaussian-weighted means of `planes` (H, W, 3) where the window fits, (H - 10, W - 10, 3)."""
    margin = SSIM_WINDOW_PX // 2
    means = cv2.GaussianBlur(planes, (SSIM_WINDOW_PX, SSIM_WINDOW_PX), SSIM_SIGMA_PX)
    return means[margin:-margin, margin:-margin]


def require_same_shape(reference: Picture, distorted: Picture) -> None:
    """Raise ValueError unless both pictures have one shape."""
    if reference.shape != distorted.shape:
        raise ValueError(f"pictures must have one shape, got {reference.shape} and {distorted.shape}")
