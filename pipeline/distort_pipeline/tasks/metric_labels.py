"""One batch of a corpus, measured by a metric of pyiqa."""

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

AT_ONCE = 8  # images of one size that go through the metric together
WHITE = 255.0


@dataclass(frozen=True)
class Metric:
    """A metric of pyiqa, ready to be called."""

    lower_better: bool
    full_reference: bool
    measure: Callable[..., Any]


@dataclass(frozen=True)
class MetricTask:
    """All that a worker needs to measure one batch."""

    corpus: Path
    work: Path
    metric: str
    batch: str
    threads: int


@lru_cache(maxsize=1)  # once a worker
def load_metric(name: str, threads: int) -> Metric:
    """Return the metric of pyiqa called `name`; PipelineError if there is none, or its weights are not here."""
    try:
        with redirect_stdout(StringIO()):
            import pyiqa
            import torch
    except ImportError as error:
        raise PipelineError(
            f"--metric needs pyiqa, which cannot be imported ({error}): pip install 'distort-pipeline[consumers]'"
        ) from None
    torch.set_num_threads(threads)
    known = [*pyiqa.list_models("FR"), *pyiqa.list_models("NR")]
    if name not in known:
        raise PipelineError(f"pyiqa has no metric {name!r}{did_you_mean(name, known)}")
    try:
        with redirect_stdout(StringIO()):
            made = pyiqa.create_metric(name, device="cpu")
    except OSError as error:  # of a download or a file
        raise PipelineError(
            f"the weights of {name} are not on this machine and could not be fetched ({error}); "
            "create the metric once where there is a network, and bring pyiqa's and torch's cache folders"
        ) from None
    return Metric(bool(made.lower_better), made.metric_mode == "FR", made)


def measure_batch(task: MetricTask) -> str:
    """Measure one batch, write its values and their line in the ledger. Return its name."""
    metric = load_metric(task.metric, task.threads)
    corpus = open_corpus(task.corpus)
    records = corpus.batch_records(task.batch)
    distorted = corpus.images(distorted_array(corpus.condition_of(records[0])), [record.slot for record in records])
    pristine = corpus.images(PRISTINE, [record.tile for record in records])
    values: list[float] = []
    for some in _groups(zip(distorted, pristine, strict=True)):
        values += _measured(metric, task.metric, some)
    found = [
        MeasuredValue(record.sample, value if math.isfinite(value) else None)
        for record, value in zip(records, values, strict=True)
    ]
    write_values(task.work, task.batch, found, MeasuredValue)
    return task.batch


def _groups(pairs: Iterator[tuple[Image, Image]]) -> Iterator[list[tuple[Image, Image]]]:
    """Yield up to AT_ONCE consecutive pairs of one size at a time."""
    for _, same in groupby(pairs, key=lambda pair: pair[0].shape):
        some: list[tuple[Image, Image]] = []
        for pair in same:
            some.append(pair)
            if len(some) == AT_ONCE:
                yield some
                some = []
        if some:
            yield some


def _measured(metric: Metric, name: str, pairs: Sequence[tuple[Image, Image]]) -> list[float]:
    distorted, pristine = (_tensor(images) for images in zip(*pairs, strict=True))
    try:
        scores = metric.measure(distorted, pristine) if metric.full_reference else metric.measure(distorted)
        values: NDArray[np.float64] = scores.detach().double().cpu().numpy().reshape(-1)
    except (RuntimeError, ValueError, AssertionError) as error:  # an image too small for it, say
        height, width = pairs[0][0].shape[:2]
        raise PipelineError(f"{name} does not take images of {width} x {height} px: {error}") from None
    if len(values) != len(pairs):
        raise PipelineError(f"{name} does not give one number for each image, so it cannot be a label")
    return [float(value) for value in values]


def _tensor(images: Sequence[Image]) -> Any:
    import torch

    stacked = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(WHITE)
    return torch.from_numpy(np.ascontiguousarray(stacked))
