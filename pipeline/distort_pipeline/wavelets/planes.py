"""Bit planes: a wavelet coder with rate control cuts coefficients at powers of two only.

JPEG 2000 codes coefficients bit plane by bit plane, most significant first, and drops the rest when the bytes are
spent (Taubman, "High performance scalable image compression with EBCOT", IEEE TIP 9(7), 2000). Whatever step would be
right for an image, the output was cut at a power of two: images with similar steps are cut alike, and the pattern
repeats from octave to octave of steps, twice as large. Curves are therefore learned at a few phases of an octave, in
units of the bit plane below the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PHASES = 4  # of an octave, each with learned curves: steps are known to about a fifth of an octave


def plane_shares(steps: Any, xp: Any) -> tuple[Any, Any]:
    """Return the bit plane (N, 1) below each of the `steps` (N, 1), both in 8-bit levels, and phase weights.

    Of the weights (N, PHASES + 1) at most two are not 0, with sum 1; the last phase is the next plane. `xp` is `numpy`
    or `keras.ops`.

    >>> plane, shares = plane_shares(np.array([[9.0]]), np)
    >>> plane.item(), shares.round(2).tolist()
    (8.0, [[0.32, 0.68, 0.0, 0.0, 0.0]])
    """
    octaves = xp.log2(steps)
    below = xp.floor(octaves)
    phases = PHASES * (octaves - below)
    return 2.0**below, xp.maximum(1 - xp.abs(phases - np.arange(PHASES + 1, dtype=np.float32)), 0.0)


def nearest_phases(steps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the bit plane (N,) in 8-bit levels and the phase, 0 to PHASES - 1, nearest to each of `steps`.

    >>> nearest_phases(np.array([9.0, 15.5], np.float32))
    (array([ 8., 16.], dtype=float32), array([1, 0]))
    """
    octaves, phases = np.divmod(np.rint(PHASES * np.log2(steps)).astype(np.int64), PHASES)
    return (2.0**octaves).astype(np.float32), phases
