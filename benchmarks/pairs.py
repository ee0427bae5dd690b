"""The pairs step against the codec floor (pair_floor.py) and against alternatives (pair_peers.py).

The step's wall is all of its run but the start of the cluster (stated), with the imports of its workers, and its end;
the floor's leaves out the same of its pool, the others' their imports.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Figure, Options, Result, ratios, spread
from benchmarks.pair_floor import floor_seconds
from benchmarks.pair_peers import NAMES, installed, seconds_of
from benchmarks.sample_store import make_manifest
from distort_pipeline import execution
from distort_pipeline.config import PairsConfig
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.execution import Workers
from distort_pipeline.records import package_versions
from distort_pipeline.steps import pairs as pairs_step

BAR = 1.15
SCALING_BAR = 0.93
ROUNDS = 3
MANY_IMAGES = 128  # from here on there are shards enough for two workers to end together
PEERS = {"datasets": "`datasets.map(num_proc=2)` into Parquet", "litdata": "`litdata.optimize`"}


def measure(options: Options) -> Result:
    """Return the step's wall over the floor's and the others', with one and with two workers, and how both scale."""
    walls: dict[tuple[str, int], list[float]] = {(form, n): [] for form in ("step", "floor", *NAMES) for n in (1, 2)}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = make_manifest(options.images, folder)
        records = read_manifest(manifest).records
        settings: dict[str, Any] = {
            "preset": "dbcnn",
            "levels": [1] if options.quick else [1, 2, 3, 4, 5],
            "tiles_per_shard": 32 if len(records) >= MANY_IMAGES else 16,
        }
        config = PairsConfig(**{**settings, "levels": tuple(settings["levels"])})
        for _ in range(options.rounds_or(ROUNDS)):
            for workers in (1, 2):
                walls["floor", workers].append(floor_seconds(manifest, config, workers))
                wall, start = _step(manifest, config, folder / "pairs", workers)
                walls["step", workers].append(wall)
                starts.append(start)
                shutil.rmtree(folder / "pairs")
            for name in installed():
                walls[name, 2].append(seconds_of(name, manifest, settings, folder / name))
                shutil.rmtree(folder / name)
    megapixels = sum(record.width * record.height for record in records) / 1e6
    return Result(
        f"four distortions at {len(config.levels)} levels of {len(records)} images ({megapixels:.0f} MP), written, "
        "hashed and recorded",
        [*_against_floor(walls), *_against_peers(walls), Figure("start of the cluster", "–", spread(starts), "s")],
        [
            f"Shards of {config.tiles_per_shard} tiles; a small set gets small ones, as the default of 32 would leave "
            "one of two workers idle at its end. The start of the cluster is not in the walls.",
            "The others' rows hold the same tiles as raw bytes, with their parameters and SHA-256: as images, "
            "`datasets` would encode each as PNG. Their processes' start is in their walls, and is some seconds.",
            "Profile in one process, processor time, 24 images of dev/ at five levels (2026-11-24): JPEG 2000 45 %, "
            "pink noise 26 %, white noise 12 %, writing 9 %, digests 2 %, reading 2 %, JPEG 1.5 %, all else 2 %.",
            "Tried and kept (2026-11-25, AVX2 alone, 11 images of dev/ at five levels, 17.2 s of processor time in "
            "one process before): shards and images written past Zarr, whose event loop copies, half the time of a "
            "shard of 64 tiles (189 → 94 ms for photographs, 84 → 34 with white noise); Zstandard's level -5 for -1, a "
            "third less of what is left for 3 to 6 hundredths more on disk; one memory for the tiles of all columns. "
            "Together 15.3 s.",
            "Tried and kept (the same): Dask sets MALLOC_TRIM_THRESHOLD_ in its workers, so that glibc gives memory "
            "back at once and the system has to clear it anew: 100,000 to 430,000 page faults for the pool's 50,000 "
            "and up to 4 s of system time for 1; with one arena and memory kept 70,000 to 160,000.",
            "Tried and kept (the same): images are cut one by one as they are made, which brings page faults down to "
            "the pool's; records and ledger are not flushed to disk, as each flush of a busy one took half a second.",
            "Tried and kept (2026-11-26, AVX-512, 23 images of dev/, 15.3 s of processor time for the floor): files "
            "of validation images written past Zarr as well, 0.8 s; no folders around each shard's file, 0.2 s; "
            "shards of 32 tiles instead of 64, as a worker that ends first waits for half a shard.",
            "What the step does beyond the floor (2026-11-26, 21 images of dev/, one process, processor time 27.2 s "
            "for the floor, 30.4 for the step): writing files 1.1 s, Zstandard 0.6, SHA-256 of pixels 0.5 and of "
            "files 0.4, all else 0.6.",
            "A virtual machine may give memory that is freed back to its host (free page reporting), which clears it "
            "anew when a file is written: 650 MB took 1.34 s of system time, and 0.13 once the memory was the "
            "machine's to keep (2026-11-26). The step pays that for all that it writes, the floor for nothing: on 84 "
            "images with two workers 1.15 with and 1.11 without. Here it was off "
            "(/sys/module/page_reporting/parameters/page_reporting_order at 11), as on a machine of one's own.",
            "Tried and kept (2026-11-27, 24 images, two workers, each three rounds in turn): Dask's processes no "
            "longer sample their own stacks a hundred times a second nor count memory twice, 2 to 3 % of the wall, nor "
            "tick fifty times a second, 0 to 5 %. Before, three rounds on B were 1.11 × the floor (1.10 – 1.17) with "
            "one worker and 1.17 × (1.15 – 1.17) with two, 1.05 × (1.04 – 1.06) `datasets`, 1.02 × (0.97 – 1.03) "
            "`litdata`.",
            "Not tried: writing in a thread while the next distortion is made, as with as many workers as cores no "
            "core is free for it.",
            "On A, three rounds while tests and other jobs had a share of both cores (2026-11-26): 1.11 × the floor "
            "(0.96 – 1.12) with one worker and 1.19 × (1.15 – 1.21) with two, 0.95 × the pool's scaling (0.79 – 0.97), "
            "1.08 × (0.94 – 1.23) `datasets` and 0.99 × (0.93 – 1.13) `litdata`; the floor took 328 and 161 s there.",
        ],
        [f"{name}: not installed (bench extra)" for name in NAMES if name not in installed()],
        package_versions(["dask", "zarr", "glymur", "opencv-python-headless", *NAMES]),
    )


def _against_floor(walls: dict[tuple[str, int], list[float]]) -> list[Figure]:
    figures = [
        Figure(
            f"wall of the step, {workers} worker{'s' * (workers > 1)}",
            "codec floor, bare process pool",
            ratios(walls["step", workers], walls["floor", workers]),
            bar=BAR,
            at_least=False,
            note=f"floor {spread(walls['floor', workers]).median:.4g} s",
        )
        for workers in (1, 2)
    ]
    scaling = [
        (single / two) / (floor_single / floor_two)
        for single, two, floor_single, floor_two in zip(
            *(walls[key] for key in (("step", 1), ("step", 2), ("floor", 1), ("floor", 2))), strict=True
        )
    ]
    scaled = spread([single / two for single, two in zip(walls["step", 1], walls["step", 2], strict=True)])
    return [
        *figures,
        Figure(
            "speed-up of two workers over one",
            "that of the bare pool",
            spread(scaling),
            bar=SCALING_BAR,
            note=f"the step's is {scaled.median:.3g} ×",
        ),
    ]


def _against_peers(walls: dict[tuple[str, int], list[float]]) -> list[Figure]:
    return [
        Figure(
            "speed of the step, 2 workers",
            PEERS[name],
            ratios(walls[name, 2], walls["step", 2]),
            bar=1.0,
            note=f"{spread(walls[name, 2]).median:.4g} s",
        )
        for name in installed()
    ]


def _step(manifest: Path, config: PairsConfig, out: Path, workers: int) -> tuple[float, float]:
    """Return wall seconds of the step without the start and the end of the cluster, and those of the start."""
    marks: dict[str, float] = {}
    true_client = execution._client

    def timed_client(settings: Workers, stack: ExitStack) -> Any:
        marks["start"] = time.perf_counter()
        stack.callback(lambda: marks.setdefault("closed", time.perf_counter()))  # a stack unwinds from its last
        client = true_client(settings, stack)
        # imports of a worker belong to its start, as they do in the pool
        list(execution._run_on(client, _import_codecs, range(4 * workers), execution._Terms(1)))
        stack.callback(lambda: marks.setdefault("closing", time.perf_counter()))
        marks["started"] = time.perf_counter()
        return client

    began = time.perf_counter()
    with patch.object(execution, "_client", timed_client):
        pairs_step.run(config, manifest, out, workers=Workers(workers))
    start = marks["started"] - marks["start"]
    return time.perf_counter() - began - start - (marks["closed"] - marks["closing"]), start


def _import_codecs(number: int) -> int:
    import distort_pipeline.steps.pair_shards  # noqa: F401
    from distort_pipeline.distortions import codec_versions

    codec_versions(("jpeg", "jp2k", "white_noise", "pink_noise"))
    return number
