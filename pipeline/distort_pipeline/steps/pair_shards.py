"""One shard of a pair store: images are read and distorted whole; tiles are cut, written, and recorded.

All tiles of an image are in one shard, so each image is distorted once.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import (
    PAIRS_ZSTD,
    PIXELS,
    PixelDigest,
    create_group,
    shard_file,
    write_image,
    write_shard,
)
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.external_pairs import Partners
from distort_pipeline.data.files import Ledger, write_bytes
from distort_pipeline.data.pairs import distorted_column, val_name
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.data.tables import write_table
from distort_pipeline.distortions import apply, unsuitable
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.registration import Registration, moved, overlap, register, thumbnail
from distort_pipeline.records import (
    TILE_ALIGN_PX,
    Image,
    ImageRecord,
    PairRecord,
    Tile,
    canonical,
    derive_seed,
    digest,
    digest_rows,
    make_rng,
    sample_seed,
    spread_tiles,
)


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


THUMBNAILS = "thumbnails"  # folder of the external pairs' thumbnails, needed until the store is finished


@dataclass(frozen=True)
class ShardTask:
    """The task of one shard: names and numbers, no pixels."""

    work: Path
    root: Path  # of the pristine images
    shard: Shard
    recipes: tuple[Recipe, ...]
    partners: Mapping[str, Partners]  # name of external pairs → partners of the images
    align: bool  # the pristine images to the external pairs; there is a single recipe then
    tile_px: int
    min_tile_px: int
    tiles_per_shard: int
    seed: int


def make_shard(task: ShardTask) -> str:
    """Write one shard: pixels, records, then the entry of the ledger. Return its name."""
    group = create_group(task.work)
    pristine = {placed.image.id: read_ingested(task.root, placed.image) for placed in task.shard.images}
    aligned: dict[str, Aligned] = {}
    if task.align:
        task, aligned = _align(task, pristine)
    shard = task.shard
    tiles = np.zeros((sum(len(placed.tiles) for placed in shard.images), task.tile_px, task.tile_px, 3), np.uint8)
    clean = ((placed, pristine[placed.image.id]) for placed in shard.images)
    digests = {"pristine": _write_column(group, task, "pristine", 0, 0, clean, tiles)}
    records: list[PairRecord] = []
    missing: list[dict[str, str]] = []
    thumbnails: dict[str, NDArray[np.float16]] = {}
    for recipe in task.recipes:
        distorted = _column(task, recipe, pristine, aligned, records, missing)
        if recipe.external:
            distorted = _noting(distorted, recipe, pristine, thumbnails)
        name = distorted_column(recipe.distortion, recipe.level)
        digests[name] = _write_column(
            group, task, recipe.distortion, recipe.level, recipe.level_index, distorted, tiles
        )
    files = [task.work / "records" / f"{shard.name}.parquet", *_pixel_files(group, task)]
    if thumbnails:
        file = io.BytesIO()
        np.savez(file, **thumbnails)  # type: ignore[arg-type]
        files.append(task.work / THUMBNAILS / f"{shard.name}.npz")
        write_bytes(files[-1], file.getvalue())
    write_table(files[0], records, PairRecord)
    entry = {
        "shard": shard.name,
        "pairs": len(records),
        "tiles": sum(len(placed.tiles) for placed in shard.images),
        "arrays": digests,
        "records": digest_rows(records),
        "missing": missing,
    }
    Ledger(task.work).note(shard.name, {**entry, "digest": digest(entry)}, files)
    return shard.name


@dataclass(frozen=True)
class Aligned:
    """The outcome of an alignment: the registration before it, and the rows and columns moved, none if left."""

    before: Registration
    move: tuple[float, float] | None

    def facts(self) -> dict[str, float | None]:
        """Return the values for the record of a pair."""
        y, x = self.move or (0.0, 0.0)
        return {**self.before.facts(), "moved_y_px": y, "moved_x_px": x}


def _align(task: ShardTask, pristine: dict[str, Image]) -> tuple[ShardTask, dict[str, Aligned]]:
    """Move the images in `pristine` onto their partners; return the task with tiles inside the overlap, and the moves.

    The distorted pixels stay as they are, and with them their place on a codec's grid.
    """
    (recipe,) = task.recipes
    images: list[PlacedImage] = []
    aligned: dict[str, Aligned] = {}
    for placed in task.shard.images:
        image = placed.image
        images.append(placed)
        try:
            distorted = task.partners[recipe.distortion].read(image)
        except InvalidImage:
            continue  # its column notes the reason
        registration = register(pristine[image.id], distorted)
        move = registration.move
        aligned[image.id] = Aligned(registration, move)
        if move is not None:
            pristine[image.id] = moved(pristine[image.id], *move)
            images[-1] = replace(placed, tiles=tiles_inside(placed.tiles, overlap(image.height, image.width, *move)))
    return replace(task, shard=replace(task.shard, images=tuple(images))), aligned


def _pixel_files(group: Any, task: ShardTask) -> list[Path]:
    """Return the files of the shard's training tiles, or the folders of its validation images."""
    if task.shard.split == "val":
        return [task.work / PIXELS / "val" / placed.image.id for placed in task.shard.images]
    first = task.shard.number * task.tiles_per_shard
    columns = {("pristine", 0), *((recipe.distortion, recipe.level_index) for recipe in task.recipes)}
    return [shard_file(task.work, group[f"train/{name}"], (index, first)) for name, index in sorted(columns)]


def _column(
    task: ShardTask,
    recipe: Recipe,
    pristine: Mapping[str, Image],
    aligned: Mapping[str, Aligned],
    records: list[PairRecord],
    missing: list[dict[str, str]],
) -> Iterator[tuple[PlacedImage, Image | None]]:
    """Yield each image under a recipe, or None, and note its records, or the reason for their absence.

    One image at a time, for the sake of memory.
    """
    for placed in task.shard.images:
        result = _distorted(task, recipe, placed, pristine[placed.image.id], aligned.get(placed.image.id))
        if isinstance(result, str):
            missing.append({"image": placed.image.id, "distortion": recipe.distortion, "reason": result})
            yield placed, None
            continue
        image, facts, seed = result
        records += _records(task, placed, recipe, seed, facts)
        yield placed, image


def _noting(
    column: Iterable[tuple[PlacedImage, Image | None]],
    recipe: Recipe,
    pristine: Mapping[str, Image],
    thumbnails: dict[str, NDArray[np.float16]],
) -> Iterator[tuple[PlacedImage, Image | None]]:
    """Yield the images of `column`, and note the thumbnails (2, side, side) of each pair: pristine, distorted."""
    for placed, image in column:
        if image is not None:
            pair = (pristine[placed.image.id], image)
            thumbnails[f"{recipe.distortion}/{placed.image.id}"] = np.stack([*map(thumbnail, pair)]).astype(np.float16)
        yield placed, image


def _distorted(
    task: ShardTask, recipe: Recipe, placed: PlacedImage, pristine: Image, aligned: Aligned | None
) -> tuple[Image, Mapping[str, Any], int] | str:
    """Return the distorted image, the facts of its distortion, and the seed; or the reason for its absence."""
    image = placed.image
    if not recipe.external:
        if reason := unsuitable(recipe.distortion, image.height, image.width):
            return reason
        seed = sample_seed(task.seed, image.image_digest, recipe.distortion, recipe.level)
        result = apply(recipe.distortion, pristine, recipe.parameters, make_rng(seed))
        return result.image, result.facts, seed
    partners = task.partners[recipe.distortion]
    try:
        distorted = partners.read(image)
    except InvalidImage as unusable:
        return unusable.reason
    if aligned and (least := _too_small(task, placed)):
        return f"its overlap with the partner is {least} px, below --min-tile-px {task.min_tile_px}"
    measured = aligned or register(pristine, distorted)
    file = {"file": partners.paths[image.id], "image_height": image.height, "image_width": image.width}
    return distorted, {**file, **measured.facts()}, 0


def _too_small(task: ShardTask, placed: PlacedImage) -> int | None:
    """Return the least side of the tiles if it is too small for training."""
    least = min(side for tile in placed.tiles for side in (tile.height, tile.width))
    return least if task.shard.split == "train" and least < task.min_tile_px else None


def _write_column(
    group: Any,
    task: ShardTask,
    name: str,
    level: int,
    level_index: int,
    images: Iterable[tuple[PlacedImage, Image | None]],
    tiles: NDArray[np.uint8],
) -> str:
    """Write the shard of one array and return the digest of its pixels.

    `tiles` (n, tile_px, tile_px, 3) is a buffer for training tiles, black without an image, reused by every column.
    """
    pixels = PixelDigest()
    for placed, image in images:
        if task.shard.split == "train":
            write_tiles(image, placed, tiles)
        elif image is not None:
            column = name if name == "pristine" else distorted_column(name, level)
            (part,) = placed.tiles  # the whole image, or its overlap with an external partner
            image = np.ascontiguousarray(image[part.y : part.y + part.height, part.x : part.x + part.width])
            write_image(task.work, val_name(placed.image.id, column), image, zstd=PAIRS_ZSTD)
            pixels.add(image)
    if task.shard.split == "train":
        write_shard(task.work, group[f"train/{name}"], level_index, task.shard.number * task.tiles_per_shard, tiles)
        pixels.add(tiles)
    return pixels.hexdigest()


def write_tiles(image: Image | None, placed: PlacedImage, into: NDArray[np.uint8]) -> None:
    """Copy the tiles of `placed` from `image` to their slots of `into` (slots, tile_px, tile_px, 3); None is black."""
    for slot, tile in enumerate(placed.tiles, start=placed.first_slot):
        if image is None:
            into[slot] = 0
            continue
        into[slot, : tile.height, : tile.width] = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def _records(
    task: ShardTask, placed: PlacedImage, recipe: Recipe, seed: int, facts: Mapping[str, Any]
) -> list[PairRecord]:
    shard = task.shard
    offset = shard.number * task.tiles_per_shard if shard.split == "train" else 0
    return [
        PairRecord(
            split=shard.split,
            shard=shard.number,
            slot=slot,
            image=placed.image.id,
            image_digest=placed.image.image_digest,
            y=tile.y,
            x=tile.x,
            height=tile.height,
            width=tile.width,
            distortion=recipe.distortion,
            level=recipe.level,
            level_index=recipe.level_index,
            seed=seed,
            parameters=canonical(dict(recipe.parameters)),
            facts=canonical(dict(facts)),
        )
        for slot, tile in enumerate(placed.tiles, start=offset + placed.first_slot)
    ]
