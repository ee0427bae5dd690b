"""pairs: write pristine/distorted image pairs into a Zarr store, one task for each shard."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.arrays import create_group, create_tiles, read_records
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.external_pairs import Partners, match_levels
from distort_pipeline.data.files import read_json
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.pairs import KIND, VERSION, PairCounts, PairsMetadata, Recipe, distorted_column
from distort_pipeline.data.sources import read_bytes, require_images
from distort_pipeline.distortions import DISTORTIONS, codec_versions
from distort_pipeline.distortions.presets import parameters
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.metrics.registration import SHIFTED_PX, Registration, are_shifted, count_shifted, find_mismatches
from distort_pipeline.records import PairRecord, Report, digest, package_versions
from distort_pipeline.steps.pair_shards import THUMBNAILS, PairPlan, ShardTask, make_shard, plan_pairs

MISSING_SHOWN = 10
MEASURED = "measured"  # in run.json: remarks on external pairs, for the summary of a later run


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
        _require_a_pair(_label(column, external), partners, plan)
    settings = settings_of(config, manifest, external)
    build = StagedStore(out, digest(settings), staging_dir=(THUMBNAILS,))
    if build.complete():
        remarks = [*_left_out(out, PairsMetadata.load(out)), *_unused(external), *_measured(out)]
        return Report("pairs", {"shards": len(plan.shards)}, (f"{out} is already complete; nothing to do", *remarks))
    require_images(root)
    with build.writing() as work:
        ledger = Ledger(work)
        shards = [shard.name for shard in plan.shards]
        finished = ledger.finished(shards)
        left = [shard for shard in plan.shards if shard.name not in finished]
        build.require_space(3 * (1 + len(recipes)) * sum(shard.pixels(config.tile_px) for shard in left))
        _create_arrays(
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
                partners={column: partners.of_images(shard.image_ids) for column, partners in external.items()},
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
        measured = [*_shifts(work, external, shards, align=config.align), *_mismatches(work, external, shards)]
        seconds = round(time.monotonic() - started, 3)
        build.publish(metadata.to_json(), run={"seconds": seconds, "made_now": len(left), MEASURED: measured})
    return _report(out, metadata, [*_unused(external), *measured])


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


def _label(column: str, external: Mapping[str, Partners]) -> str:
    """Return a column of external pairs as messages name it: without its number where it is the only level.

    >>> none = Partners(Path(), {}, {})
    >>> _label("scan-1", {"scan-1": none}), _label("scan-1", {"scan-1": none, "scan-2": none})
    ('scan', 'scan-1')
    """
    name = column.rpartition("-")[0]
    return column if sum(other.rpartition("-")[0] == name for other in external) > 1 else name


def settings_of(config: PairsConfig, manifest: Manifest, external: Mapping[str, Partners]) -> Mapping[str, Any]:
    """Return all settings with an effect on the bytes of the store, as plain values."""
    values = dataclasses.asdict(config)
    del values["workers"]  # without effect on the bytes
    values["external"] = {
        _label(column, external): {image: _file_digest(partners.root, path) for image, path in partners.paths.items()}
        for column, partners in external.items()
    }
    return {
        "format": KIND,
        "version": VERSION,
        "pairs": values,
        "manifest_digest": manifest.digest,
        "codecs": codec_versions(set(config.distortions) - set(config.external)),
    }


def _require_a_pair(name: str, partners: Partners, plan: PairPlan) -> None:
    """Raise PipelineError if no partner can be used; reads partners up to the first usable."""
    reasons = []
    for image in (placed.image for shard in plan.shards for placed in shard.images):
        try:
            partners.read(image)
            return
        except InvalidImage as unusable:
            reasons.append(f"{image.path}: {unusable.reason}")
    reasons.sort(key=lambda reason: reason.endswith("no distorted partner"))  # others first
    raise PipelineError(f"{name} has no usable pair among {len(reasons)} images; the first is {reasons[0]}")


def _unused(external: Mapping[str, Partners]) -> Iterator[str]:
    for column, partners in external.items():
        if partners.unused:
            count, first, name = len(partners.unused), partners.unused[0], _label(column, external)
            yield f"{count} of {name} not used: no image of the manifest for {first}{' and others' * (count > 1)}"


def _shifts(work: Path, external: Mapping[str, Partners], shards: Sequence[str], *, align: bool) -> Iterator[str]:
    """Yield the shift and gain of each name of external pairs, and a remark if a clear share is shifted."""
    if not external:
        return
    facts: dict[str, dict[str, Mapping[str, Any]]] = {column: {} for column in external}
    for record in read_records([work / "records" / f"{shard}.parquet" for shard in shards], PairRecord):
        column = distorted_column(record.distortion, record.level)
        if column in external:
            facts[column][record.image] = json.loads(record.facts)
    for column, of_image in facts.items():
        name = _label(column, external)
        pairs = [Registration.of_facts(values) for values in of_image.values()]
        gains = [pair.gain for pair in pairs if pair.gain is not None]
        shifts = [pair.shift_px for pair in pairs if pair.is_reliable]
        gain = f"median gain {np.median(gains):.2f}" if gains else "gain not measurable"
        shift = f"median shift {np.median(shifts):.2f} px, largest {max(shifts):.2f} px, " if shifts else ""
        yield f"{name}: {shift}{gain}; the shift is reliable in {len(shifts)} of {len(pairs)} pairs"
        if align:
            count = sum(pair.move is not None for pair in pairs)
            left = len(pairs) - len(shifts)
            yield f"{name}: {count} pristine images moved onto their partners" + (
                f"; {left} pairs stay as they are, because their shift is not reliable" if left else ""
            )
        elif are_shifted(pairs):
            yield (
                f"{count_shifted(pairs)} of {len(pairs)} pairs of {name} are shifted by more than {SHIFTED_PX} px: "
                "--align moves the pristine images onto them; a shift that is part of the distortion should stay"
            )


def _mismatches(work: Path, external: Mapping[str, Partners], shards: Sequence[str]) -> Iterator[str]:
    """Yield a warning for external pairs that resemble each other less than another pairing."""
    thumbnails: dict[str, NDArray[np.float32]] = {}
    for path in (work / THUMBNAILS / f"{shard}.npz" for shard in shards):
        if path.is_file():  # a repair makes damaged shards only
            with np.load(io.BytesIO(path.read_bytes())) as stored:
                thumbnails |= {name: stored[name].astype(np.float32) for name in stored.files}
    for column, partners in external.items():
        name = _label(column, external)
        images = [image for image in partners.paths if f"{column}/{image}" in thumbnails]
        pairs = [thumbnails[f"{column}/{image}"] for image in images]
        mismatches = list(find_mismatches([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
        if not mismatches:
            continue
        yield (
            f"warning: {len(mismatches)} of {len(images)} partners of {name} seem to be of another image, mirrored or "
            "turned; correct or remove these files, and make the store again"
        )
        for index, better, score, pair_score in mismatches[:MISSING_SHOWN]:
            image = images[index]
            like = f"resembles {images[better] if isinstance(better, int) else f'its image {better}'} ({score:.2f})"
            like = "resembles no image" if better is None else like
            yield f"{image}: its partner {partners.paths[image]} in {name} {like}, its own image by {pair_score:.2f}"
        if len(mismatches) > MISSING_SHOWN:
            yield f"and {len(mismatches) - MISSING_SHOWN} more"


def _measured(out: Path) -> list[str]:
    """Return the warnings of the run that made the store."""
    path = out / "run.json"
    return read_json(path).get(MEASURED, []) if path.is_file() else []


def _file_digest(root: Path, path: str) -> str | None:
    try:
        return hashlib.sha256(read_bytes(root, path)).hexdigest()
    except InvalidImage:
        return None  # its shard records the reason


def _create_arrays(work: Path, recipes: Sequence[Recipe], **layout: int) -> None:
    """Create the arrays of training tiles; `layout` are the sizes of `create_tiles`."""
    group = create_group(work)
    columns = {"pristine": 1}
    for recipe in recipes:
        columns[recipe.distortion] = max(columns.get(recipe.distortion, 0), recipe.level_index + 1)
    for name, levels in columns.items():
        create_tiles(group, f"train/{name}", levels=levels, **layout)


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
