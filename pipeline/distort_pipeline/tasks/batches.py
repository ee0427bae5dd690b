"""One batch of a corpus: read its tiles, distort them, measure them, write them, report on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.backend import pin_backend_threads
from distort_pipeline.memory import trim_heap
from distort_pipeline.pixels import Image, Images
from distort_pipeline.planning.conditions import SEVERITY
from distort_pipeline.planning.corpora import Batch, PlannedSample, ReferenceTile, tile_shard
from distort_pipeline.prefetch import prefetch
from distort_pipeline.records import SampleRecord, canonical, digest, digest_rows
from distort_pipeline.reports.batch import BatchMeasures, TruthStats, batch_report
from distort_pipeline.reports.side_by_side import amplified_residual, png_bytes, side_by_side
from distort_pipeline.reports.targets import target_report
from distort_pipeline.seeds import derive_seed
from distort_pipeline.severities import composite_parameters, levels_near, true_parameters
from distort_pipeline.statistics.computed_metrics import measured_labels
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.stores.arrays import PixelDigest, create_group, pixel_digest, write_image
from distort_pipeline.stores.corpora import PRISTINE, distorted_array, image_array
from distort_pipeline.stores.files import Ledger, write_bytes, write_json
from distort_pipeline.stores.models import ValidationHistograms, arrays_digest, read_histograms
from distort_pipeline.stores.tables import write_table
from distort_pipeline.stores.truths import Truth, middle, read_truth, truth_of, write_truth_arrays
from distort_pipeline.tasks.composite import CompositeGenerator, load_composite
from distort_pipeline.tasks.reference_tiles import EXAMPLES
from distort_pipeline.tasks.sample_truths import DistortionSpec, rows_to_show, sample_truth
from distort_pipeline.tasks.shared_truths import true_examples, truth_stats
from distort_pipeline.tasks.targets import assign_targets, distort_to_targets, lowest_quality
from distort_pipeline.wavelets.significance import Significances

LIMITS = (0, 255)
AIMED_TOGETHER = 4  # batches of the network: those that are at their target are not tried again, the others fill up
PARTS_AHEAD = 2  # that the network may be ahead of the statistics


@dataclass(frozen=True)
class BatchTask:
    """All that a worker needs to make one batch."""

    work: Path
    root: Path  # of the photographs
    models: Mapping[str, Path]  # of the batch's condition, in the order of application
    batch: Batch
    tiles: tuple[ReferenceTile, ...]  # of the batch's samples, in their order
    same_level_conditions: Mapping[str, str]  # condition → distortion: whose truths the batch is held against
    condition_levels: Mapping[str, int]  # condition → level: of the batch's own distortion
    tiles_per_shard: int
    inference_batch_size: int
    precision: str
    metrics: tuple[str, ...]
    whole_images: bool
    truth_images: int
    seed: int
    threads: int


def make_batch(task: BatchTask) -> dict[str, Any]:
    """Make one batch: pixels, records, report, strip, then its line in the ledger. Return that line."""
    pin_backend_threads(task.threads)
    inference_batch_size = 1 if task.whole_images else task.inference_batch_size
    chain = load_composite(task.models, batch_size=inference_batch_size, precision=task.precision)
    shards = sorted({_shard_of(task, tile) for tile in task.tiles})
    truths = {shard: read_truth(task.work, tile_shard(shard)) for shard in shards}
    significances = _significances(task, truths)
    task, worst, moved = _assigned(task, chain, significances)
    examples = _example_places(task, truths)
    pixels = PixelDigest()
    records, histograms, shown = [], [], {}
    for place, (clean, made, severity) in enumerate(_distorted(task, chain, worst, significances)):
        pixels.add(made)
        records.append(_record(task, chain, place, severity, clean, made))
        histograms.append(product_histogram(made))
        if place in examples:
            shown[place] = (middle(clean), middle(made))
    write_table(task.work / "records" / f"{task.batch.name}.parquet", records, SampleRecord)
    noted: dict[str, str] = {}
    if task.batch.condition.fixed_severity:
        truth = truth_stats(
            truths,
            _numbers(task),
            task.tiles_per_shard,
            same_level_conditions=task.same_level_conditions,
            condition_levels=task.condition_levels,
        )
    else:
        truth, kept, noted = _sample_truth(task, chain, [record.severity for record in records])
        examples.update(kept)
    pristine = np.stack([truths[_shard_of(task, t)].pristine[t.number % task.tiles_per_shard] for t in task.tiles])
    report = _report(task, chain, BatchMeasures(records, np.stack(histograms), pristine, truth), moved)
    write_json(task.work / "reports" / f"{task.batch.name}.json", report)
    drawn = png_bytes(_side_by_side([(*shown[place], true) for place, true in examples.items()]))
    write_bytes(task.work / "reports" / f"{task.batch.name}.png", drawn)
    entry = {
        "shard": task.batch.name,
        "samples": len(records),
        "pixels": pixels.hexdigest(),
        "records": digest_rows(records),
        "report": digest(report),
        **noted,
        "accepted": report["accepted"],
    }
    # the strip is for people and drawn with whatever fonts there are: outside the digest, but damage to it shows
    entry = {**entry, "digest": digest(entry), "side_by_side": hashlib.sha256(drawn).hexdigest()}
    Ledger(task.work).note(task.batch.name, entry)
    trim_heap()
    return entry


def _assigned(
    task: BatchTask, chain: CompositeGenerator, significances: Significances | None
) -> tuple[BatchTask, list[float] | None, int]:
    """Return the task with targets that its tiles can have, what each reaches at severity 1, and how many were moved.

    Where no targets of their own are asked of the samples it is the task as it was, None and 0.
    """
    request, samples = task.batch.condition.request, task.batch.samples
    if request.of == SEVERITY or not request.varies:
        return task, None, 0
    group, seeds = create_group(task.work), [sample.seed for sample in samples]
    if task.whole_images:
        worst = [
            value
            for place, seed in enumerate(seeds)
            for value in lowest_quality(chain, _whole(task, group, place), [seed], None, measure=request.of)
        ]
    else:
        tiles = _read_tiles(group[PRISTINE], _numbers(task))
        worst = lowest_quality(chain, tiles, seeds, significances, measure=request.of)
    seed = derive_seed(task.seed, "targets", task.batch.name)
    planned = [sample.requested for sample in samples]
    targets, moved = assign_targets(planned, worst, measure=request.of, mildest=request.first, seed=seed)
    aimed = tuple(replace(sample, requested=target) for sample, target in zip(samples, targets, strict=True))
    return replace(task, batch=replace(task.batch, samples=aimed)), worst, moved


def _distorted(
    task: BatchTask, chain: CompositeGenerator, worst: Sequence[float] | None, significances: Significances | None
) -> Iterator[tuple[Image, Image, float]]:
    """Write the batch's pixels and yield (pristine, distorted, severity) of each; whole images are made one by one.

    The network works ahead, in a thread of its own: while one part is measured here, it distorts the next.
    """
    group, samples = create_group(task.work), task.batch.samples
    column = distorted_array(task.batch.condition.name)
    if task.whole_images:
        made_images = prefetch(_images(task, chain, group, worst), 1, name="network")
        for sample, (clean, made) in zip(samples, made_images, strict=True):
            write_image(task.work, image_array(column, sample.slot), made[0])
            yield clean, *made
        return
    pristine = _read_tiles(group[PRISTINE], _numbers(task))
    parts = _parts(task, chain, pristine, samples, worst, significances)
    distorted = np.empty_like(pristine)
    first = 0
    for part, severities in prefetch(parts, PARTS_AHEAD, name="network"):
        own = slice(first, first + len(part))
        distorted[own] = part
        yield from zip(pristine[own], distorted[own], severities, strict=True)
        first = own.stop
    group[column][samples[0].slot : samples[0].slot + len(samples)] = distorted


def _parts(
    task: BatchTask,
    chain: CompositeGenerator,
    pristine: Images,
    samples: Sequence[PlannedSample],
    worst: Sequence[float] | None,
    significances: Significances | None,
) -> Iterator[tuple[Images, list[float]]]:
    """Yield distorted images and their severities, part by part."""
    seeds, requested, measure = (
        [one.seed for one in samples],
        [one.requested for one in samples],
        task.batch.condition.request.of,
    )
    if measure != SEVERITY:
        together = 1 if task.whole_images else AIMED_TOGETHER * task.inference_batch_size
        yield from distort_to_targets(
            chain, pristine, seeds, requested, significances, measure=measure, batch=together, worst=worst
        )
        return
    start = 0
    for part in chain.distort_batches(pristine, seeds, requested, significances):
        yield part, requested[start : start + len(part)]
        start += len(part)


def _images(
    task: BatchTask, chain: CompositeGenerator, group: Any, worst: Sequence[float] | None
) -> Iterator[tuple[Image, tuple[Image, float]]]:
    """Yield pristine, and distorted with its severity, of whole images."""
    for place, sample in enumerate(task.batch.samples):
        pristine = _whole(task, group, place)
        own = None if worst is None else [worst[place]]
        ((made, severities),) = _parts(task, chain, pristine, [sample], own, None)
        yield pristine[0], (made[0], severities[0])


def _whole(task: BatchTask, group: Any, place: int) -> Images:
    """Return the pristine image of a sample, (1, H, W, 3)."""
    return np.asarray(group[image_array(PRISTINE, task.tiles[place].number)][:])[None]


def _significances(task: BatchTask, truths: Mapping[int, Truth]) -> Significances | None:
    """Return the significance (N, 18) of the images of the batch's tiles, or None where nothing goes by it."""
    rows = []
    for tile in task.tiles:
        of_shard = truths[_shard_of(task, tile)].significances
        if of_shard is None:
            return None
        rows.append(of_shard[tile.number % task.tiles_per_shard])
    return np.stack(rows)


def _numbers(task: BatchTask) -> list[int]:
    return [tile.number for tile in task.tiles]


def _read_tiles(array: Any, numbers: Sequence[int]) -> Images:
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return np.asarray(array[numbers[0] : numbers[0] + len(numbers)])
    found = {number: np.asarray(array[number]) for number in sorted(set(numbers))}  # it starts again at the first tile
    return np.stack([found[number] for number in numbers])


def _shard_of(task: BatchTask, tile: ReferenceTile) -> int:
    return tile.number // task.tiles_per_shard


def _example_places(task: BatchTask, truths: Mapping[int, Truth]) -> dict[int, Image | None]:
    """Return which of the batch's samples its strip shows, each with its true image, or None where none is known."""
    if not task.batch.condition.fixed_severity:  # the truths are made when the severities of the samples are known
        return dict.fromkeys(rows_to_show(task.tiles, task.truth_images))
    found: dict[int, Image | None] = {}
    found.update(true_examples(truths, _numbers(task), task.batch.condition.name))
    return found or dict.fromkeys(range(min(EXAMPLES, len(task.tiles))))


def _record(
    task: BatchTask, chain: CompositeGenerator, place: int, severity: float, pristine: Image, distorted: Image
) -> SampleRecord:
    sample, reference, condition = task.batch.samples[place], task.tiles[place], task.batch.condition
    return SampleRecord(
        sample=sample.sample,
        distortion=condition.distortion,
        batch=task.batch.number,
        slot=sample.slot,
        tile=sample.tile,
        image=reference.image.id,
        split=reference.image.split,
        y=reference.tile.y,
        x=reference.tile.x,
        height=reference.tile.height,
        width=reference.tile.width,
        level=condition.level,
        severity=severity,
        parameters=canonical(composite_parameters(chain.cards, severity)),
        target=None if condition.request.of == SEVERITY else sample.requested,
        draw=sample.draw,
        seed=sample.seed,
        model=chain.digest,
        precision=task.precision,
        pixel_digest=pixel_digest([distorted]),
        clipped=_newly_clipped(pristine, distorted),
        **measured_labels(pristine, distorted, task.metrics),
    )


def _newly_clipped(pristine: Image, distorted: Image) -> float:
    """Return the fraction of values that stand at a limit of the range and did not in the pristine tile."""
    newly = sum(np.count_nonzero((distorted == limit) & (pristine != limit)) for limit in LIMITS)
    return newly / distorted.size


def _sample_truth(
    task: BatchTask, chain: CompositeGenerator, severities: Sequence[float]
) -> tuple[TruthStats, dict[int, Image], dict[str, str]]:
    """Make the truth file of the batch; return its measures, its examples by place, and what the ledger says of it."""
    steps = [
        [
            DistortionSpec(name, card["distortion"], true_parameters(card, severity))
            for name, card in chain.cards.items()
        ]
        for severity in severities
    ]
    name = task.batch.condition.distortion
    arrays = sample_truth(name, task.tiles, steps, root=task.root, images=task.truth_images, seed=task.seed)
    write_truth_arrays(task.work, task.batch.name, arrays)
    own = truth_of(arrays)
    kept = dict(zip(own.example_rows.tolist(), own.examples[name], strict=True))
    measures = TruthStats(own.rows, own.histograms, own.psnr, own.ssim)
    return measures, kept, {"truth": arrays_digest(arrays)}


def _report(task: BatchTask, chain: CompositeGenerator, measures: BatchMeasures, moved: int) -> dict[str, Any]:
    severities = {record.severity for record in measures.records}
    stored = []
    for name, one in chain.generators.items():
        learned = _stored_histograms(task.models[name], one.digest)
        stored.append([learned[place] for place in levels_near(one.card, severities)])
    external = any(one.card["external"] for one in chain.generators.values())
    report = batch_report(measures, stored, external=external, seed=task.seed)
    request = task.batch.condition.request
    return (
        report if request.of == SEVERITY else {**report, "target": target_report(measures.records, request.of, moved)}
    )


def _side_by_side(examples: Sequence[tuple[Image, Image, Image | None]]) -> Image:
    """Return pristine, generated, true (where it is known) and residuals of the examples side by side."""
    if any(true is None for _, _, true in examples):
        columns = ["pristine", "generated", "generated residual x4"]
        return side_by_side([[clean, made, amplified_residual(clean, made)] for clean, made, _ in examples], columns)
    rows = [
        [clean, made, true, amplified_residual(clean, made), amplified_residual(clean, true)]
        for clean, made, true in examples
        if true is not None
    ]
    return side_by_side(rows, ["pristine", "generated", "true", "generated residual x4", "true residual x4"])


@lru_cache(maxsize=8)  # by digest too: another training may have put another model in the same folder
def _stored_histograms(model: Path, weights_digest: str) -> tuple[ValidationHistograms, ...]:  # noqa: ARG001
    return read_histograms(model)
