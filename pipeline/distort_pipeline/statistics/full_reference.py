"""PSNR between a pristine and a distorted image, and the common parts of full-reference metrics."""

from __future__ import annotations

import math

import cv2

from distort_pipeline.pixels import Image

DATA_RANGE = 255.0


def psnr(reference: Image, distorted: Image) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; math.inf for identical images.

    Records hold None for identical images: JSON has no infinity.
    """
    require_same_shape(reference, distorted)
    squares = cv2.norm(reference, distorted, cv2.NORM_L2SQR)
    return math.inf if squares == 0 else 10 * math.log10(DATA_RANGE**2 * reference.size / squares)


def require_same_shape(reference: Image, distorted: Image) -> None:
    """Raise ValueError unless both images have the same shape."""
    if reference.shape != distorted.shape:
        raise ValueError(f"images must have the same shape, got {reference.shape} and {distorted.shape}")
