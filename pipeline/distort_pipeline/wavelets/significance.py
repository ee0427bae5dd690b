"""How large an image's wavelet coefficients are: what the rate control of a codec goes by.

A wavelet coder that is given so many bytes ends with about as many significant coefficients, whatever the image: bits
grow linearly with the share of those that are not rounded to 0 (He and Mitra, "A unified rate-distortion analysis
framework for transform coding", IEEE TCSVT 11(12), 2001, where 1 minus that share is called ρ). So an image's step
is the size that a certain share of its coefficients reaches, and that share is the same for all images.

A codec's step is that of the whole image. What is read here of it is 18 numbers, small enough to go along with its
tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.wavelets.lifting import MULTIPLE_PX, analysed

Significance = NDArray[np.float32]  # (18,): the share of an image's coefficients that reach each of the SIZES
Significances = NDArray[np.float32]  # (N, 18), a row for each image

SIZES = (2.0 ** (np.arange(18) / 2)).astype(np.float32)  # greys: 1 to 362, half an octave apart
LOG_SPACING = float(np.log(2.0) / 2)
LEAST_SHARE = 1e-7  # of the coefficients; keeps the logarithm of none finite
ZERO_GREY = 128  # what codecs take off each channel
# luma and colour differences of full-range RGB, ITU-T T.871 (JFIF); the irreversible transform of JPEG 2000 is the same
TO_PLANES = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)


def significance_of(image: Image) -> Significance:
    """Return the significance (18,) of a whole `image` (H, W, 3), mirrored at the bottom and right to whole bands.

    >>> plain = significance_of(np.full((40, 50, 3), 100, np.uint8))  # one value in 3 x 32 x 32 is not 0
    >>> [round(1 / float(share)) for share in plain[[0, -1]]]
    [3072, 3072]
    """
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)), "symmetric")
    planes = (padded.astype(np.float32) - ZERO_GREY) @ TO_PLANES.T
    sizes = np.abs(np.concatenate([band.ravel() for band in analysed(planes[None], np)]))
    return np.array([np.count_nonzero(sizes >= least) / sizes.size for least in SIZES], np.float32)


def log_sizes(significance: Any, log_shares: Any, xp: Any) -> Any:
    """Return the logarithms (N,) of the sizes in greys that shares `log_shares` (N,) of the coefficients reach.

    `significance` is (N, 18). Between two of the SIZES along a straight line of logarithms; never beyond the outermost.
    """
    reached = xp.log(xp.maximum(significance, LEAST_SHARE))
    steps = xp.maximum(reached[:, :-1] - reached[:, 1:], LEAST_SHARE)
    passed = xp.clip((reached[:, :-1] - log_shares[:, None]) / steps, 0.0, 1.0)
    return LOG_SPACING * xp.sum(passed, axis=1)
