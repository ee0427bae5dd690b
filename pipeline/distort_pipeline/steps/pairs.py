"""pairs: write pristine/distorted image pairs into a Zarr store, one task for each shard."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.external_pairs import (
    MEASURED,
    THUMBNAILS,
    Partners,
    label_of,
    match_levels,
    measured_before,
    mismatches,
    require_a_pair,
    shifts,
    unused_partners,
)
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.pairs import KIND, VERSION, PairCounts, PairsMetadata, Recipe
from distort_pipeline.data.sources import require_images
from distort_pipeline.distortions import DISTORTIONS, codec_versions
from distort_pipeline.distortions.presets import parameters
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import Report, digest, package_versions
from distort_pipeline.steps.pair_shards import PairPlan, ShardTask, create_arrays, make_shard, plan_pairs

MISSING_SHOWN = 10


def run(
    config: PairsConfig, manifest_path: Path, out: Path, *, root: Path | None = None, workers: Workers | None = None
) -> Report:
    """Write the pair store `out` of the images of a manifest; finished shards of an interrupted run are kept."""
    started = time.monotonic()
    require_destination(out)
    manifest = read_manifest(manifest_path)
    root = (root or manifest.root).resolve()
    _require_own_names(config)
    levels = {name: match_levels(source, manifest.records, root) for name, source in config.external.items()}
    recipes = recipes_of(config, levels)
    plan = plan_pairs(
        manifest.records,
        tile_px=config.tile_px,
        tiles_per_image=config.tiles_per_image,
        tiles_per_shard=config.tiles_per_shard,
        min_tile_px=config.min_tile_px,
        seed=config.seed,
    )
    external = {recipe.column: levels[recipe.distortion][recipe.level_index] for recipe in recipes if recipe.external}
    for column, partners in external.items():
        require_a_pair(
            label_of(column, external), partners, [image for shard in plan.shards for image in shard.records]
        )
    settings = settings_of(config, manifest, external)
    build = StagedStore(out, digest(settings), staging_dir=(THUMBNAILS,))
    if build.complete():
        remarks = [*_left_out(out, PairsMetadata.load(out)), *unused_partners(external), *measured_before(out)]
        return Report("pairs", {"shards": len(plan.shards)}, (f"{out} is already complete; nothing to do", *remarks))
    require_images(root)
    with build.writing() as work:
        ledger = Ledger(work)
        shards = [shard.name for shard in plan.shards]
        finished = ledger.finished(shards)
        left = [shard for shard in plan.shards if shard.name not in finished]
        build.require_space(3 * (1 + len(recipes)) * sum(shard.pixels(config.tile_px) for shard in left))
        create_arrays(
            work,
            recipes,
            slots=len(plan.of("train")) * config.tiles_per_shard,
            tile_px=config.tile_px,
            per_shard=config.tiles_per_shard,
            per_chunk=config.tiles_per_chunk,
        )
        tasks = {
            shard.name: ShardTask(
                work,
                root,
                shard,
                recipes,
                partners={
                    column: partners.of_images(image.id for image in shard.records)
                    for column, partners in external.items()
                },
                tile_px=config.tile_px,
                seed=config.seed,
                aligned_px=config.min_tile_px if config.align else None,
            )
            for shard in sorted(plan.shards, key=lambda shard: -shard.image_pixels)
        }
        workers = workers or Workers(config.workers)
        for _ in ledger.run_unfinished(make_shard, tasks, workers, label="pairs", unit="shards"):
            pass
        metadata = _metadata(manifest, plan, recipes, settings, ledger.entries(shards))
        measured = [*shifts(work, external, shards, align=config.align), *mismatches(work, external, shards)]
        seconds = round(time.monotonic() - started, 3)
        build.publish(metadata.to_json(), run={"seconds": seconds, "made_now": len(left), MEASURED: measured})
    return _report(out, metadata, [*unused_partners(external), *measured])


def _require_own_names(config: PairsConfig) -> None:
    """Raise PipelineError if external pairs have the name of a distortion of the registry."""
    name_clashes = sorted(set(config.external) & set(DISTORTIONS.names()))
    if name_clashes:
        raise PipelineError(f"pairs.external cannot have the name {name_clashes[0]}: a true distortion has this name")


def recipes_of(config: PairsConfig, external: Mapping[str, Sequence[Partners]]) -> tuple[Recipe, ...]:
    """Return every column of the store: each distortion at each level, then the levels of the external pairs.

    A name of external pairs may stand among `distortions` as well, so that a list of all names is in one place.
    """
    algorithmic = [
        Recipe(name, level, level_index, parameters(config.preset, name, level))
        for name in config.distortions
        if name not in config.external
        for level_index, level in enumerate(config.levels)
    ]
    partners = [
        Recipe(name, level, level - 1, each.parameters, external=True)
        for name, levels in external.items()
        for level, each in enumerate(levels, start=1)
    ]
    if config.align and len(partners) > 1:
        raise PipelineError("--align moves the pristine images onto one partner each: give the pairs of one level")
    return (*algorithmic, *partners)


def settings_of(config: PairsConfig, manifest: Manifest, external: Mapping[str, Partners]) -> Mapping[str, Any]:
    """Return all settings with an effect on the bytes of the store, as plain values."""
    values = dataclasses.asdict(config)
    del values["workers"]  # without effect on the bytes
    values["external"] = {label_of(column, external): partners.file_digests() for column, partners in external.items()}
    return {
        "format": KIND,
        "version": VERSION,
        "pairs": values,
        "manifest_digest": manifest.digest,
        "codecs": codec_versions(set(config.distortions) - set(config.external)),
    }


def _metadata(
    manifest: Manifest,
    plan: PairPlan,
    recipes: tuple[Recipe, ...],
    settings: Mapping[str, Any],
    entries: Sequence[LedgerEntry],
) -> PairsMetadata:
    missing = [absent for entry in entries for absent in entry["missing"]]
    pairs = sum(entry["pairs"] for entry in entries)
    if not pairs:
        raise PipelineError(f"there are no pairs: {missing[0]['image']}: {missing[0]['reason']}")
    return PairsMetadata(
        digest=digest([settings, [entry["digest"] for entry in entries]]),
        settings=settings,
        distortions=tuple(dict.fromkeys(recipe.distortion for recipe in recipes)),
        recipes=recipes,
        shards={split: len(plan.of(split)) for split in ("train", "val")},
        counts=PairCounts(
            images=len(manifest.records),
            pairs=pairs,
            train_tiles=sum(entry["tiles"] for entry in entries if entry["shard"].startswith("train")),
            val_images=len(plan.of("val")),
            too_small=plan.too_small,
            missing=len(missing),
        ),
        missing=tuple(missing),
        manifest_digest=manifest.digest,
        packages=package_versions(["numpy", "zarr", "distort-pipeline"]),
        codecs=settings["codecs"],
    )


def _report(out: Path, metadata: PairsMetadata, remarks: Sequence[str]) -> Report:
    counts = metadata.counts
    lines = [
        f"{counts.pairs} pairs of {', '.join(metadata.distortions)}: {counts.train_tiles} training tiles, "
        f"{counts.val_images} validation images",
        f"pair store: {out} (digest {metadata.digest[:16]})",
    ]
    return Report("pairs", dataclasses.asdict(counts), (*lines, *_left_out(out, metadata), *remarks))


def _left_out(out: Path, metadata: PairsMetadata) -> Iterator[str]:
    """Yield the lines of every summary: images left out, with reasons."""
    if too_small := metadata.counts.too_small:
        yield f"{too_small} training images are too small for a tile and were left out"
    for absent in metadata.missing[:MISSING_SHOWN]:
        yield f"{absent['image']}: {absent['distortion']} left out, {absent['reason']}"
    if len(metadata.missing) > MISSING_SHOWN:
        yield f"and {len(metadata.missing) - MISSING_SHOWN} more, listed in {out / 'store.json'}"
