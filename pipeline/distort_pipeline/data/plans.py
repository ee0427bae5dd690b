"""The plan of a corpus: its reference tiles, and every sample of every batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from distort_pipeline.data.conditions import Condition
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import (
    CANDIDATES_AT_MOST,
    ImageRecord,
    Tile,
    derive_seed,
    offsets_available,
    sample_seed,
    spread_tiles,
)


def tile_shard(number: int) -> str:
    """Return the name of a shard of reference tiles, in the ledger and of the record and truth files.

    >>> tile_shard(3)
    'tiles-00003'
    """
    return f"tiles-{number:05d}"


@dataclass(frozen=True)
class SampleRun:
    """Consecutive samples of a condition in whole batches, which no other run shares."""

    condition: int  # its index
    start: int  # samples of the condition before the run
    slot: int  # along the array of the condition: a multiple of the samples per shard
    size: int


def sample_runs(counts: Sequence[int], conditions: int, per_shard: int) -> list[SampleRun]:
    """Return the runs of a corpus of `conditions` in the order of its samples; `counts` are samples in all.

    A corpus has a run for each condition. An extended one has several counts, ascending: the samples of each further
    count follow all others, in shards of their own, so that the earlier shards stay as they are.

    >>> [(run.condition, run.start, run.slot, run.size) for run in sample_runs([5, 7], 2, per_shard=4)]
    [(0, 0, 0, 3), (1, 0, 0, 2), (0, 3, 4, 1), (1, 2, 4, 1)]
    """
    runs, filled, slots = [], [0] * conditions, [0] * conditions
    for count in counts:
        for index in range(conditions):
            size = count // conditions + (index < count % conditions) - filled[index]
            if size:
                runs.append(SampleRun(index, filled[index], slots[index], size))
            filled[index] += size
            slots[index] += -(-size // per_shard) * per_shard
    return runs


@dataclass(frozen=True)
class ReferenceTile:
    """A pristine tile of a corpus, shared by all conditions."""

    number: int  # along the array of reference tiles
    image: ImageRecord
    tile: Tile


@dataclass(frozen=True)
class PlannedSample:
    """A distorted tile of a corpus, before generation."""

    sample: int  # index over the whole corpus
    slot: int  # index along the array of its condition
    tile: ReferenceTile
    draw: int  # from 0; the same tile may be distorted several times
    seed: int
    requested: float  # severity or quality, by the request of its condition


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

    def tiles_by_shard(self, per_shard: int) -> dict[int, tuple[ReferenceTile, ...]]:
        """Return number → reference tiles of each shard of tiles."""
        return {number: tuple(tiles) for number, tiles in groupby(self.tiles, lambda tile: tile.number // per_shard)}

    def bytes_without(self, finished: Collection[str], per_shard: int) -> int:
        """Return the bytes of the pixels of all shards but the `finished` ones, without compression."""
        tiles = [tile for tile in self.tiles if tile_shard(tile.number // per_shard) not in finished]
        tiles += [sample.tile for batch in self.batches if batch.name not in finished for sample in batch.samples]
        return sum(3 * tile.tile.height * tile.tile.width for tile in tiles)

    def tile_shards(self, per_shard: int) -> list[str]:
        """Return the names of the shards of tiles, each with `per_shard` tiles except the last."""
        return [tile_shard(number) for number in range(self.tiles[-1].number // per_shard + 1)]


@dataclass(frozen=True)
class TileGrid:
    """The possible tiles of an image: squares of `tile_px` on a grid of `align_px`, or the whole image for None.

    Neighbouring tiles share at most `max_overlap` of their pixels.
    """

    tile_px: int | None
    align_px: int
    max_overlap: float = 1.0

    def available(self, image: ImageRecord) -> int:
        """Return the number of different tiles of `image`."""
        return 1 if self.tile_px is None else self._available(image, self._strides(self.tile_px)[-1], self.tile_px)

    def spread(self, image: ImageRecord, count: int, *, seed: int) -> list[Tile]:
        """Return `count` different tiles of `image`, far apart: of the widest grid with so many."""
        if self.tile_px is None:
            return [Tile(0, 0, image.height, image.width)]
        strides, tile_px = self._strides(self.tile_px), self.tile_px
        stride = next((px for px in strides if self._available(image, px, tile_px) >= count), strides[-1])
        return spread_tiles(image.height, image.width, tile_px=tile_px, count=count, align_px=stride, seed=seed)

    def _strides(self, tile_px: int) -> list[int]:
        """Return the widths of possible grids: without overlap first, the finest last.

        >>> TileGrid(256, 16)._strides(256), TileGrid(256, 16, 0.5)._strides(256), TileGrid(250, 16, 0.0)._strides(250)
        ([256, 128, 64, 32, 16], [256, 128], [256])
        """
        finest = max(self._aligned(tile_px * (1 - self.max_overlap)), self.align_px)
        strides = [self._aligned(tile_px / 2**halvings) for halvings in range(tile_px.bit_length())]
        return [*(stride for stride in dict.fromkeys(strides) if stride > finest), finest]

    def _aligned(self, px: float) -> int:
        return math.ceil(px / self.align_px) * self.align_px

    @staticmethod
    def _available(image: ImageRecord, stride: int, tile_px: int) -> int:
        return offsets_available(image.height, image.width, tile_px=tile_px, align_px=stride)


def plan_corpus(
    images: Sequence[ImageRecord],
    conditions: Sequence[Condition],
    grid: TileGrid,
    *,
    counts: Sequence[int],
    samples_per_shard: int,
    seed: int,
    allow_repeats: bool,
) -> CorpusPlan:
    """Return the plan of a corpus of so many samples, split evenly over the `conditions`; see `sample_runs`.

    Tiles of an image are consecutive, so a batch reads few images. The conditions share the tiles. Deterministic
    conditions get no tile twice unless `allow_repeats`.
    """
    runs = sample_runs(counts, len(conditions), samples_per_shard)
    shares = [sum(run.size for run in runs if run.condition == index) for index in range(len(conditions))]
    total, largest = sum(map(grid.available, images)), max(shares)
    if total == 0:
        raise PipelineError(f"no image is at least {grid.tile_px} px on both sides; choose a smaller --tile-px")
    repeats = [
        condition.name
        for condition, share in zip(conditions, shares, strict=True)
        if share > total and not condition.varies_per_draw
    ]
    if repeats and not allow_repeats:
        raise PipelineError(
            f"{total} different tiles are available and {', '.join(repeats)} would need {largest}; these models are "
            "deterministic, so a repeated tile would be a repeated sample: lower --count, add more images, raise "
            "--max-overlap, or pass --allow-repeats"
        )
    tiles: list[ReferenceTile] = []
    for count in counts:
        largest = min(-(-count // len(conditions)), total)
        tiles += _reference_tiles(images, grid, largest, seed, earlier=tiles, per_shard=samples_per_shard)
    batches: list[Batch] = []
    first = 0
    for run in runs:
        condition = conditions[run.condition]
        for start in range(0, run.size, samples_per_shard):
            size, number = min(samples_per_shard, run.size - start), (run.slot + start) // samples_per_shard
            values = condition.request.values(size, derive_seed(seed, "asked", condition.name, number))
            samples = [
                _sample(condition, tiles, run.start + at, value, sample=first + at, slot=run.slot + at, seed=seed)
                for at, value in enumerate(values, start=start)
            ]
            batches.append(Batch(condition, number, tuple(samples)))
        first += run.size
    return CorpusPlan(tuple(tiles), tuple(batches), total)


def _sample(
    condition: Condition,
    tiles: Sequence[ReferenceTile],
    index: int,
    requested: float,
    *,
    sample: int,
    slot: int,
    seed: int,
) -> PlannedSample:
    """Return the sample at `index` among those of its condition; tiles are taken in turn.

    Its seed is of its tile, distortion, level (if several) and draw.
    """
    draw, turn = divmod(index, len(tiles))
    tile = tiles[turn]
    tile_seed = derive_seed(seed, tile.tile.y, tile.tile.x)
    level = condition.level if condition.levels > 1 else 1
    seed_of_sample = sample_seed(tile_seed, tile.image.image_digest, condition.distortion, level, draw)
    return PlannedSample(sample, slot, tile, draw, seed_of_sample, requested)


def _reference_tiles(
    images: Sequence[ImageRecord],
    grid: TileGrid,
    count: int,
    seed: int,
    *,
    earlier: Sequence[ReferenceTile],
    per_shard: int,
) -> list[ReferenceTile]:
    """Return different tiles that make `count` with the `earlier` ones, in shards of their own.

    Distributed as evenly over the images as their sizes allow, image by image.
    """
    usable = [image for image in images if grid.available(image)]
    usable.sort(key=lambda image: derive_seed(seed, "order", image.image_digest))
    capacities = [grid.available(image) for image in usable]
    quotas, known = even_quotas(capacities, count), even_quotas(capacities, len(earlier))
    if earlier and max(quotas) > CANDIDATES_AT_MOST:
        raise PipelineError(
            f"an image would give {max(quotas)} tiles, and a corpus can be extended to {CANDIDATES_AT_MOST} of an "
            "image at most: choose another folder with --out"
        )
    number = -(-(earlier[-1].number + 1) // per_shard) * per_shard if earlier else 0
    tiles: list[ReferenceTile] = []
    for image, quota, before in zip(usable, quotas, known, strict=True):
        if quota > before:  # the first tiles of an image are the same for any quota
            chosen = grid.spread(image, quota, seed=derive_seed(seed, "tiles", image.image_digest))[before:]
            tiles += [ReferenceTile(at, image, tile) for at, tile in enumerate(chosen, start=number + len(tiles))]
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


@dataclass(frozen=True)
class TileOverlap:
    """The overlap of tiles of the same image."""

    tiles_with_overlap: int
    mean_fraction: float  # of a tile, shared with other tiles


def overlap(tiles: Sequence[ReferenceTile], *, align_px: int) -> TileOverlap:
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
    mean = round(float(np.mean(fractions)), 6) if fractions else 0.0
    return TileOverlap(sum(fraction > 0 for fraction in fractions), mean)


def _cells(tile: Tile, align_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of the `align_px` grid covered by a tile."""
    return (
        slice(tile.y // align_px, -(-(tile.y + tile.height) // align_px)),
        slice(tile.x // align_px, -(-(tile.x + tile.width) // align_px)),
    )
