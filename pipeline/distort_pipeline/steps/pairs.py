"""pairs: materialise pristine/distorted pairs of pictures into a Zarr store, one task for each shard."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import PairsConfig
from distort_pipeline.distortions import apply, codec_versions
from distort_pipeline.distortions.presets import parameters
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.planning import PairPlan, PlacedPicture, Recipe, Shard, plan_pairs
from distort_pipeline.progress import track
from distort_pipeline.ranges import Picture
from distort_pipeline.records import PairRecord, Report, canonical, digest, digest_rows
from distort_pipeline.seeds import generator, sample_seed
from distort_pipeline.stores.arrays import (
    create_group,
    create_tiles,
    pixel_digest,
    write_picture,
    write_shard,
)
from distort_pipeline.stores.brought import brought_root, partners
from distort_pipeline.stores.files import Build, Ledger, check_free_space, write_json
from distort_pipeline.stores.ingested import read_ingested
from distort_pipeline.stores.manifests import Manifest, read_manifest
from distort_pipeline.stores.pairs import KIND, VERSION, distorted_column, val_name
from distort_pipeline.stores.pictures import UnusablePicture, decode
from distort_pipeline.stores.sources import read_bytes
from distort_pipeline.stores.tables import write_table
from distort_pipeline.versions import package_versions


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make one shard: names and numbers, no pixels."""

    work: Path
    root: Path  # of the pristine pictures
    shard: Shard
    recipes: tuple[Recipe, ...]
    partners: Mapping[str, Mapping[str, str]]  # brought source → picture id → path
    tile_px: int
    tiles_per_shard: int
    seed: int


def run(
    config: PairsConfig, manifest_path: Path, out: Path, *, root: Path | None = None, workers: Workers | None = None
) -> Report:
    """Make the pair store `out` of the pictures of a manifest; what an earlier, interrupted run finished is kept."""
    started = time.monotonic()
    manifest = read_manifest(manifest_path)
    root = root or manifest.root
    recipes = recipes_of(config)
    plan = plan_pairs(
        manifest.records,
        tile_px=config.tile_px,
        tiles_per_picture=config.tiles_per_picture,
        tiles_per_shard=config.tiles_per_shard,
        min_tile_px=config.min_tile_px,
        seed=config.seed,
    )
    found = {name: partners(Path(place), manifest.records) for name, place in config.brought.items()}
    settings = settings_of(config, manifest, found)
    build = Build(out, digest(settings))
    if build.complete():
        return Report("pairs", {"shards": len(plan.shards)}, (f"{out} is already complete; nothing to do",))
    work = build.start()
    ledger = Ledger(work)
    check_free_space(out, _bytes_left(plan, recipes, ledger, config.tile_px))
    _create_arrays(work, config, plan, recipes)
    finished = ledger.finished(shard.name for shard in plan.shards)
    tasks = [
        ShardTask(
            work, root, shard, recipes, _partners_of(found, shard), config.tile_px, config.tiles_per_shard, config.seed
        )
        for shard in plan.shards
        if shard.name not in finished
    ]
    tasks.sort(key=lambda task: -sum(p.picture.width * p.picture.height for p in task.shard.pictures))
    results = run_tasks(make_shard, tasks, workers or Workers(config.workers))
    for _ in track(results, total=len(plan.shards), label="pairs", unit="shards", done=len(finished)):
        pass
    entries = ledger.entries([shard.name for shard in plan.shards])
    header = _header(manifest, plan, recipes, settings, entries)
    write_json(work / "run.json", {"seconds": round(time.monotonic() - started, 3), "made_now": len(tasks)})
    build.publish(header)
    return _report(out, header)


def recipes_of(config: PairsConfig) -> tuple[Recipe, ...]:
    """Return every column of the store: each distortion at each level, then what the user brought."""
    made = [
        Recipe(name, level, place, parameters(config.preset, name, level))
        for name in config.distortions
        for place, level in enumerate(config.levels)
    ]
    return (*made, *(Recipe(name, 1, 0, {}, place) for name, place in config.brought.items()))


def settings_of(config: PairsConfig, manifest: Manifest, found: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return all that decides the store's bytes, as plain values."""
    values = dataclasses.asdict(config)
    del values["workers"]  # nor do workers decide any
    values["brought"] = {
        name: {picture: _file_digest(brought_root(Path(config.brought[name])), path) for picture, path in pairs.items()}
        for name, pairs in found.items()
    }
    return {
        "format": KIND,
        "version": VERSION,
        "pairs": values,
        "manifest_digest": manifest.digest,
        "codecs": codec_versions(config.distortions),
    }


def make_shard(task: ShardTask) -> str:
    """Make one shard whole: its pixels, then its records, then its line in the ledger. Return its name."""
    group = create_group(task.work)
    shard = task.shard
    pristine = {placed.picture.id: read_ingested(task.root, placed.picture) for placed in shard.pictures}
    digests = {"pristine": _write_column(group, task, "pristine", 0, 0, pristine)}
    records: list[PairRecord] = []
    missing: list[dict[str, str]] = []
    for recipe in task.recipes:
        distorted: dict[str, Picture] = {}
        for placed in shard.pictures:
            made = _distorted(task, recipe, placed, pristine[placed.picture.id])
            if isinstance(made, str):
                missing.append({"picture": placed.picture.id, "distortion": recipe.distortion, "reason": made})
                continue
            distorted[placed.picture.id], facts, seed = made
            records += _records(task, placed, recipe, seed, facts)
        name = distorted_column(recipe.distortion, recipe.level)
        digests[name] = _write_column(group, task, recipe.distortion, recipe.level, recipe.level_index, distorted)
    write_table(task.work / "records" / f"{shard.name}.parquet", records, PairRecord)
    entry = {
        "shard": shard.name,
        "pairs": len(records),
        "tiles": sum(len(placed.tiles) for placed in shard.pictures),
        "arrays": digests,
        "records": digest_rows(records),
        "missing": missing,
    }
    Ledger(task.work).note(shard.name, {**entry, "digest": digest(entry)})
    return shard.name


def _distorted(
    task: ShardTask, recipe: Recipe, placed: PlacedPicture, pristine: Picture
) -> tuple[Picture, Mapping[str, Any], int] | str:
    """Return the distorted picture, what came out and the seed; or the reason why there is none."""
    picture = placed.picture
    if recipe.brought is None:
        seed = sample_seed(task.seed, picture.picture_digest, recipe.distortion, recipe.level)
        made = apply(recipe.distortion, pristine, recipe.parameters, generator(seed))
        return made.picture, made.facts, seed
    path = task.partners[recipe.distortion].get(picture.id)
    if path is None:
        return "no distorted partner"
    try:
        brought, _ = decode(read_bytes(brought_root(Path(recipe.brought)), path))
    except UnusablePicture as unusable:
        return f"its partner {path} is no use: {unusable.reason}"
    if brought.shape != pristine.shape:
        (height, width), (own_height, own_width) = brought.shape[:2], pristine.shape[:2]
        return f"its partner {path} is {width} x {height} px, the picture {own_width} x {own_height} px"
    return brought, {"file": path}, 0


def _write_column(
    group: Any, task: ShardTask, name: str, level: int, level_index: int, pictures: Mapping[str, Picture]
) -> str:
    """Write one array's share of the shard and return the digest of its pixels."""
    shard = task.shard
    if shard.split == "val":
        for picture_id, picture in pictures.items():
            column = name if name == "pristine" else distorted_column(name, level)
            write_picture(group, val_name(picture_id, column), picture)
        return pixel_digest(list(pictures.values()))
    slots = sum(len(placed.tiles) for placed in shard.pictures)
    tiles = np.zeros((slots, task.tile_px, task.tile_px, 3), np.uint8)
    for placed in shard.pictures:
        if placed.picture.id in pictures:
            cut_tiles(pictures[placed.picture.id], placed, tiles)
    write_shard(group[f"train/{name}"], level_index, shard.number * task.tiles_per_shard, tiles)
    return pixel_digest([tiles])


def cut_tiles(picture: Picture, placed: PlacedPicture, into: NDArray[np.uint8]) -> None:
    """Copy the tiles of `placed` out of `picture` into their slots of `into` (slots, tile_px, tile_px, 3)."""
    for slot, tile in enumerate(placed.tiles, start=placed.first_slot):
        into[slot, : tile.height, : tile.width] = picture[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def _records(
    task: ShardTask, placed: PlacedPicture, recipe: Recipe, seed: int, facts: Mapping[str, Any]
) -> list[PairRecord]:
    shard = task.shard
    base = shard.number * task.tiles_per_shard if shard.split == "train" else 0
    return [
        PairRecord(
            split=shard.split,
            shard=shard.number,
            slot=slot,
            picture=placed.picture.id,
            picture_digest=placed.picture.picture_digest,
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
        for slot, tile in enumerate(placed.tiles, start=base + placed.first_slot)
    ]


def _partners_of(found: Mapping[str, Mapping[str, str]], shard: Shard) -> dict[str, dict[str, str]]:
    here = [placed.picture.id for placed in shard.pictures]
    return {name: {picture: pairs[picture] for picture in here if picture in pairs} for name, pairs in found.items()}


def _file_digest(root: Path, path: str) -> str | None:
    try:
        return hashlib.sha256(read_bytes(root, path)).hexdigest()
    except UnusablePicture:
        return None  # its shard will say why


def _create_arrays(work: Path, config: PairsConfig, plan: PairPlan, recipes: tuple[Recipe, ...]) -> None:
    group = create_group(work)
    slots = len(plan.of("train")) * config.tiles_per_shard
    columns = {"pristine": 1}
    for recipe in recipes:
        columns[recipe.distortion] = max(columns.get(recipe.distortion, 0), recipe.level_index + 1)
    for name, levels in columns.items():
        create_tiles(
            group,
            f"train/{name}",
            levels=levels,
            slots=slots,
            tile_px=config.tile_px,
            per_shard=config.tiles_per_shard,
            per_chunk=config.tiles_per_chunk,
        )


def _bytes_left(plan: PairPlan, recipes: tuple[Recipe, ...], ledger: Ledger, tile_px: int) -> int:
    """Return how many bytes the unfinished shards need at most: pixels that do not compress at all."""
    finished = ledger.finished(shard.name for shard in plan.shards)
    pixels = 0
    for shard in plan.shards:
        if shard.name in finished:
            continue
        for placed in shard.pictures:
            whole = placed.picture.width * placed.picture.height
            pixels += whole if shard.split == "val" else len(placed.tiles) * tile_px**2
    return pixels * 3 * (1 + len(recipes))


def _header(
    manifest: Manifest,
    plan: PairPlan,
    recipes: tuple[Recipe, ...],
    settings: dict[str, Any],
    entries: list[dict[str, Any]],
) -> dict[str, Any]:
    missing = [absent for entry in entries for absent in entry["missing"]]
    pairs = sum(entry["pairs"] for entry in entries)
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        "digest": digest([settings, [entry["digest"] for entry in entries]]),
        "settings": settings,
        "distortions": list(dict.fromkeys(recipe.distortion for recipe in recipes)),
        "recipes": [
            {
                "distortion": recipe.distortion,
                "level": recipe.level,
                "level_index": recipe.level_index,
                "parameters": dict(recipe.parameters),
                "brought": recipe.brought is not None,
            }
            for recipe in recipes
        ],
        "shards": {split: len(plan.of(split)) for split in ("train", "val")},
        "counts": {
            "pictures": len(manifest.records),
            "pairs": pairs,
            "train_tiles": sum(entry["tiles"] for entry in entries if entry["shard"].startswith("train")),
            "val_pictures": len(plan.of("val")),
            "too_small": plan.too_small,
            "missing": len(missing),
        },
        "missing": missing,
        "manifest_digest": manifest.digest,
        "packages": package_versions(["numpy", "zarr", "distort-pipeline"]),
        "codecs": settings["codecs"],
    }


def _report(out: Path, header: dict[str, Any]) -> Report:
    counts = header["counts"]
    lines = [
        f"{counts['pairs']} pairs of {', '.join(header['distortions'])}: {counts['train_tiles']} training tiles, "
        f"{counts['val_pictures']} validation pictures",
        f"pair store: {out} (digest {header['digest'][:16]})",
    ]
    if counts["too_small"]:
        lines.append(f"{counts['too_small']} training pictures are too small for a tile and were left out")
    for absent in header["missing"]:
        lines.append(f"{absent['picture']}: {absent['distortion']} left out, {absent['reason']}")
    return Report("pairs", counts, tuple(lines))
