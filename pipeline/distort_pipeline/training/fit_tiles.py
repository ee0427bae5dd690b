"""The training tiles for fitting coefficient curves, spread over the whole store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.pixels import Images
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.crops import training_indices

MOST = 512  # tiles; four times as many changed JSD_NSS by less than 0.001 bits
MULTIPLE_PX = 128


@dataclass(frozen=True)
class FitTiles:
    """Tiles (N, side, side, 3), sides a multiple of 128, distorted at each level, and the image of each."""

    pristine: Images
    distorted: tuple[Images, ...]  # weakest level first
    images: tuple[str, ...]


def fit_tiles(pairs: PairStore, distortion: str, levels: Sequence[int], *, least_px: int) -> FitTiles:
    """Return up to 512 tiles at the `levels` of `distortion`, cut to the smallest common side.

    Tiles smaller than `least_px` are left out, as in training; PipelineError if all are.
    """
    records = pairs.records("train")
    index_of = [
        {records[index].slot: index for index in training_indices(pairs, distortion, [level], least_px=least_px)}
        for level in levels
    ]
    tiles = [tile for tile in index_of[0] if all(tile in level_index for level_index in index_of)]
    chosen = [tiles[number] for number in np.unique(np.linspace(0, len(tiles) - 1, min(MOST, len(tiles))).astype(int))]
    smallest = min(min(records[index_of[0][tile]].height, records[index_of[0][tile]].width) for tile in chosen)
    side = smallest // MULTIPLE_PX * MULTIPLE_PX
    firsts = [pairs[index_of[0][tile]] for tile in chosen]
    others = [[pairs[level_index[tile]].distorted[:side, :side] for tile in chosen] for level_index in index_of[1:]]
    return FitTiles(
        np.stack([pair.pristine[:side, :side] for pair in firsts]),
        tuple(np.stack(level_tiles) for level_tiles in [[pair.distorted[:side, :side] for pair in firsts], *others]),
        tuple(pair.records[0].image for pair in firsts),
    )
