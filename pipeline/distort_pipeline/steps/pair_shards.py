"""One shard of a pair store: images are read and distorted whole; tiles are cut, written, and recorded.

All tiles of an image are in one shard, so each image is distorted once.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import (
    PAIRS_ZSTD,
    PIXELS,
    PixelDigest,
    create_group,
    create_tiles,
    shard_file,
    write_image,
    write_shard,
    write_table,
)
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.external_pairs import THUMBNAILS, Partners
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.pairs import Recipe, val_name
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import apply, unsuitable
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.registration import Registration, register, thumbnail
from distort_pipeline.metrics.warp import Shift, Warp
from distort_pipeline.records import (
    TILE_ALIGN_PX,
    Image,
    ImageRecord,
    Json,
    PairRecord,
    Tile,
    canonical,
    derive_seed,
    digest_rows,
    make_rng,
    sample_seed,
    spread_tiles,
)


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
    first_slot: int = 0  # of its training tiles

    @property
    def name(self) -> str:
        """The name of its ledger entry and record file."""
        return f"{self.split}-{self.number:05d}"

    @property
    def records(self) -> list[ImageRecord]:
        """The records of its images."""
        return [placed.image for placed in self.images]

    @property
    def image_pixels(self) -> int:
        """The number of pixels of its images."""
        return sum(image.width * image.height for image in self.records)

    def pixels(self, tile_px: int) -> int:
        """Return the number of pixels in a column: of tiles, or of whole validation images."""
        if self.split == "val":
            return self.image_pixels
        return sum(len(placed.tiles) for placed in self.images) * tile_px**2


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
            shards.append(Shard("train", len(shards), tuple(placed), len(shards) * tiles_per_shard))
            placed, slots = [], 0
        placed.append(PlacedImage(image, tuple(tiles), slots))
        slots += len(tiles)
    if placed:
        shards.append(Shard("train", len(shards), tuple(placed), len(shards) * tiles_per_shard))
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


def create_arrays(work: Path, recipes: Sequence[Recipe], **layout: int) -> None:
    """Create the arrays of training tiles; `layout` are the sizes of `create_tiles`."""
    group = create_group(work)
    columns = {"pristine": 1}
    for recipe in recipes:
        columns[recipe.distortion] = max(columns.get(recipe.distortion, 0), recipe.level_index + 1)
    for name, levels in columns.items():
        create_tiles(group, f"train/{name}", levels=levels, **layout)


@dataclass(frozen=True)
class ShardTask:
    """The task of one shard: names and numbers, no pixels."""

    work: Path
    root: Path  # of the pristine images
    shard: Shard
    recipes: tuple[Recipe, ...]
    partners: Mapping[str, Partners]  # column of external pairs → partners of the images
    tile_px: int
    seed: int
    aligned_px: int | None  # least side of a tile of pristine images moved onto their partners; None: not moved


@dataclass(frozen=True)
class Missing:
    """An image without a pair, and the reason."""

    image: str
    distortion: str
    reason: str


@dataclass(frozen=True)
class Distorted:
    """A distorted image, the facts of its distortion, and the seed."""

    image: Image
    facts: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class Aligned:
    """The outcome of an alignment: the registration before it, and the move, None if left."""

    before: Registration
    move: Shift | Warp | None

    def facts(self) -> dict[str, Json]:
        """Return the values for the record of a pair; a warp's move is that of the middle."""
        y, x = (self.move.dy, self.move.dx) if self.move else (0.0, 0.0)
        return {**self.before.facts(), "moved_y_px": y, "moved_x_px": x}


def make_shard(task: ShardTask) -> LedgerEntry:
    """Write one shard: pixels, records, then the entry of the ledger. Return the entry."""
    shard = task.shard
    pristine = {placed.image.id: read_ingested(task.root, placed.image) for placed in shard.images}
    aligned: dict[str, Aligned] = {}
    if task.aligned_px is not None:
        (recipe,) = task.recipes
        shard, aligned = align(shard, pristine, task.partners[recipe.column])
    arrays = ShardArrays(task.work, shard, task.tile_px)
    for placed in shard.images:
        arrays.add("pristine", placed, pristine[placed.image.id])
    digests = {"pristine": arrays.finish("pristine", 0)}
    records: list[PairRecord] = []
    missing: list[Missing] = []
    thumbnails: dict[str, NDArray[np.float16]] = {}  # (2, side, side) of each pair: pristine, distorted
    for recipe in task.recipes:
        column = recipe.column
        for placed in shard.images:  # one distorted image at a time, for the sake of memory
            name, clean = placed.image.id, pristine[placed.image.id]
            if not recipe.external:
                result = distort(recipe, placed.image, clean, seed=task.seed)
            elif (alignment := aligned.get(name)) and (px := _too_small(shard, placed, task.aligned_px or 0)):
                result = f"its overlap with the partner is {px} px, below --min-tile-px {task.aligned_px}"
            else:
                result = from_partner(task.partners[column], placed.image, clean, alignment)
            if isinstance(result, str):
                missing.append(Missing(name, recipe.distortion, result))
                arrays.add(column, placed, None)
                continue
            records += pair_records(shard, placed, recipe, result)
            arrays.add(column, placed, result.image)
            if recipe.external:
                pair = [thumbnail(clean), thumbnail(result.image)]
                thumbnails[f"{column}/{name}"] = np.stack(pair).astype(np.float16)
        digests[column] = arrays.finish(recipe.distortion, recipe.level_index)
    columns = [("pristine", 0), *((recipe.distortion, recipe.level_index) for recipe in task.recipes)]
    files = [task.work / "records" / f"{shard.name}.parquet", *arrays.files(columns)]
    write_table(files[0], records, PairRecord)
    if thumbnails:
        file = io.BytesIO()
        np.savez(file, **thumbnails)  # type: ignore[arg-type]
        files.append(task.work / THUMBNAILS / f"{shard.name}.npz")
        write_bytes(files[-1], file.getvalue())
    tiles = sum(len(placed.tiles) for placed in shard.images)
    fields = {
        "pairs": len(records),
        "tiles": tiles,
        "arrays": digests,
        "records": digest_rows(records),
        "missing": [asdict(absent) for absent in missing],
    }
    return Ledger(task.work).note(shard.name, fields, files)


def align(shard: Shard, pristine: dict[str, Image], partners: Partners) -> tuple[Shard, dict[str, Aligned]]:
    """Move the images in `pristine` onto their partners; return the shard with tiles inside the overlap, and the moves.

    The distorted pixels stay as they are, and with them their place on a codec's grid.
    """
    images: list[PlacedImage] = []
    aligned: dict[str, Aligned] = {}
    for placed in shard.images:
        image = placed.image
        images.append(placed)
        try:
            distorted = partners.read(image)
        except InvalidImage:
            continue  # its column notes the reason
        registration = register(pristine[image.id], distorted)
        move = registration.move
        aligned[image.id] = Aligned(registration, move)
        if move is not None:
            pristine[image.id] = move.apply(pristine[image.id])
            images[-1] = replace(placed, tiles=tiles_inside(placed.tiles, move.inside(image.height, image.width)))
    return replace(shard, images=tuple(images)), aligned


def distort(recipe: Recipe, image: ImageRecord, pristine: Image, *, seed: int) -> Distorted | str:
    """Return the `pristine` pixels under a true distortion, or the reason against it."""
    if reason := unsuitable(recipe.distortion, image.height, image.width):
        return reason
    own_seed = sample_seed(seed, image.image_digest, recipe.distortion, recipe.level)
    result = apply(recipe.distortion, pristine, recipe.parameters, make_rng(own_seed))
    return Distorted(result.image, result.facts, own_seed)


def from_partner(partners: Partners, image: ImageRecord, pristine: Image, aligned: Aligned | None) -> Distorted | str:
    """Return the partner of an image with its registration, or the reason for its absence."""
    try:
        distorted = partners.read(image)
    except InvalidImage as unusable:
        return unusable.reason
    measured = aligned or register(pristine, distorted)
    file = {"file": partners.paths[image.id], "image_height": image.height, "image_width": image.width}
    return Distorted(distorted, {**file, **measured.facts()})


def _too_small(shard: Shard, placed: PlacedImage, least_px: int) -> int | None:
    """Return the least side of the tiles if it is too small for training."""
    least = min(side for tile in placed.tiles for side in (tile.height, tile.width))
    return least if shard.split == "train" and least < least_px else None


class ShardArrays:
    """The arrays of a pair store at the slots of one shard: training tiles, or whole validation images."""

    def __init__(self, work: Path, shard: Shard, tile_px: int) -> None:
        self._work = work
        self._group = create_group(work)
        self._shard = shard
        self._pixels = PixelDigest()
        slots = sum(len(placed.tiles) for placed in shard.images)
        self._tiles = np.zeros((slots, tile_px, tile_px, 3), np.uint8)  # reused by every column

    def add(self, column: str, placed: PlacedImage, image: Image | None) -> None:
        """Copy the tiles of an image to their slots, black without an image; a validation image is written."""
        if self._shard.split == "train":
            write_tiles(image, placed, self._tiles)
        elif image is not None:
            (part,) = placed.tiles  # the whole image, or its overlap with an external partner
            image = np.ascontiguousarray(image[part.y : part.y + part.height, part.x : part.x + part.width])
            write_image(self._work, val_name(placed.image.id, column), image, zstd=PAIRS_ZSTD)
            self._pixels.add(image)

    def finish(self, name: str, level_index: int) -> str:
        """Write the training tiles of a column, and return the digest of its pixels."""
        if self._shard.split == "train":
            array = self._group[f"train/{name}"]
            write_shard(self._work, array, (level_index, self._shard.first_slot), self._tiles)
            self._pixels.add(self._tiles)
        finished, self._pixels = self._pixels, PixelDigest()
        return finished.hexdigest()

    def files(self, columns: Sequence[tuple[str, int]]) -> list[Path]:
        """Return the files of the training tiles in `columns` (name, level index), or the folders of the images."""
        if self._shard.split == "val":
            return [self._work / PIXELS / "val" / placed.image.id for placed in self._shard.images]
        first = self._shard.first_slot
        return [shard_file(self._work, self._group[f"train/{name}"], (index, first)) for name, index in sorted(columns)]


def write_tiles(image: Image | None, placed: PlacedImage, into: NDArray[np.uint8]) -> None:
    """Copy the tiles of `placed` from `image` to their slots of `into` (slots, tile_px, tile_px, 3); None is black."""
    for slot, tile in enumerate(placed.tiles, start=placed.first_slot):
        if image is None:
            into[slot] = 0
            continue
        into[slot, : tile.height, : tile.width] = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def pair_records(shard: Shard, placed: PlacedImage, recipe: Recipe, distorted: Distorted) -> list[PairRecord]:
    """Return the record of each tile of an image under a recipe."""
    return [
        PairRecord(
            split=shard.split,
            shard=shard.number,
            slot=slot,
            image=placed.image.id,
            image_digest=placed.image.image_digest,
            **asdict(tile),
            distortion=recipe.distortion,
            level=recipe.level,
            level_index=recipe.level_index,
            seed=distorted.seed,
            parameters=canonical(dict(recipe.parameters)),
            facts=canonical(dict(distorted.facts)),
        )
        for slot, tile in enumerate(placed.tiles, start=shard.first_slot + placed.first_slot)
    ]
