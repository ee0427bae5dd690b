"""One batch of a corpus: its tiles are read, distorted, scored, compared with the truth, and written."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.conditions import Condition, Distorted
from distort_pipeline.data.corpora import distorted_array
from distort_pipeline.data.corpus_pixels import ShardWriter, StoredTiles, middle
from distort_pipeline.data.leases import LedgerEntry
from distort_pipeline.data.plans import Batch, PlannedSample
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.models.store import CompositeGenerator, load_composite, validation_histograms
from distort_pipeline.process import prefetch
from distort_pipeline.records import Image, SampleRecord, canonical, derive_seed, digest
from distort_pipeline.reports.batch import (
    BatchMeasures,
    TileScore,
    batch_report,
    score_tile,
    target_agreement,
    write_batch_report,
)
from distort_pipeline.steps.truth import SharedTruth, cut_tile, judged_rows, own_truth, rows_to_show

SEARCH_BATCHES = 4  # inference batches per search: images at their target leave the later evaluations
PREFETCHED_BATCHES = 2  # of the network, ahead of the statistics


@dataclass(frozen=True)
class BatchTask:
    """The task of one batch."""

    work: Path
    root: Path  # of the images
    models: Mapping[str, Path]  # of the batch's condition, in the order of application
    batch: Batch
    conditions: tuple[Condition, ...]  # of the corpus
    config: GenerateConfig
    threads: int


def make_batch(task: BatchTask) -> LedgerEntry:
    """Write one batch: pixels, records, report, side-by-side, then the entry of the ledger. Return the entry.

    The network works in a thread of its own: one inference batch is scored here while the next is distorted.
    """
    work, root, batch, config = task.work, task.root, task.batch, task.config
    condition, whole_images = batch.condition, config.whole_images
    batch_size = 1 if whole_images else config.inference_batch_size
    generator = load_composite(task.models, batch_size=batch_size, precision=config.precision, threads=task.threads)
    generator.set_sources(batch.samples, root, seed=config.seed)
    shared = SharedTruth(work, batch.samples, config.samples_per_shard)

    group_size = 1 if whole_images else SEARCH_BATCHES * batch_size
    tiles = StoredTiles(
        work, batch.samples, group_size=group_size, significances=shared.significances, whole_images=whole_images
    )
    parts = condition.request.distort(generator, tiles, seed=derive_seed(config.seed, "targets", batch.name))
    ahead = prefetch(parts, 1 if whole_images else PREFETCHED_BATCHES, name="network")
    slots = [sample.slot for sample in batch.samples]
    shard = ShardWriter(work, batch.name, distorted_array(condition.name), slots, whole_images=whole_images)
    rows = (shared.rows if condition.fixed_severity else []) or judged_rows(batch, config.truth_images)
    shown = shared.examples(condition) if condition.fixed_severity else rows_to_show(batch, rows)
    samples = score(ahead, shard, metrics=config.metrics, shown=shown, judged=rows, external=generator.external)
    severities = [sample.severity for sample in samples]

    if condition.fixed_severity:
        truth = shared.truth(condition, task.conditions)
    else:
        specs = [generator.true_distortions(severity) for severity in severities]
        truth = own_truth(batch, rows, specs, work=work, root=root, seed=config.seed)
    records = sample_records(batch, samples, generator, precision=config.precision)
    scores = [sample.score for sample in samples]
    report = batch_report(
        BatchMeasures.of(records, scores, judged=rows, pristine=shared.pristine, truth=truth.stats),
        None if truth.stats.true else validation_histograms(task.models, generator, severities),
        external=generator.external,
        seed=config.seed,
        target=target_agreement(
            records,
            condition.request.of,
            [sample.resampled for sample in samples],
            highest_severity=generator.highest_severity,
        ),
    )

    examples = [(*crops, truth.examples.get(row)) for row in shown if (crops := samples[row].crops)]
    files = write_batch_report(work, batch.name, report, examples)
    fields = {"samples": len(records), "report": digest(report.to_json()), "accepted": report.accepted}
    if truth.file:
        fields["truth"] = truth.digest
    entry = shard.finish(records, [*files, *([truth.file] if truth.file else [])], **fields)
    trim_heap()
    return entry


def seconds_per_sample(models: Mapping[str, Path], sample: PlannedSample, root: Path, config: GenerateConfig) -> float:
    """Return the seconds that `sample` takes to be distorted and scored, after a first time that warms up."""
    size = 1 if config.whole_images else config.inference_batch_size
    generator = load_composite(models, batch_size=size, precision=config.precision)
    generator.set_sources([sample], root, seed=config.seed)
    tile = np.stack([cut_tile(read_ingested(root, sample.tile.image), sample.tile)] * size)
    for _ in range(2):
        started = time.monotonic()
        for part in generator.distort_batches(tile, [sample.seed] * size, [generator.highest_severity] * size):
            for distorted in part:
                score_tile(tile[0], distorted, config.metrics)
    return (time.monotonic() - started) / size


@dataclass(frozen=True)
class ScoredSample:
    """One distorted tile with its measures."""

    severity: float
    target: float | None
    resampled: bool  # whether the target was drawn again
    pixel_digest: str
    score: TileScore
    crops: tuple[Image, Image] | None  # pristine and distorted, of the samples to show


def score(
    parts: Iterable[Distorted],
    shard: ShardWriter,
    *,
    metrics: Collection[str],
    shown: Collection[int],
    judged: Collection[int],
    external: bool,
) -> list[ScoredSample]:
    """Return the measures of the samples in `parts`, in order; their pixels are written."""
    samples: list[ScoredSample] = []
    for part in parts:
        for index, (pristine, distorted) in enumerate(zip(part.pristine, part.distorted, strict=True)):
            row = len(samples)
            samples.append(
                ScoredSample(
                    severity=part.severities[index],
                    target=part.targets[index],
                    resampled=part.resampled[index],
                    pixel_digest=shard.add(distorted),
                    score=score_tile(pristine, distorted, metrics, judged=row in judged, external=external),
                    crops=(middle(pristine).copy(), middle(distorted).copy()) if row in shown else None,
                )
            )
    return samples


def sample_records(
    batch: Batch, scored: Sequence[ScoredSample], generator: CompositeGenerator, *, precision: str
) -> list[SampleRecord]:
    """Return the record of each sample of a batch."""
    return [
        SampleRecord(
            sample=sample.sample,
            distortion=batch.condition.distortion,
            batch=batch.number,
            slot=sample.slot,
            tile=sample.tile.number,
            image=sample.tile.image.id,
            split=sample.tile.image.split,
            y=sample.tile.tile.y,
            x=sample.tile.tile.x,
            height=sample.tile.tile.height,
            width=sample.tile.tile.width,
            level=batch.condition.level,
            severity=measured.severity,
            parameters=canonical(generator.true_parameters(measured.severity)),
            target=measured.target,
            draw=sample.draw,
            seed=sample.seed,
            model=generator.digest,
            precision=precision,
            pixel_digest=measured.pixel_digest,
            clipped=measured.score.clipped,
            **measured.score.labels,
        )
        for sample, measured in zip(batch.samples, scored, strict=True)
    ]


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
