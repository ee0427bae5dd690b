"""Decides before anything runs: which tiles of which pictures stand in which slot of which shard. Pure.

A shard can then be made alone, by anyone, any number of times. A picture's tiles never straddle two shards, so that
each picture is decoded and distorted once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import PictureRecord
from distort_pipeline.seeds import derive_seed, generator, sample_seed

TILE_ALIGN_PX = 16  # tiles keep the phase of JPEG's 8 px grid and of its 16 px chroma grid
CANDIDATES_AT_MOST = 4096  # of offsets that a spread-out choice looks at; keeps planning linear for huge pictures


@dataclass(frozen=True)
class Recipe:
    """One column of a pair store: a distortion at one level, or somebody's own distorted pictures."""

    distortion: str
    level: int
    level_index: int
    parameters: Mapping[str, float]
    brought: str | None = None  # folder or CSV that the distorted pictures come from


@dataclass(frozen=True)
class Tile:
    """A square of a picture: its offset and how much of it the picture fills, px."""

    y: int
    x: int
    height: int
    width: int


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


def spread_tiles(height: int, width: int, *, tile_px: int, count: int, align_px: int, seed: int) -> list[Tile]:
    """Return up to `count` different tiles of a picture, far apart: each next one where the others are farthest.

    Offsets are multiples of `align_px`. Where the picture is smaller than a tile, the tile starts at 0 and its extent
    says how much of it the picture fills.

    >>> [(tile.y, tile.x) for tile in spread_tiles(256, 256, tile_px=256, count=4, align_px=16, seed=0)]
    [(0, 0)]
    """
    rows = np.arange(0, max(height - tile_px, 0) + 1, align_px)
    columns = np.arange(0, max(width - tile_px, 0) + 1, align_px)
    ys, xs = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    rng = generator(seed)
    if ys.size > max(CANDIDATES_AT_MOST, count):
        kept = np.sort(rng.choice(ys.size, max(CANDIDATES_AT_MOST, count), replace=False))
        ys, xs = ys[kept], xs[kept]
    chosen = [int(rng.integers(ys.size))]
    nearest = np.full(ys.size, np.inf)
    while len(chosen) < min(count, ys.size):
        y, x = ys[chosen[-1]], xs[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(np.abs(ys - y), np.abs(xs - x)))
        chosen.append(int(np.argmax(nearest)))
    return [
        Tile(int(ys[i]), int(xs[i]), min(tile_px, height - int(ys[i])), min(tile_px, width - int(xs[i])))
        for i in chosen
    ]


def offsets_available(height: int, width: int, *, tile_px: int, align_px: int) -> int:
    """Return how many different aligned tiles lie wholly inside a picture.

    >>> offsets_available(256, 272, tile_px=256, align_px=16), offsets_available(255, 900, tile_px=256, align_px=16)
    (2, 0)
    """
    if min(height, width) < tile_px:
        return 0
    return ((height - tile_px) // align_px + 1) * ((width - tile_px) // align_px + 1)


@dataclass(frozen=True)
class ReferenceTile:
    """One pristine tile of a corpus, drawn once and distorted by every model."""

    number: int
    picture: PictureRecord
    tile: Tile


@dataclass(frozen=True)
class PlannedSample:
    """One distorted tile of a corpus, before it exists."""

    sample: int
    slot: int
    tile: int
    draw: int
    seed: int


@dataclass(frozen=True)
class Batch:
    """What one task generates: consecutive slots of one distortion's array."""

    distortion: str
    number: int
    samples: tuple[PlannedSample, ...]

    @property
    def name(self) -> str:
        """Its name in the ledger, among the record files and the reports."""
        return f"{self.distortion}-{self.number:05d}"


@dataclass(frozen=True)
class CorpusPlan:
    """All tiles and all batches of a corpus."""

    tiles: tuple[ReferenceTile, ...]
    batches: tuple[Batch, ...]
    available_tiles: int


def plan_corpus(
    pictures: Sequence[PictureRecord],
    random_models: Mapping[str, bool],
    *,
    count: int,
    tile_px: int | None,
    batch_samples: int,
    align_px: int,
    seed: int,
    allow_repeats: bool,
) -> CorpusPlan:
    """Return the plan of `count` samples, split evenly over the models (name → whether its output is random).

    `tile_px` None means whole pictures. Tiles of one picture follow each other, so that a batch touches few pictures.
    A deterministic model never gets a tile twice unless `allow_repeats`; a random one draws anew.
    """
    names = sorted(random_models)
    shares = {name: count // len(names) + (place < count % len(names)) for place, name in enumerate(names)}
    available = {
        picture.picture_digest: 1
        if tile_px is None
        else offsets_available(picture.height, picture.width, tile_px=tile_px, align_px=align_px)
        for picture in pictures
    }
    in_all = sum(available.values())
    wanted = max(shares.values())
    if in_all == 0:
        raise PipelineError(f"no picture is at least {tile_px} px on both sides; choose a smaller --tile-px")
    repeats = sorted(name for name, share in shares.items() if share > in_all and not random_models[name])
    if repeats and not allow_repeats:
        raise PipelineError(
            f"{in_all} different tiles are available and {', '.join(repeats)} would need {wanted}; these models are "
            "deterministic, so a tile again would be the same sample again: ask for fewer, bring more pictures, or "
            "pass --allow-repeats"
        )
    tiles = _reference_tiles(pictures, available, min(wanted, in_all), tile_px, align_px, seed)
    batches = []
    first = 0
    for name in names:
        samples = []
        for place in range(shares[name]):
            tile, draw = tiles[place % len(tiles)], place // len(tiles)
            own = sample_seed(derive_seed(seed, tile.tile.y, tile.tile.x), tile.picture.picture_digest, name, 1, draw)
            samples.append(PlannedSample(first + place, place, tile.number, draw, own))
        batches += [
            Batch(name, number, tuple(samples[start : start + batch_samples]))
            for number, start in enumerate(range(0, len(samples), batch_samples))
        ]
        first += shares[name]
    return CorpusPlan(tuple(tiles), tuple(batches), in_all)


def _reference_tiles(
    pictures: Sequence[PictureRecord],
    available: Mapping[str, int],
    wanted: int,
    tile_px: int | None,
    align_px: int,
    seed: int,
) -> list[ReferenceTile]:
    """Return `wanted` different tiles, as evenly over the pictures as their sizes allow, picture after picture."""
    usable = [picture for picture in pictures if available[picture.picture_digest]]
    usable.sort(key=lambda picture: derive_seed(seed, "order", picture.picture_digest))
    quotas = even_quotas([available[picture.picture_digest] for picture in usable], wanted)
    tiles: list[ReferenceTile] = []
    for picture, quota in zip(usable, quotas, strict=True):
        if not quota:
            continue
        if tile_px is None:
            chosen = [Tile(0, 0, picture.height, picture.width)]
        else:
            chosen = spread_tiles(
                picture.height,
                picture.width,
                tile_px=tile_px,
                count=quota,
                align_px=align_px,
                seed=derive_seed(seed, "tiles", picture.picture_digest),
            )
        tiles += [ReferenceTile(len(tiles) + place, picture, tile) for place, tile in enumerate(chosen)]
    return tiles


def even_quotas(capacities: Sequence[int], wanted: int) -> list[int]:
    """Return how many each gives so that all give `wanted`, as evenly as their capacities allow.

    >>> even_quotas([1, 10, 10], 12)
    [1, 6, 5]
    """
    quotas = [0] * len(capacities)
    left = min(wanted, sum(capacities))
    while left:
        open_places = [place for place, capacity in enumerate(capacities) if quotas[place] < capacity]
        share = max(left // len(open_places), 1)  # the same for all who can, so that they stay level
        for place in open_places[:left]:
            given = min(share, capacities[place] - quotas[place])
            quotas[place] += given
            left -= given
    return quotas


def overlap(tiles: Sequence[ReferenceTile], *, align_px: int) -> dict[str, float | int]:
    """Return how far tiles share pixels with others of the same picture: how many do, and the mean shared fraction."""
    by_picture: dict[str, list[Tile]] = {}
    for reference in tiles:
        by_picture.setdefault(reference.picture.picture_digest, []).append(reference.tile)
    shared: list[float] = []
    for own in by_picture.values():
        cells = [_cells(tile, align_px) for tile in own]
        cover = np.zeros((max(rows.stop for rows, _ in cells), max(columns.stop for _, columns in cells)), np.int32)
        for cell in cells:
            cover[cell] += 1
        shared += [float(np.mean(cover[cell] > 1)) for cell in cells]
    return {
        "tiles_with_overlap": sum(fraction > 0 for fraction in shared),
        "mean_fraction": round(float(np.mean(shared)), 6) if shared else 0.0,
    }


def _cells(tile: Tile, align_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of the grid of `align_px` that a tile covers."""
    return (
        slice(tile.y // align_px, -(-(tile.y + tile.height) // align_px)),
        slice(tile.x // align_px, -(-(tile.x + tile.width) // align_px)),
    )
