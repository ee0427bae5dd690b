"""The plan of a corpus: its reference tiles, and every sample of every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.conditions import Condition, spread
from distort_pipeline.planning.tiles import Tile, offsets_available, spread_tiles
from distort_pipeline.records import ImageRecord
from distort_pipeline.seeds import derive_seed, sample_seed


def tile_shard(number: int) -> str:
    """Return the name of a shard of reference tiles in the ledger, among the record files and among the truths.

    >>> tile_shard(3)
    'tiles-00003'
    """
    return f"tiles-{number:05d}"


@dataclass(frozen=True)
class ReferenceTile:
    """One pristine tile of a corpus, drawn once and distorted by every model."""

    number: int
    image: ImageRecord
    tile: Tile


@dataclass(frozen=True)
class PlannedSample:
    """One distorted tile of a corpus, before it exists."""

    sample: int
    slot: int
    tile: int
    draw: int
    seed: int
    requested: float  # of what its condition asks for


@dataclass(frozen=True)
class Batch:
    """What one task generates: consecutive slots of one condition' array."""

    condition: Condition
    number: int
    samples: tuple[PlannedSample, ...]

    @property
    def name(self) -> str:
        """Its name in the ledger, among the record files and the reports."""
        return f"{self.condition.name}-{self.number:05d}"


@dataclass(frozen=True)
class CorpusPlan:
    """All tiles and all batches of a corpus."""

    tiles: tuple[ReferenceTile, ...]
    batches: tuple[Batch, ...]
    available_tiles: int

    def tile_shards(self, per_shard: int) -> list[str]:
        """Return the names of the shards of tiles, with `per_shard` tiles in each but the last."""
        return [tile_shard(number) for number in range(-(-len(self.tiles) // per_shard))]


def plan_corpus(
    images: Sequence[ImageRecord],
    conditions: Sequence[Condition],
    *,
    count: int,
    tile_px: int | None,
    samples_per_shard: int,
    align_px: int,
    seed: int,
    allow_repeats: bool,
) -> CorpusPlan:
    """Return the plan of `count` samples, split evenly over the `conditions`.

    `tile_px` None means whole images. Tiles of one image follow each other, so that a batch touches few images.
    The conditions share the tiles. A condition that draws nothing anew never gets a tile twice unless `allow_repeats`.
    """
    shares = [count // len(conditions) + (place < count % len(conditions)) for place in range(len(conditions))]
    available = {
        image.image_digest: 1
        if tile_px is None
        else offsets_available(image.height, image.width, tile_px=tile_px, align_px=align_px)
        for image in images
    }
    in_all = sum(available.values())
    wanted = max(shares)
    if in_all == 0:
        raise PipelineError(f"no image is at least {tile_px} px on both sides; choose a smaller --tile-px")
    repeats = [
        one.name for one, share in zip(conditions, shares, strict=True) if share > in_all and not one.varies_per_draw
    ]
    if repeats and not allow_repeats:
        raise PipelineError(
            f"{in_all} different tiles are available and {', '.join(repeats)} would need {wanted}; these models are "
            "deterministic, so a tile again would be the same sample again: ask for fewer, bring more images, or "
            "pass --allow-repeats"
        )
    tiles = _reference_tiles(images, available, min(wanted, in_all), tile_px, align_px, seed)
    batches = []
    first = 0
    for one, share in zip(conditions, shares, strict=True):
        for number, start in enumerate(range(0, share, samples_per_shard)):
            places = range(start, min(start + samples_per_shard, share))
            values = spread(one.request, len(places), derive_seed(seed, "asked", one.name, number))
            samples = [
                PlannedSample(
                    first + place,
                    place,
                    tiles[place % len(tiles)].number,
                    place // len(tiles),
                    _own_seed(seed, one, tiles[place % len(tiles)], place // len(tiles)),
                    value,
                )
                for place, value in zip(places, values, strict=True)
            ]
            batches.append(Batch(one, number, tuple(samples)))
        first += share
    return CorpusPlan(tuple(tiles), tuple(batches), in_all)


def _own_seed(seed: int, condition: Condition, tile: ReferenceTile, draw: int) -> int:
    """Return the seed of one sample: that of its tile, distortion, level among several, and draw."""
    place = derive_seed(seed, tile.tile.y, tile.tile.x)
    level = condition.level if condition.levels > 1 else 1
    return sample_seed(place, tile.image.image_digest, condition.distortion, level, draw)


def _reference_tiles(
    images: Sequence[ImageRecord],
    available: Mapping[str, int],
    wanted: int,
    tile_px: int | None,
    align_px: int,
    seed: int,
) -> list[ReferenceTile]:
    """Return `wanted` different tiles, as evenly over the images as their sizes allow, image after image."""
    usable = [image for image in images if available[image.image_digest]]
    usable.sort(key=lambda image: derive_seed(seed, "order", image.image_digest))
    quotas = even_quotas([available[image.image_digest] for image in usable], wanted)
    tiles: list[ReferenceTile] = []
    for image, quota in zip(usable, quotas, strict=True):
        if not quota:
            continue
        if tile_px is None:
            chosen = [Tile(0, 0, image.height, image.width)]
        else:
            chosen = spread_tiles(
                image.height,
                image.width,
                tile_px=tile_px,
                count=quota,
                align_px=align_px,
                seed=derive_seed(seed, "tiles", image.image_digest),
            )
        tiles += [ReferenceTile(len(tiles) + place, image, tile) for place, tile in enumerate(chosen)]
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
    """Return how far tiles share pixels with others of the same image: how many do, and the mean shared fraction."""
    by_image: dict[str, list[Tile]] = {}
    for reference in tiles:
        by_image.setdefault(reference.image.image_digest, []).append(reference.tile)
    shared: list[float] = []
    for own in by_image.values():
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
