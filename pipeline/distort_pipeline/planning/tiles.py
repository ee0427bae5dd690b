"""Positions of tiles in an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distort_pipeline.seeds import make_rng

TILE_ALIGN_PX = 16  # tiles keep the phase of JPEG's 8 px grid and of its 16 px chroma grid
CANDIDATES_AT_MOST = 4096  # candidate offsets of an image; keeps planning linear for huge images


@dataclass(frozen=True)
class Tile:
    """A square of an image: its offset and its extent inside the image, px."""

    y: int
    x: int
    height: int
    width: int


def spread_tiles(height: int, width: int, *, tile_px: int, count: int, align_px: int, seed: int) -> list[Tile]:
    """Return up to `count` different tiles of an image, by farthest-point sampling.

    Offsets are multiples of `align_px`. In an image smaller than a tile, the tile starts at 0 and its extent is the
    size of the image.

    >>> [(tile.y, tile.x) for tile in spread_tiles(256, 256, tile_px=256, count=4, align_px=16, seed=0)]
    [(0, 0)]
    """
    rows = np.arange(0, max(height - tile_px, 0) + 1, align_px)
    columns = np.arange(0, max(width - tile_px, 0) + 1, align_px)
    ys, xs = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    rng = make_rng(seed)
    if ys.size > max(CANDIDATES_AT_MOST, count):
        candidates = np.sort(rng.choice(ys.size, max(CANDIDATES_AT_MOST, count), replace=False))
        ys, xs = ys[candidates], xs[candidates]
    chosen = [int(rng.integers(ys.size))]
    nearest = np.full(ys.size, np.inf)
    while len(chosen) < min(count, ys.size):
        y, x = ys[chosen[-1]], xs[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(np.abs(ys - y), np.abs(xs - x)))
        chosen.append(int(np.argmax(nearest)))
    return [
        Tile(int(ys[i]), int(xs[i]), min(tile_px, height - int(ys[i])), min(tile_px, width - int(xs[i])))
        for i in chosen
    ]


def offsets_available(height: int, width: int, *, tile_px: int, align_px: int) -> int:
    """Return the number of different aligned tiles completely inside an image.

    >>> offsets_available(256, 272, tile_px=256, align_px=16), offsets_available(255, 900, tile_px=256, align_px=16)
    (2, 0)
    """
    if min(height, width) < tile_px:
        return 0
    return ((height - tile_px) // align_px + 1) * ((width - tile_px) // align_px + 1)
