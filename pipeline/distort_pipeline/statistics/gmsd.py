"""Gradient magnitude similarity deviation between a pristine and a distorted image.

Xue, Zhang, Mou and Bovik, "Gradient magnitude similarity deviation", IEEE TIP 23(2) 2014; as in the authors' code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.statistics.full_reference import require_same_shape

STABILISER = 170  # their T, for gradients on 0-255
RED, GREEN, BLUE = (np.float32(share) for share in (0.299, 0.587, 0.114))  # BT.601, kept as floats


def gmsd(reference: Image, distorted: Image) -> float:
    """Return the deviation on half-size luma: 0 for identical images, rarely above 0.4; lower is better.

    NumPy alone: the last bits of OpenCV's filters depend on memory alignment, and records are digested.
    """
    require_same_shape(reference, distorted)
    x, y = (_squared_gradient(_half_luma(image)) for image in (reference, distorted))
    likeness = 2 * np.sqrt(x * y)
    likeness += STABILISER
    likeness /= x + y + STABILISER
    return float(np.std(likeness, dtype=np.float64))


def _half_luma(image: Image) -> NDArray[np.float32]:
    """Return the means of luma over 2 x 2 px, (ceil(H / 2), ceil(W / 2)), with black beyond an odd side."""
    luma = image[..., 0] * RED + image[..., 1] * GREEN + image[..., 2] * BLUE
    height, width = luma.shape
    if height % 2 or width % 2:
        luma = np.pad(luma, ((0, height % 2), (0, width % 2)))
    rows = luma[::2] + luma[1::2]
    return np.asarray((rows[:, ::2] + rows[:, 1::2]) / 4, np.float32)


def _squared_gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared gradient magnitude by Prewitt's filters, divided by 3, with black around `luma`."""
    wide = np.pad(luma, 1)
    down = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    across = wide[:-2] + wide[1:-1] + wide[2:]
    vertical = (down[2:] - down[:-2]) / 3
    horizontal = (across[:, 2:] - across[:, :-2]) / 3
    return np.asarray(vertical * vertical + horizontal * horizontal, np.float32)
