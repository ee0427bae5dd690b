"""A metric of pyiqa on one batch of a corpus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.pixels import Image
from distort_pipeline.stores.corpora import PRISTINE, distorted_array, open_corpus
from distort_pipeline.stores.labels import MeasuredValue, write_values

METRIC_BATCH_SIZE = 8  # images of one size
WHITE = 255.0


@dataclass(frozen=True)
class Metric:
    """A metric of pyiqa, loaded."""

    lower_better: bool
    full_reference: bool
    measure: Callable[..., Any]


@dataclass(frozen=True)
class MetricTask:
    """The task of one batch."""

    corpus: Path
    work: Path
    metric: str
    batch: str
    threads: int


@lru_cache(maxsize=1)  # once a worker
def load_metric(name: str, threads: int) -> Metric:
    """Return the metric of pyiqa named `name`; PipelineError if unknown, or without weights on this machine."""
    try:
        with redirect_stdout(StringIO()):
            import pyiqa
            import torch
    except ImportError as error:
        raise PipelineError(
            f"--metric needs pyiqa, which cannot be imported ({error}): pip install '.[consumers]' in a clone of "
            "distort-pipeline"
        ) from None
    torch.set_num_threads(threads)
    known = [*pyiqa.list_models("FR"), *pyiqa.list_models("NR")]
    if name not in known:
        raise PipelineError(f"--metric: pyiqa has no metric {name!r}{did_you_mean(name, known)}")
    try:
        with redirect_stdout(StringIO()):
            metric = pyiqa.create_metric(name, device="cpu")
    except OSError as error:  # of a download or a file
        raise PipelineError(
            f"the weights of {name} are not on this machine and could not be downloaded ({error}); "
            "create the metric once on a machine with a network, and copy the cache folders of pyiqa and torch"
        ) from None
    return Metric(bool(metric.lower_better), metric.metric_mode == "FR", metric)


def measure_batch(task: MetricTask) -> str:
    """Measure one batch, write its values and the entry of the ledger. Return its name."""
    metric = load_metric(task.metric, task.threads)
    corpus = open_corpus(task.corpus)
    records = corpus.batch_records(task.batch)
    distorted = corpus.images(distorted_array(corpus.condition_of(records[0])), [record.slot for record in records])
    pristine = corpus.images(PRISTINE, [record.tile for record in records])
    values: list[float] = []
    for pairs in _groups(zip(distorted, pristine, strict=True)):
        values += _measured(metric, task.metric, pairs)
    measured_values = [
        MeasuredValue(record.sample, value if math.isfinite(value) else None)
        for record, value in zip(records, values, strict=True)
    ]
    write_values(task.work, task.batch, measured_values, MeasuredValue)
    return task.batch


def _groups(pairs: Iterator[tuple[Image, Image]]) -> Iterator[list[tuple[Image, Image]]]:
    """Yield up to METRIC_BATCH_SIZE consecutive pairs of one size at a time."""
    for _, same in groupby(pairs, key=lambda pair: pair[0].shape):
        group: list[tuple[Image, Image]] = []
        for pair in same:
            group.append(pair)
            if len(group) == METRIC_BATCH_SIZE:
                yield group
                group = []
        if group:
            yield group


def _measured(metric: Metric, name: str, pairs: Sequence[tuple[Image, Image]]) -> list[float]:
    distorted, pristine = (_tensor(images) for images in zip(*pairs, strict=True))
    try:
        scores = metric.measure(distorted, pristine) if metric.full_reference else metric.measure(distorted)
        values: NDArray[np.float64] = scores.detach().double().cpu().numpy().reshape(-1)
    except (RuntimeError, ValueError, AssertionError) as error:  # an image too small, for example
        height, width = pairs[0][0].shape[:2]
        raise PipelineError(f"--metric {name} does not accept images of {width} x {height} px: {error}") from None
    if len(values) != len(pairs):
        raise PipelineError(f"--metric {name} does not return a number for each image and cannot be a label")
    return [float(value) for value in values]


def _tensor(images: Sequence[Image]) -> Any:
    import torch

    stacked = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(WHITE)
    return torch.from_numpy(np.ascontiguousarray(stacked))
