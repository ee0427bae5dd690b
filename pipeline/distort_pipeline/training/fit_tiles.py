"""The training tiles that response curves are fitted to: as many as are useful, spread over the whole store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distort_pipeline.ranges import Pictures
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.crops import training_places

MOST = 512  # tiles; four times as many changed JSD_NSS by less than 0.001 bits
MULTIPLE_PX = 128


@dataclass(frozen=True)
class FitTiles:
    """Tiles (N, side, side, 3), sides a multiple of 128, and the picture that each is of."""

    pristine: Pictures
    distorted: Pictures
    pictures: tuple[str, ...]


def fit_tiles(pairs: PairStore, distortion: str, *, least_px: int) -> FitTiles:
    """Return up to 512 tiles at the first level of `distortion`, cut to the side that all have in common.

    Tiles that are smaller than `least_px` are left out, as they are in training; PipelineError if all are.
    """
    places = training_places(pairs, distortion, least_px=least_px)
    spread = np.unique(np.linspace(0, len(places) - 1, min(MOST, len(places))).astype(int))
    found = [pairs[places[turn]] for turn in spread]
    smallest = min(min(pair.pristine.shape[:2]) for pair in found)
    side = smallest // MULTIPLE_PX * MULTIPLE_PX
    return FitTiles(
        np.stack([pair.pristine[:side, :side] for pair in found]),
        np.stack([pair.distorted[:side, :side] for pair in found]),
        tuple(pair.records[0].picture for pair in found),
    )
