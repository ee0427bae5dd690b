"""100,000 tiles of 256² by small networks (16 filters): the goal is an hour and 3 GB on two cores.

All four distortions, PSNR and SSIM on, two workers, once. Needs 25 GB of free disk, and images for 25,000 different
tiles; with fewer images, as in data/sample, tiles repeat.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.corpus_run import run_corpus
from benchmarks.harness import Figure, Options, Result, spread
from distort_pipeline.records import package_versions

COUNT = 100_000
BAR_MINUTES = 60
BAR_GB = 3.0


def measure(options: Options) -> Result:
    """Return minutes and peak memory."""
    count = 64 if options.quick else COUNT
    settings = {"precision": "mixed_bfloat16", "allow_repeats": True, "workers": 2, "count": count}
    with tempfile.TemporaryDirectory() as folder:
        run = run_corpus(Path(folder), options.images, settings)
    return Result(
        f"{count:,} tiles of 256², small networks (16 filters) in mixed_bfloat16, two workers",
        [
            Figure(
                "wall of all of it",
                "–",
                spread([run.seconds / 60]),
                "minutes",
                BAR_MINUTES,
                at_least=False,
                note=f"{count / run.seconds:.0f} tiles/s",
            ),
            Figure(
                "peak memory of all processes",
                "–",
                spread([run.peak_mb / 1000]),
                "GB",
                BAR_GB,
                at_least=False,
                note=f"{run.store_mb / 1000:.1f} GB on disk",
            ),
        ],
        ["Networks of 16 filters with random weights; memory that processes share is counted once."],
        packages=package_versions(["tensorflow", "keras", "dask", "zarr"]),
    )
