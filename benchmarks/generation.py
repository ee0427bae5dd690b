"""Generation of one batch, end to end, against the bare forward pass and against the plain way of doing it.

End to end is the task of the generate step: read tiles, network, statistics, records, digests, report, write. The bare
pass is the same compiled network on the same tiles and seeds, 8-bit images in and out. The plain way is what a user
would write: `model.predict` on the usual Keras form in float32, PNG files by Pillow, statistics by SciPy in float64.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, Options, Result, interleaved, ratios, read_images, spread
from benchmarks.nss_statistics import plain_histogram
from benchmarks.random_models import write_model
from benchmarks.sample_store import make_manifest
from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import PRISTINE
from distort_pipeline.models.store import load_generator
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import package_versions
from distort_pipeline.steps import generate
from distort_pipeline.steps.batches import BatchTask, make_batch

BARS = {"off": 0.90, "on": 0.75}
PLAIN_BAR = 5.0
PLAIN_PART = 8
METRICS = {"off": (), "on": ("psnr", "ssim")}


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a network, number of tiles and rounds, and whether the bars apply."""

    filters: int
    tiles: int
    rounds: int
    barred: bool


class BatchWantedError(Exception):
    """Stops the generate step where it would make its first batch, and carries the task."""

    def __init__(self, task: BatchTask) -> None:
        super().__init__(task.batch.name)
        self.task = task


def measure(options: Options) -> Result:
    """Return end to end against both, in float32 and in bfloat16, for small and full-size networks."""
    pin_backend_threads(1)
    sizes = [Size(4, 16, 1, False)] if options.quick else [Size(16, 256, 5, False), Size(64, 128, 3, True)]
    figures: list[Figure] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            figures += _size(options, size, Path(folder))
    return Result(
        "one batch of 256² tiles, one process, one thread of the network",
        figures,
        [
            "Weights are random: they cost what trained ones cost. No noise maps, as for JPEG.",
            "The bars are written for the full-size network in mixed_bfloat16; a small network leaves less time for "
            "all else, so its shares are lower.",
            "The network works in a thread of its own, one or two parts of 16 tiles ahead of the statistics: on a core "
            "that is free the rest is hidden behind it. With as many workers as cores it is not; growth.py tells what "
            "two workers do, and all four models. On A, with AMX and nothing beside it, the full size in "
            "mixed_bfloat16 had 0.96 (0.93 – 1.01) of the bare pass without metrics, 0.87 (0.83 – 0.91) with them, and "
            "11.3 times (11.1 – 11.7) the speed of the plain way (2026-11-26, 3 rounds); while fits and a study had "
            "the other core 0.87 and 0.76 without metrics, and 0.85 and 0.77 with them.",
            "SSIM and MS-SSIM of a tile in one pass (2026-11-27, B, processor time, the least of 12 rounds): 2.4 ms "
            "for 1.8 and 3.2 apart, with memory kept as workers keep it, and 3.2 for 1.9 and 4.0 without. Blocks of "
            "three times as many rows were faster with such memory, 2.2 ms, and slower without, 4.3.",
            "Profile, processor time of one tile beside 21 ms for the full-size network and 4 ms for that of 16 "
            "filters (AMX, mixed_bfloat16, 2026-11-24): SSIM 2.8 ms, writing and records 1 ms, product histogram 0.6 "
            "ms, reading 0.5 ms, digest, PSNR and clipping 0.3 ms; once a batch 37 ms for the side-by-side PNG and 8 "
            "ms for the report.",
            f"The plain way is timed on one tile in {PLAIN_PART}, and its seconds multiplied.",
        ],
        packages=package_versions(["tensorflow", "keras", "zarr", "scipy", "pillow"]),
    )


def _size(options: Options, size: Size, folder: Path) -> list[Figure]:
    model = folder / "models" / "jpeg"
    write_model(model, size.filters, read_images(options.images, 4))
    figures = []
    plain = _plain_way(size.filters, folder)
    for precision in ("float32", "mixed_bfloat16"):
        task = _task(options, size, folder, precision)
        pristine = _pristine(task)
        predictor = load_generator(model, batch_size=task.config.inference_batch_size, precision=precision).predictor
        seeds = [sample.seed for sample in task.batch.samples]
        forms: dict[str, Callable[[], object]] = {"bare": partial(predictor.distort, pristine, seeds)}
        for switch, names in METRICS.items():
            forms[switch] = partial(
                make_batch, dataclasses.replace(task, config=dataclasses.replace(task.config, metrics=names))
            )
        if precision == "mixed_bfloat16":
            forms["plain"] = partial(plain, pristine[::PLAIN_PART])
        seconds = interleaved(forms, options.rounds_or(size.rounds))
        if "plain" in seconds:
            seconds["plain"] = [PLAIN_PART * duration for duration in seconds["plain"]]
        setting = f"{precision}, {size.filters} filters, {size.tiles} tiles"
        barred = size.barred and precision == "mixed_bfloat16"
        for switch in METRICS:
            rate = size.tiles / spread(seconds[switch]).median
            figures.append(
                Figure(
                    f"{setting}, PSNR and SSIM {switch}",
                    "bare forward pass, share of its speed",
                    ratios(seconds["bare"], seconds[switch]),
                    bar=BARS[switch] if barred else None,
                    note=f"{rate:.1f} tiles/s",
                )
            )
        if "plain" in seconds:
            ratio = ratios(seconds["plain"], seconds["off"])
            against = "the plain way, float32"
            figures.append(Figure(f"{setting}, PSNR and SSIM off", against, ratio, bar=PLAIN_BAR if barred else None))
            rates = spread([size.tiles / wall for wall in seconds["plain"]])
            figures.append(Figure(f"the plain way, {size.filters} filters", "–", rates, "tiles/s"))
    return figures


def _task(options: Options, size: Size, folder: Path, precision: str) -> BatchTask:
    """Return the task of one batch; its reference tiles are cut and stored by the generate step itself."""
    manifest = make_manifest(options.images, folder)
    config = GenerateConfig(
        count=size.tiles, samples_per_shard=size.tiles, workers=0, precision=precision, truth_images=1, crop_align=16
    )

    def take(task: BatchTask) -> None:
        raise BatchWantedError(dataclasses.replace(task, work=shutil.copytree(task.work, folder / f"work-{precision}")))

    with patch.object(generate, "make_batch", take):
        try:
            generate.run(config, manifest, folder / "models", folder / precision)
        except BatchWantedError as stop:
            return stop.task
    raise RuntimeError("the generate step made no batch")


def _pristine(task: BatchTask) -> NDArray[np.uint8]:
    from distort_pipeline.data.arrays import create_group

    group = create_group(task.work)
    return np.stack(
        [np.asarray(group[PRISTINE][tile.number]) for tile in (sample.tile for sample in task.batch.samples)]
    )


def _plain_way(filters: int, folder: Path) -> Callable[[NDArray[np.uint8]], None]:
    from PIL import Image as PILImage

    from benchmarks.plain_networks import build_plain_generator
    from distort_pipeline.networks.generator import Architecture

    model = build_plain_generator(Architecture(base_filters=filters))
    out = folder / "plain"
    out.mkdir()

    def plain(pristine: NDArray[np.uint8]) -> None:
        distorted = model.predict(pristine.astype(np.float32) / 127.5 - 1, batch_size=16, verbose=0)
        images = np.clip(np.rint((distorted + 1) * 127.5), 0, 255).astype(np.uint8)
        for number, image in enumerate(images):
            plain_histogram(image)
            PILImage.fromarray(image).save(out / f"{number:05d}.png")

    return plain
