"""Random 256² crops read from a pair store for training: one process, the chunks not yet in its cache at first."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.harness import Figure, Options, Result, spread
from benchmarks.sample_store import make_manifest, make_pairs
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.crops import WINDOW_CHUNKS, Crops
from distort_pipeline.versions import package_versions

BAR_PER_SECOND = 2000
BATCH = 16


def measure(options: Options) -> Result:
    """Return crops a second from the store, each with its distorted partner."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_manifest(options.pictures, Path(folder))
        pairs = make_pairs(manifest, Path(folder) / "pairs", distortions=("jpeg",))
        tiles = len(Crops(pairs, "jpeg", crop_px=256, crop_align=16, batch=BATCH, seed=0).records)
        rounds = 2 if options.quick else 7
        first = [_rate(pairs, tiles // BATCH) for _ in range(rounds)]
        later = [_rate(pairs, 20 * tiles // BATCH) for _ in range(rounds)]
    return Result(
        f"pairs of 256² crops from {tiles} tiles of 384², one process",
        [
            Figure("over 20 epochs", "–", spread(later), "crops/s", BAR_PER_SECOND),
            Figure("the first epoch, every chunk read and decompressed", "–", spread(first), "crops/s", BAR_PER_SECOND),
        ],
        [
            "A crop here is a pristine and a distorted one, aligned: 393 KB of pixels.",
            f"This store is smaller than the cache of {2 * WINDOW_CHUNKS} chunks; a store that is larger reads each "
            "chunk once an epoch, as the first epoch does here, from the disk cache.",
            "Profile of the first epoch (2026-11-23): four fifths Zarr's decompression (Zstandard, with checksum) of "
            "whole chunks of 16 tiles of 384², one chunk at a time; the rest is copying crops out of them.",
        ],
        ["a store larger than memory", "two processes"],
        package_versions(["zarr", "numpy"]),
    )


def _rate(pairs: PairStore, steps: int) -> float:
    crops = Crops(pairs, "jpeg", crop_px=256, crop_align=16, batch=BATCH, seed=0)
    started = time.perf_counter()
    for step in range(max(steps, 1)):
        crops.at(step)
    return max(steps, 1) * BATCH / (time.perf_counter() - started)
