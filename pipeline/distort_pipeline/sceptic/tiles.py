"""Tiles of one photograph for the classifiers: of every kind, at the same places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from distort_pipeline.planning.tiles import TILE_ALIGN_PX, spread_tiles
from distort_pipeline.ranges import Picture, Pictures, to_uint8
from distort_pipeline.statistics.measured import Made
from distort_pipeline.statistics.told import WEAKER

TILE_PX = 64


@dataclass(frozen=True)
class PhotographTiles:
    """Tiles (N, 64, 64, 3) of one photograph. Columns name true distortions, models generators."""

    pristine: Pictures
    true: Mapping[str, Pictures]  # by column
    true_again: Mapping[str, Pictures]  # by column: another draw, where there is one
    weaker: Mapping[str, Pictures]  # by column: the true one at WEAKER of its strength
    generated: Mapping[str, Pictures]  # by model


def cut_tiles(made: Made, *, count: int, seed: int) -> PhotographTiles | None:
    """Return up to `count` tiles of each kind of what was made of a photograph, far apart; None if it is too small."""
    height, width = made.pristine.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    places = spread_tiles(height, width, tile_px=TILE_PX, count=count, align_px=TILE_ALIGN_PX, seed=seed)

    def cut(picture: Picture) -> Pictures:
        return np.stack([picture[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] for tile in places])

    return PhotographTiles(
        cut(made.pristine),
        true={column: cut(true) for column, true in made.true.items()},
        true_again={column: cut(true) for column, true in made.true_again.items()},
        weaker={column: weakened(cut(made.pristine), cut(true)) for column, true in made.true.items()},
        generated={model: cut(drawn[0]) for model, drawn in made.generated.items()},
    )


def weakened(pristine: Pictures, distorted: Pictures) -> Pictures:
    """Return `distorted` with its difference from `pristine` scaled to WEAKER, rounded.

    >>> weakened(np.array([100, 100], np.uint8), np.array([110, 90], np.uint8)).tolist()
    [108, 92]
    """
    return to_uint8(pristine + WEAKER * (distorted.astype(np.float32) - pristine))
