"""What the small models are fitted to: patches of pairs, with their image and their place in it.

White noise belongs to a place in an image: tiles of an image see the same noise as the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float32]  # (H, W, 3) or (H, W), on 0-255, neither rounded nor clipped
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # BT.601
TO_RGB = np.linalg.inv(TO_YCC)
GRID_PX = 16  # sides and offsets are multiples: JPEG's 4:2:0 units, and twice those of other block codecs
FREE_CHANNELS = 2  # white noise at full resolution that a network may use as it likes
LATENTS = 4  # per image: log gain, and free ones


Ranks = NDArray[np.float32]  # (4, 256): the share of an image's pixels at or below each value of R, G, B and Y


@dataclass(frozen=True)
class TilePosition:
    """Where a tile lies: its first row and column, and the sides of its image; the image's `ranks` where they count."""

    y: int
    x: int
    height: int
    width: int
    ranks: Ranks | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class PairPatch:
    """A pristine patch and the same patch distorted, (H, W, 3) uint8, at row `y`, column `x` of the image `image`.

    `ranks` are of the whole pristine image, as far as it is known.
    """

    pristine: NDArray[np.uint8]
    distorted: NDArray[np.uint8]
    image: int  # images are numbered from 0
    y: int
    x: int
    image_height: int
    image_width: int
    ranks: Ranks | None = field(default=None, compare=False, repr=False)

    @property
    def position(self) -> TilePosition:
        """Where the patch lies in its image."""
        return TilePosition(self.y, self.x, self.image_height, self.image_width, self.ranks)


def value_ranks(images: Sequence[NDArray[Any]]) -> Ranks:
    """Return the ranks of the values that these (H, W, 3) parts of an image have together."""
    counts = np.zeros((4, 256))
    for image in images:
        values = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        luma = np.rint(values @ TO_YCC[0]).astype(np.uint8)
        counts += [np.bincount(plane.ravel(), minlength=256) for plane in (*np.moveaxis(values, -1, 0), luma)]
    return np.asarray(np.cumsum(counts, axis=1) / counts[0].sum(), np.float32)


def by_image(patches: Sequence[PairPatch]) -> Iterator[tuple[int, list[PairPatch]]]:
    """Yield each image's number and its patches, in order."""
    for image in sorted({patch.image for patch in patches}):
        yield image, [patch for patch in patches if patch.image == image]


def cut_patches(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], side_px: int) -> list[PairPatch]:
    """Return patches of at most `side_px` on a side, which cover whole images (H, W, 3) without overlap."""
    patches = []
    for image, (pristine, distorted) in enumerate(pairs):
        height, width = pristine.shape[:2]
        ranks = value_ranks([pristine])
        for y in range(0, height - 127, side_px):
            for x in range(0, width - 127, side_px):
                inside = (slice(y, y + side_px), slice(x, x + side_px))
                patches.append(PairPatch(pristine[inside], distorted[inside], image, y, x, height, width, ranks))
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


def one_of_each_image(patches: Sequence[PairPatch]) -> list[int]:
    """Return the index of the middle patch of every image."""
    indices: dict[int, list[int]] = {}
    for index, patch in enumerate(patches):
        indices.setdefault(patch.image, []).append(index)
    return [rows[len(rows) // 2] for rows in indices.values()]


def middle_of(patch: PairPatch, base: Levels, side_px: int) -> tuple[PairPatch, Levels]:
    """Return the middle `side_px` of a patch and its base, or all of a smaller one."""
    y, x = (max(side - side_px, 0) // 2 // GRID_PX * GRID_PX for side in base.shape[:2])
    inside = (slice(y, y + side_px), slice(x, x + side_px))
    pristine, distorted = patch.pristine[inside], patch.distorted[inside]
    return replace(patch, pristine=pristine, distorted=distorted, y=patch.y + y, x=patch.x + x), base[inside]


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
