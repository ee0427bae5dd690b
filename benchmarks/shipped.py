"""The shipped generators in NumPy: `generate` against the same through TensorFlow, and `g` against the bare pass.

A corpus is made in a process of its own, in turns; CPU seconds and largest memory are the system's count for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from benchmarks.harness import Figure, Options, Result, cut_tiles, interleaved, ratios, read_images
from distort_pipeline import load_generator
from distort_pipeline.commands.inputs import pretrained
from distort_pipeline.models import store
from distort_pipeline.networks.inputs import GeneratorInputs
from distort_pipeline.networks.predictor import noise_maps
from distort_pipeline.records import normalize

CPU_BAR, MEMORY_BAR, CALL_BAR = 0.4, 0.5, 0.9
COUNT = 40
GENERATE = """
import json, resource, sys
from functools import partial
from distort_pipeline import generate
from distort_pipeline.models import store
if sys.argv[1] == "tensorflow":
    store._fitted = lambda card, weights: store._network(card, weights, "float32", card.network.image_stats)
generate(sys.argv[2], sys.argv[3], count=int(sys.argv[4]), severity=[0.5], workers=0)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def measure(options: Options) -> Result:
    """Return the shares of CPU time and memory, and the speed of `g` on 16 tiles beside the bare pass."""
    rounds, count = options.rounds_or(3), 8 if options.quick else COUNT
    used: dict[str, list[list[float]]] = {"numpy": [], "tensorflow": []}
    for _ in range(rounds):
        for path, figures in used.items():
            figures.append(_generated(path, options.images, count))
    seconds, memory = (
        ratios(*([row[column] for row in used[path]] for path in ("numpy", "tensorflow"))) for column in (0, 1)
    )
    note = f"{used['numpy'][-1][0]:.1f} CPU-s and {used['numpy'][-1][1] / 1024:.0f} MiB at last"
    against, what = "the same through TensorFlow", f"`generate --count {count} --severity 0.5`, one process"
    return Result(
        "the shipped generators in NumPy",
        [
            Figure(f"CPU time of {what}", against, seconds, bar=CPU_BAR, at_least=False, note=note),
            Figure(f"memory of {what}", against, memory, bar=MEMORY_BAR, at_least=False),
            *(_calls(name, options) for name in ("jpeg", "white_noise")),
        ],
    )


def _generated(path: str, images: Path, count: int) -> list[float]:
    with TemporaryDirectory() as folder:
        words: list[Any] = [sys.executable, "-c", GENERATE, path, images.resolve(), Path(folder) / "corpus", count]
        done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def _calls(name: str, options: Options) -> Figure:
    cv2.setNumThreads(1)
    tiles = cut_tiles(read_images(options.images, 4), 16)
    g = load_generator(name)
    predictor: Any = store.load_generator(pretrained(name), batch_size=16).predictor
    channels, severity = g.card.network.noise_channels, np.full((1, 1), 0.6, np.float32)
    pixels = [normalize(tile[None]) for tile in tiles]

    def bare() -> None:
        for seed, image in enumerate(pixels):
            predictor.model(GeneratorInputs(image, noise_maps([seed], 256, 256, channels, 1), severity))

    seconds = interleaved({"bare": bare, "g": lambda: g(tiles, 0.5)}, 3 if options.quick else 15)
    return Figure(
        f"`g` of {name}, 16 tiles", "draws and the bare pass", ratios(seconds["bare"], seconds["g"]), bar=CALL_BAR
    )
