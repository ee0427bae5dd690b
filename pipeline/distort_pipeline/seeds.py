"""Seeds of samples: the same draw on any worker, in any order, on any day."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Part = str | int | float


def derive_seed(*parts: Part) -> int:
    """Return a 63-bit seed that depends on all `parts`, their types and their order.

    >>> derive_seed(1, "jpeg") == derive_seed(1, "jpeg")
    True
    >>> derive_seed(1, "2") == derive_seed("1", 2)
    False
    """
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: fits the signed integers of Parquet and NumPy


def sample_seed(seed: int, image_digest: str, distortion: str, level: int, draw: int = 0) -> int:
    """Return the seed of a sample: an image under a distortion at a level, drawn for the `draw`-th time."""
    return derive_seed(seed, image_digest, distortion, level, draw)


def make_rng(seed: int) -> np.random.Generator:
    """Return NumPy's PCG64 generator started from `seed`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed))
