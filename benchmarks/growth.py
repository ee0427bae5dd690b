"""How time and memory of a corpus grow with the number of samples, the size of tiles and the number of workers.

Small networks (16 filters) in mixed_bfloat16, all four distortions, PSNR and SSIM on. Each corpus is made once by new
processes; seconds hold all of it, also the start of Python and of the workers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.corpus_run import CorpusRun, run_corpus
from benchmarks.harness import Figure, Options, Result, spread
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import TILE_ALIGN_PX, offsets_available, package_versions

COUNTS = (100, 1000, 10_000)
SIDES_PX = {128: 4096, 256: 1024, 512: 256}  # side → tiles: the same number of pixels
WORKERS = (0, 1, 2)
FEW, MANY = 2000, 20_000
MEMORY_BAR = 1.05


def measure(options: Options) -> Result:
    """Return seconds and peak memory of corpora that differ in one thing at a time."""
    figures: list[Figure] = []
    omitted: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def run(**changes: Any) -> CorpusRun:
            if options.quick:
                changes["count"] = max(changes["count"] // 100, 8)
            settings = {"precision": "mixed_bfloat16", "allow_repeats": True, "workers": 2, **changes}
            return run_corpus(folder, options.images, settings)

        for count in COUNTS:
            figures += _figures(f"{count:,} samples of 256², 2 workers", run(count=count), count, 256)
        for workers in WORKERS:
            figures += _figures(
                f"1,024 samples of 256², {workers} workers", run(count=1024, workers=workers), 1024, 256
            )
        for side, count in SIDES_PX.items():
            if _fits(folder / "manifest.jsonl", side):
                corpus = run(count=count, tile_px=side)
                figures += _figures(f"{count:,} samples of {side}², 2 workers", corpus, count, side)
            else:
                omitted.append(f"tiles of {side}²: no image of {options.images} is large enough")
        few, many = run(count=FEW), run(count=MANY)
    figures.append(
        Figure(
            f"peak memory at {MANY:,} samples",
            f"at {FEW:,}",
            spread([many.peak_mb / few.peak_mb]),
            bar=MEMORY_BAR,
            at_least=False,
            note=f"{many.peak_mb:,.0f} and {few.peak_mb:,.0f} MB; {many.seconds:.0f} and {few.seconds:.0f} s",
        )
    )
    return Result(
        "corpora by small networks (16 filters), all processes together",
        figures,
        [
            "Memory is that of all processes, measured twice a second; what they share is counted once.",
            "Samples of a small corpus cost more as the start is in their seconds, and as each shard of 256 reference "
            "tiles has the true distortions of eight images made for its reports.",
        ],
        omitted,
        package_versions(["tensorflow", "keras", "dask", "zarr"]),
    )


def _figures(name: str, run: CorpusRun, count: int, side: int) -> list[Figure]:
    rate = f"{count * side * side / 1e6 / run.seconds:.2f} MP/s, {run.seconds / count * 1000:.1f} ms a sample"
    return [
        Figure(name, "wall seconds", spread([run.seconds]), "s", note=rate),
        Figure(name, "peak memory", spread([run.peak_mb]), "MB", note=f"{run.store_mb:,.0f} MB on disk"),
    ]


def _fits(manifest: Path, side: int) -> bool:
    """Return whether an image has a tile of this side."""
    try:
        records = read_manifest(manifest).records
    except PipelineError:
        return False
    return any(offsets_available(r.height, r.width, tile_px=side, align_px=TILE_ALIGN_PX) for r in records)
