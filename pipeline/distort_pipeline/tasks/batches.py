"""One batch of a corpus: read its tiles, distort them, measure them, write them, report on them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.backend import pin_backend_threads
from distort_pipeline.planning.corpora import Batch, ReferenceTile
from distort_pipeline.ranges import Picture
from distort_pipeline.records import SampleRecord, digest, digest_rows
from distort_pipeline.reports.batch import BatchMeasures, TruthMeasures, batch_report
from distort_pipeline.reports.strips import amplified_residual, png_bytes, strip
from distort_pipeline.statistics.full_reference import psnr, ssim
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.stores.arrays import create_group, pixel_digest, write_picture
from distort_pipeline.stores.corpora import PRISTINE, distorted_array, picture_array
from distort_pipeline.stores.files import Ledger, write_bytes, write_json
from distort_pipeline.stores.models import ValidationHistograms, read_histograms
from distort_pipeline.stores.tables import write_table
from distort_pipeline.tasks.reference_tiles import Truth, middle, read_truth
from distort_pipeline.trained import TrainedGenerator, load_generator

LIMITS = (0, 255)


@dataclass(frozen=True)
class BatchTask:
    """All that a worker needs to make one batch."""

    work: Path
    model: Path
    batch: Batch
    tiles: tuple[ReferenceTile, ...]  # of the batch's samples, in their order
    tiles_per_shard: int
    network_batch: int
    precision: str
    labels: tuple[str, ...]
    whole_pictures: bool
    seed: int
    threads: int


def make_batch(task: BatchTask) -> dict[str, Any]:
    """Make one batch: pixels, records, report, strip, then its line in the ledger. Return that line."""
    pin_backend_threads(task.threads)
    model = load_generator(task.model, batch=1 if task.whole_pictures else task.network_batch, precision=task.precision)
    group = create_group(task.work)
    pristine = _read_tiles(group, task)
    seeds = [sample.seed for sample in task.batch.samples]
    distorted = _distort(model, pristine, seeds, task.whole_pictures)
    _write_samples(group, task, distorted)
    records = _records(task, model, pristine, distorted)
    write_table(task.work / "records" / f"{task.batch.name}.parquet", records, SampleRecord)
    report, strip_rows = _report(task, model, records, pristine, distorted)
    write_json(task.work / "reports" / f"{task.batch.name}.json", report)
    write_bytes(task.work / "reports" / f"{task.batch.name}.png", strip_rows)
    entry = {
        "shard": task.batch.name,
        "samples": len(records),
        "pixels": pixel_digest(distorted),
        "records": digest_rows(records),
        "report": digest(report),
        "within_bounds": report["within_bounds"],
    }
    # the strip is for people and drawn with whatever fonts there are: outside the digest, but damage to it shows
    entry = {**entry, "digest": digest(entry), "strip": hashlib.sha256(strip_rows).hexdigest()}
    Ledger(task.work).note(task.batch.name, entry)
    return entry


def _read_tiles(group: Any, task: BatchTask) -> list[Picture]:
    numbers = [tile.number for tile in task.tiles]
    if task.whole_pictures:
        return [np.asarray(group[picture_array(PRISTINE, number)][:]) for number in numbers]
    array = group[PRISTINE]
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return list(np.asarray(array[numbers[0] : numbers[0] + len(numbers)]))
    unique = sorted(set(numbers))  # a batch that starts again at the first tile
    found = {number: np.asarray(array[number]) for number in unique}
    return [found[number] for number in numbers]


def _distort(
    model: TrainedGenerator, pristine: Sequence[Picture], seeds: Sequence[int], whole_pictures: bool
) -> list[Picture]:
    if whole_pictures:
        return [model.forward.distort_picture(picture, seed) for picture, seed in zip(pristine, seeds, strict=True)]
    return list(model.forward.distort(np.stack(pristine), seeds))


def _write_samples(group: Any, task: BatchTask, distorted: Sequence[Picture]) -> None:
    column = distorted_array(task.batch.distortion)
    samples = task.batch.samples
    if task.whole_pictures:
        for sample, picture in zip(samples, distorted, strict=True):
            write_picture(group, picture_array(column, sample.slot), picture)
    else:
        group[column][samples[0].slot : samples[0].slot + len(samples)] = np.stack(distorted)


def _records(
    task: BatchTask, model: TrainedGenerator, pristine: Sequence[Picture], distorted: Sequence[Picture]
) -> list[SampleRecord]:
    return [
        SampleRecord(
            sample=sample.sample,
            distortion=task.batch.distortion,
            batch=task.batch.number,
            slot=sample.slot,
            tile=sample.tile,
            picture=reference.picture.id,
            split=reference.picture.split,
            y=reference.tile.y,
            x=reference.tile.x,
            height=reference.tile.height,
            width=reference.tile.width,
            level=model.card["level"],
            draw=sample.draw,
            seed=sample.seed,
            model=model.digest,
            precision=task.precision,
            pixel_digest=pixel_digest([made]),
            psnr=_finite_or_none(psnr(clean, made)) if "psnr" in task.labels else None,
            ssim=ssim(clean, made) if "ssim" in task.labels else None,
            clipped=_newly_clipped(clean, made),
        )
        for sample, reference, clean, made in zip(task.batch.samples, task.tiles, pristine, distorted, strict=True)
    ]


def _newly_clipped(pristine: Picture, distorted: Picture) -> float:
    """Return the fraction of values that stand at a limit of the range and did not in the pristine tile."""
    newly = sum(np.count_nonzero((distorted == limit) & (pristine != limit)) for limit in LIMITS)
    return newly / distorted.size


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _report(
    task: BatchTask,
    model: TrainedGenerator,
    records: Sequence[SampleRecord],
    pristine: Sequence[Picture],
    distorted: Sequence[Picture],
) -> tuple[dict[str, Any], bytes]:
    """Return the report of the batch and its strip as PNG."""
    histograms = np.stack([product_histogram(tile) for tile in distorted])
    numbers = [tile.number for tile in task.tiles]
    truths = {shard: read_truth(task.work, shard) for shard in sorted({n // task.tiles_per_shard for n in numbers})}
    measures = BatchMeasures(
        records=records,
        generated=histograms,
        pristine=np.stack([truths[n // task.tiles_per_shard].pristine[n % task.tiles_per_shard] for n in numbers]),
        truth=_truth_measures(truths, numbers, task.tiles_per_shard),
    )
    stored = _stored_histograms(task.model, model.digest)
    report = batch_report(measures, model.card, stored, batch=task.batch.number, seed=task.seed)
    return report, png_bytes(_strip(task, truths, numbers, pristine, distorted))


def _truth_measures(truths: dict[int, Truth], numbers: Sequence[int], per_shard: int) -> TruthMeasures:
    """Return the true distortions' measures of those samples of the batch whose tiles have them."""
    places, found = [], []
    for place, number in enumerate(numbers):
        truth = truths[number // per_shard]
        position = int(np.searchsorted(truth.rows, number % per_shard))
        if position < len(truth.rows) and truth.rows[position] == number % per_shard:
            places.append(place)
            found.append((truth, position))
    names = list(found[0][0].histograms) if found else []
    return TruthMeasures(
        places=np.array(places, np.int64),
        histograms={name: np.stack([truth.histograms[name][row] for truth, row in found]) for name in names},
        psnr={name: np.array([truth.psnr[name][row] for truth, row in found]) for name in names},
        ssim={name: np.array([truth.ssim[name][row] for truth, row in found]) for name in names},
    )


def _strip(
    task: BatchTask,
    truths: dict[int, Truth],
    numbers: Sequence[int],
    pristine: Sequence[Picture],
    distorted: Sequence[Picture],
) -> Picture:
    """Return pristine, generated, true and residuals of the batch's examples side by side."""
    own = task.batch.distortion
    rows = []
    for truth in truths.values():
        for place_in_examples, row in enumerate(truth.example_rows):
            number = truth.first_tile + int(row)
            if number not in numbers or own not in truth.examples:
                continue
            place = numbers.index(number)
            clean, made, true = (
                middle(pristine[place]),
                middle(distorted[place]),
                truth.examples[own][place_in_examples],
            )
            rows.append([clean, made, true, amplified_residual(clean, made), amplified_residual(clean, true)])
    if rows:
        return strip(rows, ["pristine", "generated", "true", "generated residual x4", "true residual x4"])
    examples = [(middle(clean), middle(made)) for clean, made in zip(pristine[:2], distorted[:2], strict=True)]
    return strip(
        [[clean, made, amplified_residual(clean, made)] for clean, made in examples],
        ["pristine", "generated", "generated residual x4"],
    )


@lru_cache(maxsize=8)  # by digest too: another training may have put another model in the same folder
def _stored_histograms(model: Path, weights_digest: str) -> ValidationHistograms:  # noqa: ARG001
    return read_histograms(model)
