"""generate: distort any number of tiles with the trained generators; every batch has a report."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.arrays import create_group, create_samples
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.conditions import Condition, levels_of, same_level
from distort_pipeline.data.corpora import PRISTINE, distorted_array
from distort_pipeline.data.files import Ledger, check_free_space, read_json, write_json
from distort_pipeline.data.manifests import ATTRIBUTIONS, attributions_of, read_manifest, write_attributions
from distort_pipeline.data.plans import CorpusPlan, plan_corpus
from distort_pipeline.data.sources import require_images
from distort_pipeline.distortions import unsuitable
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers, run_tasks, track
from distort_pipeline.metrics.full_reference import WINDOW_PX
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import model_folders
from distort_pipeline.records import ImageRecord, Report, digest
from distort_pipeline.reports.corpus_page import write_corpus_page
from distort_pipeline.reports.corpus_verdict import cautions
from distort_pipeline.steps.batches import BatchTask, make_batch
from distort_pipeline.steps.corpus_metadata import (
    Cards,
    chosen_models,
    content_settings,
    corpus_metadata,
    plan_conditions,
    require_fit_names,
    trained_align,
    used_images,
)
from distort_pipeline.steps.reference_tiles import TileTask, make_tile_shard
from distort_pipeline.steps.truth import DistortionSpec

MIN_WHOLE_PX = WINDOW_PX  # of SSIM, in every sample's record
LEFT_OUT_SHOWN = 5


def run(
    config: GenerateConfig,
    manifest_path: Path,
    models: Path,
    out: Path,
    *,
    root: Path | None = None,
    workers: Workers | None = None,
) -> Report:
    """Write the corpus `out`; finished batches of an interrupted run are kept."""
    started = time.monotonic()
    require_destination(out)
    manifest = read_manifest(manifest_path)
    root = (root or manifest.root).resolve()
    workers = workers or Workers(config.workers, config.threads_per_worker)
    folders = chosen_models(model_folders(models.resolve()), config.distortions, config.composite)
    cards = {name: read_card(folder) for name, folder in folders.items()}
    in_splits = [image for image in manifest.records if image.split in config.splits]
    if not in_splits:
        raise PipelineError(f"{manifest_path} has no image in --splits {', '.join(config.splits)}")
    left_out = unusable_images(in_splits, cards, whole_images=config.whole_images)
    images = [image for image in in_splits if image.path not in left_out]
    if not images:
        path, reason = next(iter(left_out.items()))
        raise PipelineError(f"no image of {manifest_path} can be used; the first is {path}: {reason}")
    conditions = plan_conditions(
        cards,
        config.distortions,
        levels=config.num_levels,
        severity=config.severity,
        composites=config.composite,
        target=config.target,
    )
    align_px = config.crop_align or trained_align(cards)
    plan = plan_corpus(
        images,
        conditions,
        count=config.count,
        tile_px=None if config.whole_images else config.tile_px,
        samples_per_shard=config.samples_per_shard,
        align_px=align_px,
        seed=config.seed,
        allow_repeats=config.allow_repeats,
    )
    values = {**dataclasses.asdict(config), "crop_align": align_px}
    settings = content_settings(values, cards, manifest.digest)
    build = StagedStore(out, digest(settings))
    require_fit_names(folders)
    if build.complete():
        metadata = read_json(out / "store.json")
        remarks = (f"{out} is already complete; nothing to do", *_remarks(out, metadata))
        return Report("generate", {"samples": config.count, **_left_out_count(metadata)}, remarks)
    require_images(root)
    with build.writing() as work:
        check_free_space(out, _bytes_needed(plan, Ledger(work), config.samples_per_shard))
        _create_arrays(work, config, plan)
        tile_tasks = _tile_tasks(config, cards, conditions, plan, work, root)
        _run(make_tile_shard, tile_tasks, work, workers, label="tiles", names=[task.name for task in tile_tasks])
        batch_tasks = _batch_tasks(config, conditions, plan, folders, work, root, workers.threads)
        batches_now = _make_batches(config, batch_tasks, work, workers)
        used = used_images(plan, images)
        if not config.whole_images:
            left_out |= {
                image.path: f"too small: {image.width} x {image.height} px, a tile needs {config.tile_px} px"
                for image in images
                if min(image.height, image.width) < config.tile_px
            }
        metadata = {**corpus_metadata(work, settings, plan, cards, used), "left_out": left_out}
        seconds = time.monotonic() - started
        write_json(
            work / "run.json", {"seconds": round(seconds, 3), "batches_now": batches_now, "workers": workers.count}
        )
        write_json(work / "store.json", metadata)
        write_corpus_page(work)
        write_attributions(work / ATTRIBUTIONS, attributions_of(used))
        build.publish(metadata)
    return _report(out, metadata)


def unusable_images(images: Sequence[ImageRecord], cards: Cards, *, whole_images: bool) -> dict[str, str]:
    """Return path → reason for the `images` that a distortion or a metric of the corpus cannot take."""
    names = sorted({card.distortion for card in cards.values() if not card.external})
    reasons = {}
    for image in images:
        if whole_images and min(image.height, image.width) < MIN_WHOLE_PX:
            reasons[image.path] = f"too small: {image.width} x {image.height} px, SSIM needs {MIN_WHOLE_PX} px"
        for name in names:
            if reason := unsuitable(name, image.height, image.width):
                reasons[image.path] = reason
    return reasons


def _create_arrays(work: Path, config: GenerateConfig, plan: CorpusPlan) -> None:
    group = create_group(work)
    if config.whole_images:
        return
    slots = Counter(batch.condition.name for batch in plan.batches for _ in batch.samples)
    for name, count in {PRISTINE: len(plan.tiles), **{distorted_array(n): c for n, c in slots.items()}}.items():
        create_samples(
            group,
            name,
            slots=count,
            tile_px=config.tile_px,
            per_shard=config.samples_per_shard,
            per_chunk=config.tiles_per_chunk,
        )


def _tile_tasks(
    config: GenerateConfig, cards: Cards, conditions: Sequence[Condition], plan: CorpusPlan, work: Path, root: Path
) -> list[TileTask]:
    return [
        TileTask(
            work,
            root,
            number,
            plan.tiles[first : first + config.samples_per_shard],
            _shared_truths(cards, conditions),
            config.truth_images,
            config.seed,
            config.whole_images,
            not config.whole_images and any(card.network.image_stats for card in cards.values()),
        )
        for number, first in enumerate(range(0, len(plan.tiles), config.samples_per_shard))
    ]


def _shared_truths(cards: Cards, conditions: Sequence[Condition]) -> tuple[DistortionSpec, ...]:
    """Return the true distortions shared by the batches of a condition: of all conditions of fixed severity."""
    return tuple(
        DistortionSpec(condition.name, card.distortion, condition.level, card.true_parameters(condition.request.first))
        for condition in conditions
        if condition.fixed_severity
        for card in [cards[condition.models[0]]]
        if not card.external
    )


def _batch_tasks(
    config: GenerateConfig,
    conditions: Sequence[Condition],
    plan: CorpusPlan,
    folders: Mapping[str, Path],
    work: Path,
    root: Path,
    threads: int,
) -> list[BatchTask]:
    return [
        BatchTask(
            work,
            root,
            {name: folders[name] for name in batch.condition.models},
            batch,
            tuple(plan.tiles[sample.tile] for sample in batch.samples),
            same_level(batch.condition, conditions),
            levels_of(batch.condition, conditions),
            config.samples_per_shard,
            config.inference_batch_size,
            config.precision,
            config.metrics,
            config.whole_images,
            config.truth_images,
            config.seed,
            threads,
        )
        for batch in plan.batches
    ]


def _run(
    function: Any, tasks: Sequence[Any], work: Path, workers: Workers, *, label: str, names: Sequence[str]
) -> None:
    finished = Ledger(work).finished(names)
    unfinished = [task for task, name in zip(tasks, names, strict=True) if name not in finished]
    for _ in track(
        run_tasks(function, unfinished, workers), total=len(tasks), label=label, unit="shards", done=len(finished)
    ):
        pass


def _make_batches(config: GenerateConfig, tasks: Sequence[BatchTask], work: Path, workers: Workers) -> int:
    """Write the unfinished batches and return their number; with --on-fail stop, PipelineError at a rejected batch."""
    finished = Ledger(work).finished(task.batch.name for task in tasks)
    unfinished = [task for task in tasks if task.batch.name not in finished]
    results = run_tasks(make_batch, unfinished, workers)
    if config.on_fail == "stop":  # also at a batch of an earlier run: running again must not hide a rejection
        for entry in Ledger(work).entries(sorted(finished)):
            _stop_at_rejection(entry, work)
    for entry in track(results, total=len(tasks), label="generate", unit="batches", done=len(finished)):
        if config.on_fail == "stop":
            _stop_at_rejection(entry, work)
    return len(unfinished)


def _stop_at_rejection(entry: Mapping[str, Any], work: Path) -> None:
    if not entry["accepted"]:
        reasons = read_json(work / "reports" / f"{entry['shard']}.json")["reasons"]
        raise PipelineError(
            f"batch {entry['shard']} is rejected: {'; '.join(reasons)}; run again with --on-fail flag to continue"
        )


def _bytes_needed(plan: CorpusPlan, ledger: Ledger, tiles_per_shard: int) -> int:
    """Return the number of bytes of the unfinished shards without compression."""
    shards = plan.tile_shards(tiles_per_shard)
    finished = ledger.finished([*shards, *(batch.name for batch in plan.batches)])
    areas = [tile.tile.height * tile.tile.width for tile in plan.tiles]
    samples = sum(
        areas[sample.tile] for batch in plan.batches if batch.name not in finished for sample in batch.samples
    )
    tiles = sum(area for number, area in enumerate(areas) if shards[number // tiles_per_shard] not in finished)
    return 3 * (samples + tiles)


def _report(out: Path, metadata: dict[str, Any]) -> Report:
    counts = metadata["counts"]
    shares, levels = Counter[str](), Counter[str]()
    for name, condition in metadata["conditions"].items():
        shares[condition["distortion"]] += metadata["samples"][name]
        levels[condition["distortion"]] += 1
    several = {name: f" at {number} levels" for name, number in levels.items() if number > 1}
    by_distortion = ", ".join(f"{count} {name}{several.get(name, '')}" for name, count in shares.items())
    verdict = (
        f"{counts['flagged']} of {counts['batches']} batches rejected; the report lists them"
        if counts["flagged"]
        else f"all {counts['batches']} batches accepted"
        if counts["batches"] > 1
        else "the only batch accepted"
    )
    return Report(
        "generate",
        {**counts, **_left_out_count(metadata)},
        (
            f"{counts['samples']} samples ({by_distortion}) of {counts['tiles']} tiles from {counts['images']} images",
            verdict,
            *_remarks(out, metadata),
            f"corpus: {out} (digest {metadata['digest'][:16]})",
            f"report: {out / 'index.html'}",
        ),
    )


def _remarks(out: Path, metadata: Mapping[str, Any]) -> list[str]:
    """Return the lines of every summary: images left out, and cautions."""
    left_out = metadata.get("left_out", {})
    lines = [f"{path} left out: {reason}" for path, reason in list(left_out.items())[:LEFT_OUT_SHOWN]]
    if len(left_out) > 1:
        lines.append(f"{len(left_out)} images left out, listed in {out / 'store.json'}")
    return [*lines, *cautions(out)]


def _left_out_count(metadata: Mapping[str, Any]) -> dict[str, int]:
    return {"left_out": len(metadata["left_out"])} if metadata.get("left_out") else {}
