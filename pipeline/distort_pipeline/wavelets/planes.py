"""Bit planes: of all steps that a rate asks for, a wavelet coder can take every second power of two only.

JPEG 2000 codes coefficients bit plane by bit plane, most significant first, and drops what is left when the bytes are
spent (Taubman, "High performance scalable image compression with EBCOT", IEEE TIP 9(7), 2000). Whatever step would be
right for an image, what comes out was cut at a power of two: images whose steps are near each other are cut alike,
and from one octave of steps to the next the same repeats, twice as large. So curves are learned at a few places of an
octave, in units of the plane below, and nothing else has to be said of how coarse an image is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PHASES = 4  # places in an octave at which curves are learned: steps are known to about a fifth of an octave


def plane_shares(steps: Any, xp: Any) -> tuple[Any, Any]:
    """Return the plane (N, 1) below each of the `steps` (N, 1) in greys, and the shares (N, PHASES + 1) of its places.

    At most two shares are not 0, and their sum is 1; the last place is the next plane. `xp` is `numpy` or `keras.ops`.

    >>> plane, shares = plane_shares(np.array([[9.0]]), np)
    >>> plane.item(), shares.round(2).tolist()
    (8.0, [[0.32, 0.68, 0.0, 0.0, 0.0]])
    """
    octaves = xp.log2(steps)
    below = xp.floor(octaves)
    places = PHASES * (octaves - below)
    return 2.0**below, xp.maximum(1 - xp.abs(places - np.arange(PHASES + 1, dtype=np.float32)), 0.0)


def nearest_phases(steps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the plane (N,) in greys and the place from 0 to PHASES - 1 in its octave that each of `steps` is next to.

    >>> nearest_phases(np.array([9.0, 15.5], np.float32))
    (array([ 8., 16.], dtype=float32), array([1, 0]))
    """
    octaves, phases = np.divmod(np.rint(PHASES * np.log2(steps)).astype(np.int64), PHASES)
    return (2.0**octaves).astype(np.float32), phases
