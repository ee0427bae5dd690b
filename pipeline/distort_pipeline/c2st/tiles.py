"""Tiles of a photograph for the classifiers: of every kind, at the same positions."""

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
    """A whole photograph at a level of a distortion: the true image, and a multi-level generator's output."""

    severity: float
    true: Image
    generated: Image


@dataclass(frozen=True)
class MultiLevelTiles:
    """Tiles (N, 64, 64, 3) of a photograph, with the levels of a distortion interleaved."""

    true: Images
    generated: Images
    severities: NDArray[np.float32]  # (N,)


@dataclass(frozen=True)
class ImageTiles:
    """Tiles (N, 64, 64, 3) of a photograph. Columns name true distortions, models generators."""

    pristine: Images
    true: Mapping[str, Images]  # by column
    true_again: Mapping[str, Images]  # by column: a second draw, if any
    positive_control: Mapping[str, Images]  # by column: true tiles with POSITIVE_CONTROL_SCALE of the residual
    generated: Mapping[str, Images]  # by model
    multi_level: Mapping[str, MultiLevelTiles]  # by multi-level model, if the photograph has all levels


def tiles_of(
    images: EvalImages, *, count: int, seed: int, level_pairs: Mapping[str, Sequence[LevelPair]] | None = None
) -> ImageTiles | None:
    """Return up to `count` tiles of each kind of a photograph, spread over the image; None for a small photograph.

    `level_pairs` has the photograph's levels by multi-level model.
    """
    height, width = images.pristine.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    positions = spread_tiles(height, width, tile_px=TILE_PX, count=count, align_px=TILE_ALIGN_PX, seed=seed)

    def cut(image: Image) -> Images:
        return np.stack([image[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] for tile in positions])

    return ImageTiles(
        cut(images.pristine),
        true={column: cut(true) for column, true in images.true.items()},
        true_again={column: cut(true) for column, true in images.true_again.items()},
        positive_control={
            column: scaled_residual(cut(images.pristine), cut(true)) for column, true in images.true.items()
        },
        generated={model: cut(drawn[0]) for model, drawn in images.generated.items()},
        multi_level={model: _interleaved(pairs, cut) for model, pairs in (level_pairs or {}).items()},
    )


def _interleaved(level_pairs: Sequence[LevelPair], cut: Callable[[Image], Images]) -> MultiLevelTiles:
    """Return tiles with the levels interleaved: the first tile at the first level, the second at the second, ..."""
    true, generated = (
        np.stack(kind) for kind in zip(*((cut(r.true), cut(r.generated)) for r in level_pairs), strict=True)
    )
    positions = np.arange(true.shape[1])
    levels = positions % len(level_pairs)
    severities = np.array([pair.severity for pair in level_pairs], np.float32)
    return MultiLevelTiles(true[levels, positions], generated[levels, positions], severities[levels])


def scaled_residual(pristine: Images, distorted: Images) -> Images:
    """Return `distorted` with its difference from `pristine` scaled by POSITIVE_CONTROL_SCALE, rounded.

    >>> scaled_residual(np.array([100, 100], np.uint8), np.array([110, 90], np.uint8)).tolist()
    [108, 92]
    """
    return to_uint8(pristine + POSITIVE_CONTROL_SCALE * (distorted.astype(np.float32) - pristine))
