"""An earlier JPEG, on a grid of its own: of images that were cropped, or taken from the screen, and stored again.

The grid's offset is one for all images, or drawn per image. It is where the image, coded on that grid, is most like the
distorted one; the quality likewise, of the tables of the Independent JPEG Group, by halving steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.jpeg_stage import JpegStage, standard_tables
from distort_pipeline.networks.patches import GRID_PX, Levels, PairPatch, TilePosition, by_image
from distort_pipeline.records import to_uint8

Pixels = NDArray[np.uint8]  # (H, W, 3), sRGB

BLOCK_PX = 8
FIRST_QUALITIES = (10, 20, 35, 50, 70)
LIKELY = 5  # phases of eight that are tried
QUALITY_IMAGES = 4  # by which the first quality is chosen
OWN_PX = 160  # of each of an image's patches, on a side, to find its offset
OWN_PATCHES, SHARED_PATCHES = 2, 12  # at most, of an image, and of all for the quality


@dataclass(frozen=True)
class EarlierJpeg:
    """Offsets (images, 2) of the grid's first row and column, and the quality; chroma has half the size."""

    offsets: NDArray[np.int32]
    quality: int
    reach_px: ClassVar[int] = 2 * GRID_PX

    @property
    def sets(self) -> int:
        """The number of offsets to choose from."""
        return len(self.offsets)

    def distort(self, image: Levels, choice: int, position: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) coded on grid number `choice`; without `position` it begins at the first row."""
        row, column = self.offsets[choice % len(self.offsets)]
        y, x = (position.y, position.x) if position else (0, 0)
        return _coded(to_uint8(image), (y - int(row)) % GRID_PX, (x - int(column)) % GRID_PX, self.quality)


def fit_earlier_jpeg(patches: Sequence[PairPatch], bases: Sequence[Levels], *, per_image: bool) -> EarlierJpeg:
    """Return the JPEG that brings `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    crops = [_Crop(patch, base) for patch, base in zip(patches, bases, strict=True)]
    groups = [[crops[n] for n in own] for own in _of_images(patches)] if per_image else [crops]
    chosen = [_spread(group, OWN_PATCHES if per_image else SHARED_PATCHES) for group in groups]
    phases = [tuple(_phases(group, axis) for axis in (0, 1)) for group in groups]
    grids = list(zip(chosen, phases, strict=True))
    few = grids[:: max(len(grids) // QUALITY_IMAGES, 1)]
    quality = min(FIRST_QUALITIES, key=lambda each: sum(min(_errors(*grid, each).values()) for grid in few))
    errors = [_errors(*grid, quality) for grid in grids]
    offsets = [min(each, key=each.__getitem__) for each in errors]

    @cache
    def error(tried: int) -> float:
        rows = [crop.error(*offset, tried) for group, offset in zip(chosen, offsets, strict=True) for crop in group]
        return float(np.mean(rows))

    step = 16
    while step:
        quality = min((q for q in (quality - step, quality, quality + step) if 1 <= q <= 95), key=error)
        step //= 2
    return EarlierJpeg(np.array(offsets, np.int32), quality)


class _Crop:
    """The middle OWN_PX of a patch, and how unlike the distorted one it is on a grid."""

    def __init__(self, patch: PairPatch, base: Levels) -> None:
        top, left = (max(side - OWN_PX, 0) // 2 for side in base.shape[:2])
        inside = (slice(top, top + OWN_PX), slice(left, left + OWN_PX))
        self.base, self.distorted = to_uint8(base[inside]), patch.distorted[inside].astype(np.float32)
        self.y, self.x = patch.y + top, patch.x + left

    def error(self, row: int, column: int, quality: int) -> float:
        """Return the squared error, away from the borders."""
        coded = _coded(self.base, (self.y - row) % GRID_PX, (self.x - column) % GRID_PX, quality)
        edges = [min(GRID_PX, side // 4) for side in coded.shape[:2]]
        inside = tuple(slice(edge, side - edge) for edge, side in zip(edges, coded.shape[:2], strict=True))
        return float(np.square(coded - self.distorted)[inside].mean())


def _errors(crops: Sequence[_Crop], phases: Sequence[list[int]], quality: int) -> dict[tuple[int, int], float]:
    """Return the squared error at the `phases` of rows and columns, and where chroma begins, of twice the size."""
    rows, columns = phases
    blocks = {
        (row, column): float(np.mean([crop.error(row, column, quality) for crop in crops]))
        for row in rows
        for column in columns
    }
    row, column = min(blocks, key=blocks.__getitem__)
    for units in ((row + BLOCK_PX, column), (row, column + BLOCK_PX), (row + BLOCK_PX, column + BLOCK_PX)):
        blocks[units] = float(np.mean([crop.error(*units, quality) for crop in crops]))
    return blocks


def _phases(crops: Sequence[_Crop], axis: int) -> list[int]:
    """Return the LIKELY phases of rows or columns before which the distorted crops jump most, the base's jumps less."""
    jumps = np.zeros(BLOCK_PX)
    for crop in crops:
        steps = np.abs(np.diff(crop.distorted, axis=axis)) - np.abs(np.diff(crop.base.astype(np.float32), axis=axis))
        along = steps.mean(axis=(1 - axis, 2))
        phases = ((crop.y, crop.x)[axis] + 1 + np.arange(len(along))) % BLOCK_PX
        jumps += np.bincount(phases, along, minlength=BLOCK_PX) / np.bincount(phases, minlength=BLOCK_PX)
    return [int(phase) for phase in np.argsort(-jumps)[:LIKELY]]


def _of_images(patches: Sequence[PairPatch]) -> list[list[int]]:
    """Return the indices of the patches of each image, in the order of the images' numbers."""
    index = {id(patch): n for n, patch in enumerate(patches)}
    return [[index[id(patch)] for patch in own] for _, own in by_image(patches)]


def _spread(crops: Sequence[_Crop], most: int) -> list[_Crop]:
    return [crops[n] for n in np.unique(np.linspace(0, len(crops) - 1, min(most, len(crops))).astype(int))]


def _coded(image: Pixels, row: int, column: int, quality: int) -> Levels:
    """Return `image` (H, W, 3) after libjpeg; its first pixel is at this row and column of a unit of the grid."""
    height, width = image.shape[:2]
    padding = ((row, -(row + height) % GRID_PX), (column, -(column + width) % GRID_PX), (0, 0))
    padded = np.pad(image, padding, mode="edge")
    coded = JpegStage(*standard_tables(quality), "4:2:0").encode(padded)
    return coded[row : row + height, column : column + width].astype(np.float32)
