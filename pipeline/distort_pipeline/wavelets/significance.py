"""The significance of an image: shares of large wavelet coefficients, the basis of a codec's rate control.

A wavelet coder with a byte budget ends with about the same number of significant coefficients for any image: bits grow
linearly with the share of coefficients not rounded to 0 (He and Mitra, "A unified rate-distortion analysis framework
for transform coding", IEEE TCSVT 11(12), 2001, where 1 minus this share is called ρ). An image's step is therefore the
magnitude reached by a share of its coefficients, and the share is the same for all images.

A codec's step belongs to the whole image. The significance is 18 numbers, small enough to accompany each tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.wavelets.lifting import MULTIPLE_PX, analysed

Significance = NDArray[np.float32]  # (18,): the share of an image's coefficients not below each of the SIZES
Significances = NDArray[np.float32]  # (N, 18), a row for each image

SIZES = (2.0 ** (np.arange(18) / 2)).astype(np.float32)  # 8-bit levels: 1 to 362, half an octave apart
LOG_SPACING = float(np.log(2.0) / 2)
LEAST_SHARE = 1e-7  # of the coefficients; keeps the logarithm finite
ZERO_LEVEL = 128  # subtracted from each channel by codecs
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
    planes = (padded.astype(np.float32) - ZERO_LEVEL) @ TO_PLANES.T
    sizes = np.abs(np.concatenate([band.ravel() for band in analysed(planes[None], np)]))
    return np.array([np.count_nonzero(sizes >= least) / sizes.size for least in SIZES], np.float32)


def log_sizes(significance: Any, log_shares: Any, xp: Any) -> Any:
    """Return the logarithms (N,) of the magnitudes, in 8-bit levels, reached by shares `log_shares` (N,).

    `significance` is (N, 18). Linear in logarithms between two of the SIZES; never beyond the outermost.
    """
    reached = xp.log(xp.maximum(significance, LEAST_SHARE))
    steps = xp.maximum(reached[:, :-1] - reached[:, 1:], LEAST_SHARE)
    passed = xp.clip((reached[:, :-1] - log_shares[:, None]) / steps, 0.0, 1.0)
    return LOG_SPACING * xp.sum(passed, axis=1)
