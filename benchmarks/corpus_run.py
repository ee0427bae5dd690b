"""A run of the generate step in new processes: wall time, and peak memory of all processes.

`python -m benchmarks.corpus_run FOLDER IMAGES SETTINGS` makes models of random weights (all four distortions, the
random ones with noise) and a manifest in FOLDER unless they are there, and then a corpus by SETTINGS, in JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import read_images
from benchmarks.sample_store import make_manifest

FILTERS = 16  # small networks
LOOK_SECONDS = 0.5
NOISE_CHANNELS = {"jpeg": 0, "jp2k": 0, "white_noise": 3, "pink_noise": 3}  # as training chooses them


@dataclass(frozen=True)
class CorpusRun:
    """Time, memory and size of one corpus."""

    seconds: float  # all of it: Python, the cluster's start, plan, tiles, batches, page
    peak_mb: float  # of all processes, shared memory counted once
    store_mb: float  # on disk


def run_corpus(folder: Path, images: Path, settings: Mapping[str, Any]) -> CorpusRun:
    """Make a corpus by `settings` of GenerateConfig in new processes, measure it and delete it."""
    _prepare(folder, images)
    command = [sys.executable, "-m", "benchmarks.corpus_run", str(folder), str(images), json.dumps(settings)]
    started = time.perf_counter()
    # into a file, since a full pipe would block the process
    with (folder / "log.txt").open("w+") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log)
        peak = 0.0
        while run.poll() is None:
            peak = max(peak, memory_mb(run.pid))
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - started
        if run.returncode:
            log.seek(0)
            raise RuntimeError(f"generate stopped: {log.read()[-2000:]}")
    corpus = folder / "corpus"
    size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(corpus)
    return CorpusRun(seconds, peak, size)


def _prepare(folder: Path, images: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.corpus_run", str(folder), str(images), "{}"]
    if not (folder / "models").is_dir():
        subprocess.run(command, check=True, capture_output=True)


def memory_mb(root: int) -> float:
    """Return the memory of a process and all below it, in MB; shared pages count in proportion (PSS)."""
    import psutil

    total = 0
    try:
        process = psutil.Process(root)
        for member in [process, *process.children(recursive=True)]:
            try:
                total += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # ended meanwhile
    except psutil.NoSuchProcess:
        return 0.0
    return total / 1e6


def main() -> None:
    """Make missing models and manifest, or the corpus if there are settings."""
    folder, images, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    if settings:
        from distort_pipeline.config import GenerateConfig
        from distort_pipeline.steps import generate

        generate.run(GenerateConfig(**settings), folder / "manifest.jsonl", folder / "models", folder / "corpus")
        return
    from benchmarks.random_models import write_model

    make_manifest(images, folder)
    for name, channels in NOISE_CHANNELS.items():
        write_model(folder / "models" / name, FILTERS, read_images(images, 4), noise_channels=channels)


if __name__ == "__main__":  # workers are spawned, and import this file again
    main()
