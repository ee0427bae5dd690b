"""The pairs step against the codec floor: the same reading and distorting in a bare process pool, nothing stored.

The floor decodes each picture once and applies every recipe to it, with the seeds and parameters of the step. The
step's wall is all of its run but the start of the cluster (stated), with the imports of its workers, and its end; the
floor's leaves out the same of its pool.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Figure, Options, Result, ratios, spread
from benchmarks.sample_store import make_manifest
from distort_pipeline import execution
from distort_pipeline.config import PairsConfig
from distort_pipeline.distortions import apply
from distort_pipeline.execution import Workers
from distort_pipeline.planning.pairs import Recipe
from distort_pipeline.records import PictureRecord
from distort_pipeline.seeds import generator, sample_seed
from distort_pipeline.steps import pairs as pairs_step
from distort_pipeline.stores.ingested import read_ingested
from distort_pipeline.stores.manifests import read_manifest
from distort_pipeline.versions import package_versions

BAR = 1.15
SCALING_BAR = 0.93
ROUNDS = 3


def measure(options: Options) -> Result:
    """Return the step's wall over the floor's with one and with two workers, and how both scale."""
    rounds = 1 if options.quick else ROUNDS
    walls: dict[tuple[str, int], list[float]] = {(form, n): [] for form in ("step", "floor") for n in (1, 2)}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        manifest = make_manifest(options.pictures, folder)
        count = len(read_manifest(manifest).records)
        config = PairsConfig(tiles_per_shard=16)
        for turn in range(rounds):
            for workers in (1, 2):
                walls["floor", workers].append(_floor(manifest, config, workers))
                wall, start = _step(manifest, config, folder / f"pairs-{turn}-{workers}", workers)
                walls["step", workers].append(wall)
                starts.append(start)
    scaling = [
        (one / two) / (floor_one / floor_two)
        for one, two, floor_one, floor_two in zip(
            *(walls[key] for key in (("step", 1), ("step", 2), ("floor", 1), ("floor", 2))), strict=True
        )
    ]
    figures = [
        Figure(
            f"wall of the step, {workers} worker{'s' * (workers > 1)}",
            "codec floor, bare process pool",
            ratios(walls["step", workers], walls["floor", workers]),
            bar=BAR,
            at_least=False,
            note=f"floor {sorted(walls['floor', workers])[rounds // 2]:.2f} s",
        )
        for workers in (1, 2)
    ]
    figures += [
        Figure("speed-up of two workers over one", "that of the bare pool", spread(scaling), bar=SCALING_BAR),
        Figure("start of the cluster (excluded above)", "–", spread(starts), "s"),
    ]
    return Result(
        f"four distortions at one level of {count} pictures, written, hashed and recorded",
        figures,
        [
            "Shards of 16 tiles (4 pictures) here, as the default of 64 would leave one of two workers idle at the "
            "end of so small a set.",
            "Profile of the step in one process on data/sample (2026-11-23): distorting 63 %, reading 6 %, Zarr's "
            "compression and writing 23 %, digests 3 %, records, ledger and fsync 3 %. These photographs have 0.26 MP, "
            "and their four tiles of 384², which overlap, 0.59 MP: more than twice the pixels are stored than are "
            "distorted. Photographs of a megapixel and more are to be measured with --pictures.",
        ],
        list(_peers()),
        package_versions(["dask", "zarr", "glymur", "opencv-python-headless"]),
    )


def distort_all(task: tuple[Path, PictureRecord, tuple[Recipe, ...], int]) -> int:
    """Read one picture and distort it by every recipe; return how many bytes came out."""
    root, record, recipes, seed = task
    execution.pin_threads(1)
    pristine = read_ingested(root, record)
    size = 0
    for recipe in recipes:
        own = sample_seed(seed, record.picture_digest, recipe.distortion, recipe.level)
        size += apply(recipe.distortion, pristine, recipe.parameters, generator(own)).picture.nbytes
    return size


def _floor(manifest_path: Path, config: PairsConfig, workers: int) -> float:
    manifest = read_manifest(manifest_path)
    recipes = pairs_step.recipes_of(config)
    tasks = [(manifest.root, record, recipes, config.seed) for record in manifest.records]
    tasks.sort(key=lambda task: -task[1].width * task[1].height)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        _warm(pool, tasks[-1:] * workers)
        started = time.perf_counter()
        list(pool.map(distort_all, tasks))
        return time.perf_counter() - started


def _warm(pool: ProcessPoolExecutor, tasks: Sequence[Any]) -> None:
    """Start every process of the pool and let it import the codecs."""
    waiting: list[Future[int]] = [pool.submit(distort_all, task) for task in tasks]
    for future in waiting:
        future.result()


def _step(manifest: Path, config: PairsConfig, out: Path, workers: int) -> tuple[float, float]:
    """Return wall seconds of the step without the start and the end of the cluster, and those of the start."""
    marks: dict[str, float] = {}
    true_client = execution._client

    def timed_client(settings: Workers, stack: ExitStack) -> Any:
        marks["start"] = time.perf_counter()
        stack.callback(lambda: marks.setdefault("closed", time.perf_counter()))  # a stack unwinds from its last
        client = true_client(settings, stack)
        # imports of a worker belong to its start, as they do in the pool
        list(execution._run_on(client, _import_codecs, range(4 * workers), 1))
        stack.callback(lambda: marks.setdefault("closing", time.perf_counter()))
        marks["started"] = time.perf_counter()
        return client

    began = time.perf_counter()
    with patch.object(execution, "_client", timed_client):
        pairs_step.run(config, manifest, out, workers=Workers(workers))
    start = marks["started"] - marks["start"]
    return time.perf_counter() - began - start - (marks["closed"] - marks["closing"]), start


def _import_codecs(number: int) -> int:
    import distort_pipeline.tasks.pair_shards  # noqa: F401
    from distort_pipeline.distortions import codec_versions

    codec_versions(("jpeg", "jp2k", "white_noise", "pink_noise"))
    return number


def _peers() -> Iterator[str]:
    for name in ("datasets", "litdata"):
        yield f"{name}: " + ("installed, and not written yet" if find_spec(name) else "not installed (bench extra)")
