"""The plan of a pair store. A picture's tiles never straddle two shards, so each picture is distorted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.tiles import TILE_ALIGN_PX, Tile, spread_tiles
from distort_pipeline.records import PictureRecord
from distort_pipeline.seeds import derive_seed


@dataclass(frozen=True)
class Recipe:
    """One column of a pair store: a distortion at one level, or somebody's own distorted pictures."""

    distortion: str
    level: int
    level_index: int
    parameters: Mapping[str, float]
    brought: str | None = None  # folder or CSV that the distorted pictures come from


@dataclass(frozen=True)
class PlacedPicture:
    """One picture of a shard, with the tiles cut from it and the slot of the first."""

    picture: PictureRecord
    tiles: tuple[Tile, ...]
    first_slot: int


@dataclass(frozen=True)
class Shard:
    """What one task makes: consecutive slots of every training array, or one whole validation picture."""

    split: str
    number: int
    pictures: tuple[PlacedPicture, ...]

    @property
    def name(self) -> str:
        """Its name in the ledger and among the record files."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True)
class PairPlan:
    """All shards of a pair store."""

    shards: tuple[Shard, ...]
    too_small: int  # training pictures that are smaller than a tile may be

    def of(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)


def plan_pairs(
    pictures: Sequence[PictureRecord],
    *,
    tile_px: int,
    tiles_per_picture: int,
    tiles_per_shard: int,
    min_tile_px: int,
    seed: int,
) -> PairPlan:
    """Return the shards of a pair store of `pictures`: tiles for training, whole pictures for validation."""
    training = [picture for picture in pictures if picture.split == "train"]
    training.sort(key=lambda picture: derive_seed(seed, "order", picture.picture_digest))
    shards: list[Shard] = []
    placed: list[PlacedPicture] = []
    slots = too_small = 0
    for picture in training:
        if min(picture.height, picture.width) < min_tile_px:
            too_small += 1
            continue
        tiles = spread_tiles(
            picture.height,
            picture.width,
            tile_px=tile_px,
            count=tiles_per_picture,
            align_px=TILE_ALIGN_PX,
            seed=derive_seed(seed, "tiles", picture.picture_digest),
        )
        if slots + len(tiles) > tiles_per_shard:
            shards.append(Shard("train", len(shards), tuple(placed)))
            placed, slots = [], 0
        placed.append(PlacedPicture(picture, tuple(tiles), slots))
        slots += len(tiles)
    if placed:
        shards.append(Shard("train", len(shards), tuple(placed)))
    if not shards:
        raise PipelineError(
            f"no training picture is at least {min_tile_px} px on both sides; lower pairs.min_tile_px or bring others"
        )
    validation = [picture for picture in pictures if picture.split == "val"]
    shards += [
        Shard("val", number, (PlacedPicture(picture, (Tile(0, 0, picture.height, picture.width),), 0),))
        for number, picture in enumerate(sorted(validation, key=lambda picture: picture.id))
    ]
    return PairPlan(tuple(shards), too_small)
