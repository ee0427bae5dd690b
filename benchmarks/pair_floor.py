"""The codec floor of pairs: each image read once and distorted by every recipe, without storing.

In a bare process pool, with the seeds and parameters of the step, the largest images first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.pairs import Recipe
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import Distorted, apply
from distort_pipeline.execution import pin_threads
from distort_pipeline.records import Image, ImageRecord, make_rng, sample_seed
from distort_pipeline.steps.pairs import recipes_of


@dataclass(frozen=True)
class ImageTask:
    """An image and its recipes."""

    root: Path
    record: ImageRecord
    recipes: tuple[Recipe, ...]
    seed: int


def image_tasks(manifest_path: Path, config: PairsConfig) -> list[ImageTask]:
    """Return a task for each image, the largest first."""
    manifest = read_manifest(manifest_path)
    tasks = [ImageTask(manifest.root, record, recipes_of(config, {}), config.seed) for record in manifest.records]
    return sorted(tasks, key=lambda task: -task.record.width * task.record.height)


def distort(task: ImageTask, recipe: Recipe, pristine: Image) -> Distorted:
    """Return the image of `task` under one recipe, drawn as the step draws it."""
    seed = sample_seed(task.seed, task.record.image_digest, recipe.distortion, recipe.level)
    return apply(recipe.distortion, pristine, recipe.parameters, make_rng(seed))


def distort_all(task: ImageTask) -> int:
    """Read one image and distort it by every recipe; return the number of bytes."""
    pin_threads(1)
    pristine = read_ingested(task.root, task.record)
    return sum(distort(task, recipe, pristine).image.nbytes for recipe in task.recipes)


def floor_seconds(manifest: Path, config: PairsConfig, workers: int) -> float:
    """Return the wall of all tasks in a pool whose processes have started and have imported the codecs."""
    tasks = image_tasks(manifest, config)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        _warm(pool, tasks[-1:] * workers)
        started = time.perf_counter()
        list(pool.map(distort_all, tasks))
        return time.perf_counter() - started


def _warm(pool: ProcessPoolExecutor, tasks: Sequence[ImageTask]) -> None:
    waiting: list[Future[int]] = [pool.submit(distort_all, task) for task in tasks]
    for future in waiting:
        future.result()
