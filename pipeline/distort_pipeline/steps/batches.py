"""One batch of a corpus: its tiles are read, distorted, scored, compared with the truth, and written."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.arrays import pixel_digest, write_table
from distort_pipeline.data.conditions import Condition, Distorted
from distort_pipeline.data.corpora import distorted_array
from distort_pipeline.data.corpus_metadata import BatchReport
from distort_pipeline.data.corpus_pixels import PixelWriter, StoredTiles, middle
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import marked_png
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.plans import Batch, PlannedSample
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.metrics.acceptance import TileStatistics, content_statistics, tile_statistics
from distort_pipeline.metrics.full_reference import measured_labels
from distort_pipeline.metrics.jsd_nss import nss_histograms, product_histogram
from distort_pipeline.models.store import CompositeGenerator, load_composite, validation_histograms
from distort_pipeline.process import prefetch
from distort_pipeline.records import Image, SampleRecord, canonical, derive_seed, digest, digest_rows
from distort_pipeline.reports.batch import BatchMeasures, batch_report, target_agreement
from distort_pipeline.reports.pages import amplified_residual, side_by_side
from distort_pipeline.steps.truth import BatchTruth, SharedTruth, cut_tile, judged_rows, own_truth, rows_to_show

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
    pixels = PixelWriter(work, distorted_array(condition.name), slots, whole_images=whole_images)
    rows = (shared.rows if condition.fixed_severity else []) or judged_rows(batch, config.truth_images)
    shown = shared.examples(condition) if condition.fixed_severity else rows_to_show(batch, rows)
    scores = score(ahead, pixels, metrics=config.metrics, shown=shown, judged=rows, external=generator.external)
    severities = [sample.severity for sample in scores]

    if condition.fixed_severity:
        truth = shared.truth(condition, task.conditions)
    else:
        specs = [generator.true_distortions(severity) for severity in severities]
        truth = own_truth(batch, rows, specs, work=work, root=root, seed=config.seed)
    records = sample_records(batch, scores, generator, precision=config.precision)
    histograms = np.stack([sample.histogram for sample in scores])
    judged = TileStatistics.stacked([statistics for sample in scores if (statistics := sample.statistics)])
    content = [sample.content for sample in scores if sample.content is not None]
    measures = BatchMeasures(records, histograms, shared.pristine, rows, judged, content, truth.stats)
    report = batch_report(
        measures,
        None if truth.stats.true else validation_histograms(task.models, generator, severities),
        external=generator.external,
        seed=config.seed,
        target=target_agreement(
            records,
            condition.request.of,
            [sample.resampled for sample in scores],
            highest_severity=generator.highest_severity,
        ),
    )
    examples = [(*crops, truth.examples.get(row)) for row in shown if (crops := scores[row].crops)]
    png = marked_png(compare_examples(examples))
    return write_batch(batch.name, pixels, records, report=report, png=png, truth=truth)


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
                measured_labels(tile[0], distorted, config.metrics)
                product_histogram(distorted)
    return (time.monotonic() - started) / size


@dataclass(frozen=True)
class Score:
    """The measures of one distorted tile."""

    severity: float
    target: float | None
    resampled: bool  # whether the target was drawn again
    pixel_digest: str
    clipped: float  # fraction of values at 0 or 255 that are not so in the pristine tile
    labels: Mapping[str, float | None]  # full-reference metrics
    histogram: NDArray[np.int64]  # (103,)
    statistics: TileStatistics | None  # of the samples to judge
    content: NDArray[np.float64] | None  # of their pristine tiles, where these have no truth
    crops: tuple[Image, Image] | None  # pristine and distorted, of the samples to show


def score(
    parts: Iterable[Distorted],
    pixels: PixelWriter,
    *,
    metrics: Collection[str],
    shown: Collection[int],
    judged: Collection[int],
    external: bool,
) -> list[Score]:
    """Return the measures of the samples in `parts`, in order; their pixels are written."""
    scores: list[Score] = []
    for part in parts:
        for index, (pristine, distorted) in enumerate(zip(part.pristine, part.distorted, strict=True)):
            pixels.add(distorted)
            newly_clipped = sum(np.count_nonzero((distorted == at) & (pristine != at)) for at in LIMITS)
            labels = measured_labels(pristine, distorted, metrics)
            statistics = None
            if len(scores) in judged:
                values = tile_statistics(pristine, distorted, ssim_value=labels["ssim"])
                statistics = TileStatistics(values[None], nss_histograms(distorted)[None])
            scores.append(
                Score(
                    severity=part.severities[index],
                    target=part.targets[index],
                    resampled=part.resampled[index],
                    pixel_digest=pixel_digest([distorted]),
                    clipped=newly_clipped / distorted.size,
                    labels=labels,
                    histogram=statistics.jsd_nss[0] if statistics else product_histogram(distorted),
                    statistics=statistics,
                    content=content_statistics(pristine) if statistics and external else None,
                    crops=(middle(pristine).copy(), middle(distorted).copy()) if len(scores) in shown else None,
                )
            )
    return scores


def sample_records(
    batch: Batch, scores: Sequence[Score], generator: CompositeGenerator, *, precision: str
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
            clipped=measured.clipped,
            **measured.labels,
        )
        for sample, measured in zip(batch.samples, scores, strict=True)
    ]


def compare_examples(examples: Sequence[tuple[Image, Image, Image | None]]) -> Image:
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


def write_batch(
    name: str,
    pixels: PixelWriter,
    records: Sequence[SampleRecord],
    *,
    report: BatchReport,
    png: bytes,
    truth: BatchTruth,
) -> LedgerEntry:
    """Write the rest of a batch, then the entry of the ledger; return the entry."""
    table, report_path, png_path = (
        pixels.work / path.format(name) for path in ("records/{}.parquet", "reports/{}.json", "reports/{}.png")
    )
    pixels_digest, pixel_files = pixels.close()
    write_table(table, records, SampleRecord)
    report.save(report_path)
    write_bytes(png_path, png)
    fields = {
        "samples": len(records),
        "pixels": pixels_digest,
        "records": digest_rows(records),
        "report": digest(report.to_json()),
        **({"truth": truth.digest} if truth.file else {}),
        "accepted": report.accepted,
    }
    files = [*pixel_files, table, report_path, png_path, *([truth.file] if truth.file else [])]
    entry = Ledger(pixels.work).note(name, fields, files)
    trim_heap()
    return entry


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
