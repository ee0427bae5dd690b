"""The plan of a corpus: its reference tiles, and every sample of every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.data.conditions import Condition, spread
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord, Tile, derive_seed, offsets_available, sample_seed, spread_tiles


def tile_shard(number: int) -> str:
    """Return the name of a shard of reference tiles, in the ledger and of the record and truth files.

    >>> tile_shard(3)
    'tiles-00003'
    """
    return f"tiles-{number:05d}"


@dataclass(frozen=True)
class ReferenceTile:
    """A pristine tile of a corpus, shared by all conditions."""

    number: int
    image: ImageRecord
    tile: Tile


@dataclass(frozen=True)
class PlannedSample:
    """A distorted tile of a corpus, before generation."""

    sample: int
    slot: int
    tile: int
    draw: int
    seed: int
    requested: float  # severity or target value, by the request of its condition


@dataclass(frozen=True)
class Batch:
    """The samples of a task: consecutive slots of a condition's array."""

    condition: Condition
    number: int
    samples: tuple[PlannedSample, ...]

    @property
    def name(self) -> str:
        """The name of its ledger entry, record file and report."""
        return f"{self.condition.name}-{self.number:05d}"


@dataclass(frozen=True)
class CorpusPlan:
    """All tiles and all batches of a corpus."""

    tiles: tuple[ReferenceTile, ...]
    batches: tuple[Batch, ...]
    available_tiles: int

    def tile_shards(self, per_shard: int) -> list[str]:
        """Return the names of the shards of tiles, each with `per_shard` tiles except the last."""
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

    `tile_px` None means whole images. Tiles of an image are consecutive, so a batch reads few images.
    The conditions share the tiles. Deterministic conditions get no tile twice unless `allow_repeats`.
    """
    shares = [count // len(conditions) + (index < count % len(conditions)) for index in range(len(conditions))]
    available = {
        image.image_digest: 1
        if tile_px is None
        else offsets_available(image.height, image.width, tile_px=tile_px, align_px=align_px)
        for image in images
    }
    total = sum(available.values())
    largest = max(shares)
    if total == 0:
        raise PipelineError(f"no image is at least {tile_px} px on both sides; choose a smaller --tile-px")
    repeats = [
        condition.name
        for condition, share in zip(conditions, shares, strict=True)
        if share > total and not condition.varies_per_draw
    ]
    if repeats and not allow_repeats:
        raise PipelineError(
            f"{total} different tiles are available and {', '.join(repeats)} would need {largest}; these models are "
            "deterministic, so a repeated tile would be a repeated sample: lower --count, add more images, or "
            "pass --allow-repeats"
        )
    tiles = _reference_tiles(images, available, min(largest, total), tile_px, align_px, seed)
    batches = []
    first = 0
    for condition, share in zip(conditions, shares, strict=True):
        for number, start in enumerate(range(0, share, samples_per_shard)):
            slots = range(start, min(start + samples_per_shard, share))
            values = spread(condition.request, len(slots), derive_seed(seed, "asked", condition.name, number))
            samples = [
                PlannedSample(
                    first + slot,
                    slot,
                    tiles[slot % len(tiles)].number,
                    slot // len(tiles),
                    _sample_seed(seed, condition, tiles[slot % len(tiles)], slot // len(tiles)),
                    value,
                )
                for slot, value in zip(slots, values, strict=True)
            ]
            batches.append(Batch(condition, number, tuple(samples)))
        first += share
    return CorpusPlan(tuple(tiles), tuple(batches), total)


def _sample_seed(seed: int, condition: Condition, tile: ReferenceTile, draw: int) -> int:
    """Return the seed of a sample, from its tile, distortion, level (if several) and draw."""
    tile_seed = derive_seed(seed, tile.tile.y, tile.tile.x)
    level = condition.level if condition.levels > 1 else 1
    return sample_seed(tile_seed, tile.image.image_digest, condition.distortion, level, draw)


def _reference_tiles(
    images: Sequence[ImageRecord],
    available: Mapping[str, int],
    count: int,
    tile_px: int | None,
    align_px: int,
    seed: int,
) -> list[ReferenceTile]:
    """Return `count` different tiles, distributed as evenly over the images as their sizes allow, image by image."""
    usable = [image for image in images if available[image.image_digest]]
    usable.sort(key=lambda image: derive_seed(seed, "order", image.image_digest))
    quotas = even_quotas([available[image.image_digest] for image in usable], count)
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
        tiles += [ReferenceTile(number, image, tile) for number, tile in enumerate(chosen, start=len(tiles))]
    return tiles


def even_quotas(capacities: Sequence[int], total: int) -> list[int]:
    """Return quotas with the sum `total`, as equal as the capacities allow; a smaller sum if these do not suffice.

    >>> even_quotas([1, 10, 10], 12)
    [1, 6, 5]
    """
    quotas = [0] * len(capacities)
    remaining = min(total, sum(capacities))
    while remaining:
        unfilled = [index for index, capacity in enumerate(capacities) if quotas[index] < capacity]
        share = max(remaining // len(unfilled), 1)  # equal shares for all unfilled
        for index in unfilled[:remaining]:
            added = min(share, capacities[index] - quotas[index])
            quotas[index] += added
            remaining -= added
    return quotas


def overlap(tiles: Sequence[ReferenceTile], *, align_px: int) -> dict[str, float | int]:
    """Return the overlap of tiles of the same image: number of tiles with overlap, and mean shared fraction."""
    by_image: dict[str, list[Tile]] = {}
    for reference in tiles:
        by_image.setdefault(reference.image.image_digest, []).append(reference.tile)
    fractions: list[float] = []
    for image_tiles in by_image.values():
        cells = [_cells(tile, align_px) for tile in image_tiles]
        cover = np.zeros((max(rows.stop for rows, _ in cells), max(columns.stop for _, columns in cells)), np.int32)
        for cell in cells:
            cover[cell] += 1
        fractions += [float(np.mean(cover[cell] > 1)) for cell in cells]
    return {
        "tiles_with_overlap": sum(fraction > 0 for fraction in fractions),
        "mean_fraction": round(float(np.mean(fractions)), 6) if fractions else 0.0,
    }


def _cells(tile: Tile, align_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of the `align_px` grid covered by a tile."""
    return (
        slice(tile.y // align_px, -(-(tile.y + tile.height) // align_px)),
        slice(tile.x // align_px, -(-(tile.x + tile.width) // align_px)),
    )
