"""White noise that belongs to a place in an image: tiles of an image see the same noise as the whole image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_PX = 128  # drawn at once, from the seed and the block's place
ORIGIN_PX = 1024  # how far above and left of an image a field reaches


def white_field(seed: int, y: int, x: int, height: int, width: int, channels: int) -> NDArray[np.float32]:
    """Return independent standard normal noise (height, width, channels) for rows from `y`, columns from `x`."""
    y, x = y + ORIGIN_PX, x + ORIGIN_PX  # seeds know no negative places
    field = np.empty((height, width, channels), np.float32)
    for row in range(y // BLOCK_PX, (y + height - 1) // BLOCK_PX + 1):
        for column in range(x // BLOCK_PX, (x + width - 1) // BLOCK_PX + 1):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, row, column])))
            block = rng.standard_normal((BLOCK_PX, BLOCK_PX, channels), dtype=np.float32)
            first_row, first_column = row * BLOCK_PX - y, column * BLOCK_PX - x
            inside = (
                slice(max(first_row, 0), min(first_row + BLOCK_PX, height)),
                slice(max(first_column, 0), min(first_column + BLOCK_PX, width)),
            )
            drawn = (
                slice(inside[0].start - first_row, inside[0].stop - first_row),
                slice(inside[1].start - first_column, inside[1].stop - first_column),
            )
            field[inside] = block[drawn]
    return field
