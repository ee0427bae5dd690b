"""One batch of a corpus: its tiles are read, distorted, measured, written, and reported on."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.data.arrays import PixelDigest, create_group, pixel_digest, write_image, write_samples
from distort_pipeline.data.conditions import SEVERITY
from distort_pipeline.data.corpora import PRISTINE, distorted_array, files_of, image_array
from distort_pipeline.data.files import Ledger, write_bytes, write_json
from distort_pipeline.data.plans import Batch, PlannedSample, ReferenceTile, tile_shard
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.data.tables import write_table
from distort_pipeline.data.truths import Truth, middle, read_truth, truth_of, write_truth_arrays
from distort_pipeline.metrics.full_reference import measured_labels
from distort_pipeline.metrics.nss_features import product_histogram
from distort_pipeline.models.card import composite_parameters
from distort_pipeline.models.store import ValidationHistograms, arrays_digest, read_histograms
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.networks.composed import TileSource
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Image, Images, SampleRecord, canonical, derive_seed, digest, digest_rows
from distort_pipeline.reports.batch import BatchMeasures, TruthStats, batch_report, target_report
from distort_pipeline.reports.side_by_side import amplified_residual, png_bytes, side_by_side
from distort_pipeline.steps.targets import assign_targets, distort_to_targets, lowest_quality
from distort_pipeline.steps.truth import (
    EXAMPLES,
    CompositeGenerator,
    DistortionSpec,
    load_composite,
    rows_to_show,
    sample_truth,
    true_examples,
    truth_stats,
)
from distort_pipeline.training.crops import prefetch


def trim_heap() -> None:
    """Return the free memory of the heap to the system; some milliseconds, nothing without glibc.

    A worker keeps memory freed by images for the next images. Small long-lived objects fragment this memory, so the
    heap of a long run would grow beyond the need of any task.
    """
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return None


_C = _c_library()


LIMITS = (0, 255)
SEARCH_BATCHES = 4  # inference batches per search: images at their target leave the later evaluations
PREFETCHED_BATCHES = 2  # of the network, ahead of the statistics


@dataclass(frozen=True)
class BatchTask:
    """The task of one batch."""

    work: Path
    root: Path  # of the images
    models: Mapping[str, Path]  # of the batch's condition, in the order of application
    batch: Batch
    tiles: tuple[ReferenceTile, ...]  # of the batch's samples, in their order
    same_level_conditions: Mapping[str, str]  # condition → distortion: true distortions compared with the batch
    condition_levels: Mapping[str, int]  # condition → level: of the batch's distortion
    tiles_per_shard: int
    inference_batch_size: int
    precision: str
    metrics: tuple[str, ...]
    whole_images: bool
    truth_images: int
    seed: int
    threads: int


def make_batch(task: BatchTask) -> dict[str, Any]:
    """Write one batch: pixels, records, report, side-by-side, then the entry of the ledger. Return the entry."""
    pin_backend_threads(task.threads)
    inference_batch_size = 1 if task.whole_images else task.inference_batch_size
    composite = load_composite(task.models, batch_size=inference_batch_size, precision=task.precision)
    composite.set_sources(_sources(task))
    shards = sorted({_shard_of(task, tile) for tile in task.tiles})
    truths = {shard: read_truth(task.work, tile_shard(shard)) for shard in shards}
    significances = _significances(task, truths)
    task, lowest, resampled = _assigned(task, composite, significances)
    examples = _examples(task, truths)
    pixels = PixelDigest()
    records, histograms, shown = [], [], {}
    for index, (clean, distorted, severity) in enumerate(_distorted(task, composite, lowest, significances)):
        pixels.add(distorted)
        records.append(_record(task, composite, index, severity, clean, distorted))
        histograms.append(product_histogram(distorted))
        if index in examples:
            shown[index] = (middle(clean), middle(distorted))
    write_table(task.work / "records" / f"{task.batch.name}.parquet", records, SampleRecord)
    truth_digest: dict[str, str] = {}
    if task.batch.condition.fixed_severity:
        truth = truth_stats(
            truths,
            _numbers(task),
            task.tiles_per_shard,
            same_level_conditions=task.same_level_conditions,
            condition_levels=task.condition_levels,
        )
    else:
        truth, true_images, truth_digest = _sample_truth(task, composite, [record.severity for record in records])
        examples.update(true_images)
    pristine = np.stack([truths[_shard_of(task, t)].pristine[t.number % task.tiles_per_shard] for t in task.tiles])
    report = _report(task, composite, BatchMeasures(records, np.stack(histograms), pristine, truth), resampled)
    write_json(task.work / "reports" / f"{task.batch.name}.json", report)
    png = png_bytes(_side_by_side([(*shown[index], true) for index, true in examples.items()]))
    write_bytes(task.work / "reports" / f"{task.batch.name}.png", png)
    entry = {
        "shard": task.batch.name,
        "samples": len(records),
        "pixels": pixels.hexdigest(),
        "records": digest_rows(records),
        "report": digest(report),
        **truth_digest,
        "accepted": report["accepted"],
    }
    # the side-by-side depends on the fonts of the machine: outside the digest, with a digest of its own
    entry = {**entry, "digest": digest(entry), "side_by_side": hashlib.sha256(png).hexdigest()}
    Ledger(task.work).note(task.batch.name, entry, _files(task))
    trim_heap()
    return entry


def _files(task: BatchTask) -> list[Path]:
    """Return the files of a batch, and the folders of its whole images."""
    column, slots = distorted_array(task.batch.condition.name), [sample.slot for sample in task.batch.samples]
    pixels = files_of(task.work, column, slots, whole_images=task.whole_images)
    names = ["records/{}.parquet", "reports/{}.json", "reports/{}.png"]
    if not task.batch.condition.fixed_severity:
        names.append("truth/{}.npz")
    return [*pixels, *(task.work / name.format(task.batch.name) for name in names)]


def _sources(task: BatchTask) -> dict[int, TileSource]:
    """Return which image the tile of each sample is of, by the sample's seed."""
    sources = {}
    for sample, reference in zip(task.batch.samples, task.tiles, strict=True):
        image, tile = reference.image, reference.tile
        seed = derive_seed(task.seed, "photograph", image.image_digest, sample.draw)
        read = partial(read_ingested, task.root, image)
        sources[sample.seed] = TileSource(image.image_digest, read, tile.y, tile.x, seed)
    return sources


def _assigned(
    task: BatchTask, composite: CompositeGenerator, significances: Significances | None
) -> tuple[BatchTask, list[float] | None, int]:
    """Return the task with targets within reach of its tiles, their quality at severity 1, and the number resampled.

    Without a range of targets in the request: the same task, None and 0.
    """
    request, samples = task.batch.condition.request, task.batch.samples
    if request.of == SEVERITY or not request.varies:
        return task, None, 0
    group, seeds = create_group(task.work), [sample.seed for sample in samples]
    if task.whole_images:
        lowest = [
            value
            for index, seed in enumerate(seeds)
            for value in lowest_quality(composite, _whole_image(task, group, index), [seed], None, measure=request.of)
        ]
    else:
        tiles = _read_tiles(group[PRISTINE], _numbers(task))
        lowest = lowest_quality(composite, tiles, seeds, significances, measure=request.of)
    seed = derive_seed(task.seed, "targets", task.batch.name)
    planned = [sample.requested for sample in samples]
    targets, resampled = assign_targets(planned, lowest, measure=request.of, mildest=request.first, seed=seed)
    assigned = tuple(replace(sample, requested=target) for sample, target in zip(samples, targets, strict=True))
    return replace(task, batch=replace(task.batch, samples=assigned)), lowest, resampled


def _distorted(
    task: BatchTask,
    composite: CompositeGenerator,
    lowest: Sequence[float] | None,
    significances: Significances | None,
) -> Iterator[tuple[Image, Image, float]]:
    """Write the batch's pixels and yield (pristine, distorted, severity) of each sample; whole images singly.

    A thread of the network prefetches: one inference batch is measured here while the next is distorted.
    """
    group, samples = create_group(task.work), task.batch.samples
    column = distorted_array(task.batch.condition.name)
    if task.whole_images:
        images = prefetch(_whole_images(task, composite, group, lowest), 1, name="network")
        for sample, (clean, image, severity) in zip(samples, images, strict=True):
            write_image(task.work, image_array(column, sample.slot), image)
            yield clean, image, severity
        return
    pristine = _read_tiles(group[PRISTINE], _numbers(task))
    batches = _inference_batches(task, composite, pristine, samples, lowest, significances)
    distorted = np.empty_like(pristine)
    first = 0
    for batch, severities in prefetch(batches, PREFETCHED_BATCHES, name="network"):
        rows = slice(first, first + len(batch))
        distorted[rows] = batch
        yield from zip(pristine[rows], distorted[rows], severities, strict=True)
        first = rows.stop
    write_samples(task.work, group[column], samples[0].slot, distorted)


def _inference_batches(
    task: BatchTask,
    composite: CompositeGenerator,
    pristine: Images,
    samples: Sequence[PlannedSample],
    lowest: Sequence[float] | None,
    significances: Significances | None,
) -> Iterator[tuple[Images, list[float]]]:
    """Yield distorted images and their severities, inference batch by inference batch."""
    seeds, requested = [sample.seed for sample in samples], [sample.requested for sample in samples]
    measure = task.batch.condition.request.of
    if measure != SEVERITY:
        search_size = 1 if task.whole_images else SEARCH_BATCHES * task.inference_batch_size
        yield from distort_to_targets(
            composite, pristine, seeds, requested, significances, measure=measure, batch_size=search_size, lowest=lowest
        )
        return
    start = 0
    for batch in composite.distort_batches(pristine, seeds, requested, significances):
        yield batch, requested[start : start + len(batch)]
        start += len(batch)


def _whole_images(
    task: BatchTask, composite: CompositeGenerator, group: Any, lowest: Sequence[float] | None
) -> Iterator[tuple[Image, Image, float]]:
    """Yield (pristine, distorted, severity) of whole images."""
    for index, sample in enumerate(task.batch.samples):
        pristine = _whole_image(task, group, index)
        image_lowest = None if lowest is None else [lowest[index]]
        ((distorted, severities),) = _inference_batches(task, composite, pristine, [sample], image_lowest, None)
        yield pristine[0], distorted[0], severities[0]


def _whole_image(task: BatchTask, group: Any, index: int) -> Images:
    """Return the pristine image of a sample, (1, H, W, 3)."""
    return np.asarray(group[image_array(PRISTINE, task.tiles[index].number)][:])[None]


def _significances(task: BatchTask, truths: Mapping[int, Truth]) -> Significances | None:
    """Return the significance (N, 18) of the images of the batch's tiles; None if not stored."""
    rows = []
    for tile in task.tiles:
        shard = truths[_shard_of(task, tile)].significances
        if shard is None:
            return None
        rows.append(shard[tile.number % task.tiles_per_shard])
    return np.stack(rows)


def _numbers(task: BatchTask) -> list[int]:
    return [tile.number for tile in task.tiles]


def _read_tiles(array: Any, numbers: Sequence[int]) -> Images:
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return np.asarray(array[numbers[0] : numbers[0] + len(numbers)])
    tiles = {number: np.asarray(array[number]) for number in sorted(set(numbers))}  # wrapped around to the first tile
    return np.stack([tiles[number] for number in numbers])


def _shard_of(task: BatchTask, tile: ReferenceTile) -> int:
    return tile.number // task.tiles_per_shard


def _examples(task: BatchTask, truths: Mapping[int, Truth]) -> dict[int, Image | None]:
    """Return the indices of the samples in the side-by-side, each with its true image, or None if unknown."""
    if not task.batch.condition.fixed_severity:  # the true images follow later, at the severities of the samples
        return dict.fromkeys(rows_to_show(task.tiles, task.truth_images))
    examples: dict[int, Image | None] = {}
    examples.update(true_examples(truths, _numbers(task), task.batch.condition.name))
    return examples or dict.fromkeys(range(min(EXAMPLES, len(task.tiles))))


def _record(
    task: BatchTask, composite: CompositeGenerator, index: int, severity: float, pristine: Image, distorted: Image
) -> SampleRecord:
    sample, reference, condition = task.batch.samples[index], task.tiles[index], task.batch.condition
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
        parameters=canonical(composite_parameters(composite.cards, severity)),
        target=None if condition.request.of == SEVERITY else sample.requested,
        draw=sample.draw,
        seed=sample.seed,
        model=composite.digest,
        precision=task.precision,
        pixel_digest=pixel_digest([distorted]),
        clipped=_newly_clipped(pristine, distorted),
        **measured_labels(pristine, distorted, task.metrics),
    )


def _newly_clipped(pristine: Image, distorted: Image) -> float:
    """Return the fraction of values at a limit of the range, except values at the limit in the pristine tile."""
    newly = sum(np.count_nonzero((distorted == limit) & (pristine != limit)) for limit in LIMITS)
    return newly / distorted.size


def _sample_truth(
    task: BatchTask, composite: CompositeGenerator, severities: Sequence[float]
) -> tuple[TruthStats, dict[int, Image], dict[str, str]]:
    """Write the truth file of the batch; return its measures, its example images by index, and its digest."""
    specs = [
        [
            DistortionSpec(name, card.distortion, 0, card.true_parameters(severity))
            for name, card in composite.cards.items()
        ]
        for severity in severities
    ]
    name = task.batch.condition.distortion
    arrays = sample_truth(name, task.tiles, specs, root=task.root, images=task.truth_images, seed=task.seed)
    write_truth_arrays(task.work, task.batch.name, arrays)
    truth = truth_of(arrays)
    examples = dict(zip(truth.example_rows.tolist(), truth.examples[name], strict=True))
    measures = TruthStats(truth.rows, truth.histograms, truth.psnr, truth.ssim)
    return measures, examples, {"truth": arrays_digest(arrays)}


def _report(task: BatchTask, composite: CompositeGenerator, measures: BatchMeasures, resampled: int) -> dict[str, Any]:
    severities = {record.severity for record in measures.records}
    stored = []
    for name, generator in composite.generators.items():
        learned = _stored_histograms(task.models[name], generator.digest)
        stored.append([learned[index] for index in generator.card.levels_near(severities)])
    external = any(generator.card.external for generator in composite.generators.values())
    report = batch_report(measures, stored, external=external, seed=task.seed)
    request = task.batch.condition.request
    if request.of == SEVERITY:
        return report
    return {**report, "target": target_report(measures.records, request.of, resampled)}


def _side_by_side(examples: Sequence[tuple[Image, Image, Image | None]]) -> Image:
    """Return pristine, generated and true images of the examples, if all are known, and residuals side by side."""
    if any(true is None for _, _, true in examples):
        columns = ["pristine", "generated", "generated residual x4"]
        return side_by_side(
            [[clean, generated, amplified_residual(clean, generated)] for clean, generated, _ in examples], columns
        )
    rows = [
        [clean, generated, true, amplified_residual(clean, generated), amplified_residual(clean, true)]
        for clean, generated, true in examples
        if true is not None
    ]
    return side_by_side(rows, ["pristine", "generated", "true", "generated residual x4", "true residual x4"])


@lru_cache(maxsize=8)  # by digest too: a later training may overwrite the folder
def _stored_histograms(model: Path, weights_digest: str) -> tuple[ValidationHistograms, ...]:  # noqa: ARG001
    return read_histograms(model)
