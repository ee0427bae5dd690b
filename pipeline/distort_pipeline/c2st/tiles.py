"""Tiles of one photograph for the classifiers: of every kind, at the same places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image, Images, to_uint8
from distort_pipeline.planning.tiles import TILE_ALIGN_PX, spread_tiles
from distort_pipeline.statistics.c2st import POSITIVE_CONTROL_SCALE
from distort_pipeline.statistics.eval_images import EvalImages

TILE_PX = 64


@dataclass(frozen=True)
class LevelPair:
    """A whole photograph at one level of a distortion: the true one, and what a multi-level generator makes of it."""

    severity: float
    true: Image
    generated: Image


@dataclass(frozen=True)
class MultiLevelTiles:
    """Tiles (N, 64, 64, 3) of one photograph, each at one of the levels of a distortion, in turn."""

    true: Images
    generated: Images
    severities: NDArray[np.float32]  # (N,)


@dataclass(frozen=True)
class PhotographTiles:
    """Tiles (N, 64, 64, 3) of one photograph. Columns name true distortions, models generators."""

    pristine: Images
    true: Mapping[str, Images]  # by column
    true_again: Mapping[str, Images]  # by column: another draw, where there is one
    positive_control: Mapping[str, Images]  # by column: the true one at WEAKER of its strength
    generated: Mapping[str, Images]  # by model
    multi_level: Mapping[str, MultiLevelTiles]  # by multi-level model, where the photograph has all of its levels


def tiles_of(
    made: EvalImages, *, count: int, seed: int, condition_levels: Mapping[str, Sequence[LevelPair]] | None = None
) -> PhotographTiles | None:
    """Return up to `count` tiles of each kind of what was made of a photograph, far apart; None if it is too small.

    `rungs` has its levels by multi-level model.
    """
    height, width = made.pristine.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    places = spread_tiles(height, width, tile_px=TILE_PX, count=count, align_px=TILE_ALIGN_PX, seed=seed)

    def cut(image: Image) -> Images:
        return np.stack([image[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] for tile in places])

    return PhotographTiles(
        cut(made.pristine),
        true={column: cut(true) for column, true in made.true.items()},
        true_again={column: cut(true) for column, true in made.true_again.items()},
        positive_control={column: weakened(cut(made.pristine), cut(true)) for column, true in made.true.items()},
        generated={model: cut(drawn[0]) for model, drawn in made.generated.items()},
        multi_level={model: _interleaved(own, cut) for model, own in (condition_levels or {}).items()},
    )


def _interleaved(condition_levels: Sequence[LevelPair], cut: Callable[[Image], Images]) -> MultiLevelTiles:
    """Return tiles of which the first is at the first level, the second at the second, and so on, over and over."""
    true, generated = (
        np.stack(kind) for kind in zip(*((cut(r.true), cut(r.generated)) for r in condition_levels), strict=True)
    )
    places = np.arange(true.shape[1])
    turns = places % len(condition_levels)
    severities = np.array([level_pair.severity for level_pair in condition_levels], np.float32)
    return MultiLevelTiles(true[turns, places], generated[turns, places], severities[turns])


def weakened(pristine: Images, distorted: Images) -> Images:
    """Return `distorted` with its difference from `pristine` scaled to WEAKER, rounded.

    >>> weakened(np.array([100, 100], np.uint8), np.array([110, 90], np.uint8)).tolist()
    [108, 92]
    """
    return to_uint8(pristine + POSITIVE_CONTROL_SCALE * (distorted.astype(np.float32) - pristine))
