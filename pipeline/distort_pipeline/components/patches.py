"""What the small models are fitted to: patches of pairs that know which image they are of, and where in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float32]  # (H, W, 3) or (H, W), on 0-255, neither rounded nor clipped


@dataclass(frozen=True)
class TilePosition:
    """Where a tile lies: its first row and column, and the sides of its image."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class PairPatch:
    """A pristine patch and the same patch distorted, (H, W, 3) uint8, at row `y`, column `x` of the image `image`."""

    pristine: NDArray[np.uint8]
    distorted: NDArray[np.uint8]
    image: int  # images are numbered from 0
    y: int
    x: int
    image_height: int
    image_width: int

    @property
    def position(self) -> TilePosition:
        """Where the patch lies in its image."""
        return TilePosition(self.y, self.x, self.image_height, self.image_width)


def by_image(patches: Sequence[PairPatch]) -> Iterator[tuple[int, list[PairPatch]]]:
    """Yield each image's number and its patches, in order."""
    for image in sorted({patch.image for patch in patches}):
        yield image, [patch for patch in patches if patch.image == image]


def cut_patches(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], side_px: int) -> list[PairPatch]:
    """Return patches of at most `side_px` on a side, which cover whole images (H, W, 3) without overlap."""
    patches = []
    for image, (pristine, distorted) in enumerate(pairs):
        height, width = pristine.shape[:2]
        for y in range(0, height - 127, side_px):
            for x in range(0, width - 127, side_px):
                inside = (slice(y, y + side_px), slice(x, x + side_px))
                patches.append(PairPatch(pristine[inside], distorted[inside], image, y, x, height, width))
    return patches


def recut(patches: Sequence[PairPatch], side_px: int, *, least_px: int = 128) -> list[PairPatch]:
    """Return `patches` cut into smaller ones of `side_px`; leftovers below `least_px` are dropped."""
    pieces = []
    for patch in patches:
        height, width = patch.pristine.shape[:2]
        for y in range(0, height - least_px + 1, side_px):
            for x in range(0, width - least_px + 1, side_px):
                inside = (slice(y, y + side_px), slice(x, x + side_px))
                pieces.append(
                    replace(
                        patch,
                        pristine=patch.pristine[inside],
                        distorted=patch.distorted[inside],
                        y=patch.y + y,
                        x=patch.x + x,
                    )
                )
    return pieces
