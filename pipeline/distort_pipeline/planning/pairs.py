"""The plan of a pair store. All tiles of an image are in one shard, so each image is distorted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.tiles import TILE_ALIGN_PX, Tile, spread_tiles
from distort_pipeline.records import ImageRecord
from distort_pipeline.seeds import derive_seed


@dataclass(frozen=True)
class Recipe:
    """A column of a pair store: a distortion at one level, or external distorted images."""

    distortion: str
    level: int
    level_index: int
    parameters: Mapping[str, float]
    external: bool = False


@dataclass(frozen=True)
class PlacedImage:
    """An image of a shard, with its tiles and the slot of the first tile."""

    image: ImageRecord
    tiles: tuple[Tile, ...]
    first_slot: int


@dataclass(frozen=True)
class Shard:
    """The images of a task: consecutive slots of every training array, or a whole validation image."""

    split: str
    number: int
    images: tuple[PlacedImage, ...]

    @property
    def name(self) -> str:
        """The name of its ledger entry and record file."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True)
class PairPlan:
    """All shards of a pair store."""

    shards: tuple[Shard, ...]
    too_small: int  # number of training images below the minimum tile size

    def of(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)


def tiles_inside(tiles: Sequence[Tile], inside: Tile) -> tuple[Tile, ...]:
    """Return `tiles` moved by multiples of TILE_ALIGN_PX to lie `inside` a part of the image, cut where it is smaller.

    >>> tiles_inside([Tile(0, 32, 128, 128)], Tile(16, 0, 244, 150))
    (Tile(y=16, x=16, height=128, width=128),)
    """
    return tuple(
        Tile(y, x, min(tile.height, inside.y + inside.height - y), min(tile.width, inside.x + inside.width - x))
        for tile in tiles
        for y in (_start_inside(tile.y, tile.height, inside.y, inside.height),)
        for x in (_start_inside(tile.x, tile.width, inside.x, inside.width),)
    )


def _start_inside(start: int, extent: int, first: int, length: int) -> int:
    last = first + max(length - extent, 0) // TILE_ALIGN_PX * TILE_ALIGN_PX
    return min(max(start, first), last)


def plan_pairs(
    images: Sequence[ImageRecord],
    *,
    tile_px: int,
    tiles_per_image: int,
    tiles_per_shard: int,
    min_tile_px: int,
    seed: int,
) -> PairPlan:
    """Return the shards of a pair store of `images`: tiles for training, whole images for validation."""
    training = [image for image in images if image.split == "train"]
    training.sort(key=lambda image: derive_seed(seed, "order", image.image_digest))
    shards: list[Shard] = []
    placed: list[PlacedImage] = []
    slots = too_small = 0
    for image in training:
        if min(image.height, image.width) < min_tile_px:
            too_small += 1
            continue
        tiles = spread_tiles(
            image.height,
            image.width,
            tile_px=tile_px,
            count=tiles_per_image,
            align_px=TILE_ALIGN_PX,
            seed=derive_seed(seed, "tiles", image.image_digest),
        )
        if slots + len(tiles) > tiles_per_shard:
            shards.append(Shard("train", len(shards), tuple(placed)))
            placed, slots = [], 0
        placed.append(PlacedImage(image, tuple(tiles), slots))
        slots += len(tiles)
    if placed:
        shards.append(Shard("train", len(shards), tuple(placed)))
    if not shards:
        raise PipelineError(
            f"no training image is at least {min_tile_px} px on both sides; lower --min-tile-px or add larger images"
        )
    validation = [image for image in images if image.split == "val"]
    shards += [
        Shard("val", number, (PlacedImage(image, (Tile(0, 0, image.height, image.width),), 0),))
        for number, image in enumerate(sorted(validation, key=lambda image: image.id))
    ]
    return PairPlan(tuple(shards), too_small)
