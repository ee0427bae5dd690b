"""How near the compact network comes to the conditional mean, by pairs and steps, from zero or from a prepared body.

python -m studies.initialisation.curve NAME FOLDER BODY [--pairs 4,8,16,40] [--steps 600]
FOLDER holds learn/pristine and learn/distorted of NAME; every sixth pair is held out. One line of curve.csv beside
this file for each count of pairs, start and step: the ℓ1 distance of held-out patches to the true ones, as a share of
what the fitted parts leave. CPU time is that of the steps and their crops.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.models.store import read_arrays
from distort_pipeline.networks.compact import CompactBody
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.jpeg_stage import read_jpeg_stage
from distort_pipeline.networks.patches import PairPatch, cut_patches
from distort_pipeline.training.compact import CompactCrops, CompactNetwork, CompactSettings, MeanTrainer
from distort_pipeline.training.compose_fit import bases_of, fit_composed
from studies.learning.trial import load

ROWS = Path(__file__).with_name("curve.csv")
CURVE = ("distortion", "pairs", "start", "step", "cpu_s", "share_of_parts_l1")
SEEN_AT = (0, 10, 25, 50, 100, 200, 400, 600, 900)
HELD_PATCHES = 16


def curve(
    parts: ComposedGenerator, fitted: Sequence[PairPatch], held: Sequence[PairPatch], body: Path | None, steps: int
) -> list[tuple[int, float, float]]:
    """Return (step, CPU seconds, share of the ℓ1 that `parts` leave on `held`) along one training of `steps`."""
    bases = bases_of(parts, fitted)
    rms = float(np.sqrt(np.mean([np.square(p.distorted - b).mean() for p, b in zip(fitted, bases, strict=True)])))
    settings = CompactSettings(prepared=False)
    compact = CompactNetwork(settings, residual_scale=rms, jpeg=parts.jpeg)
    if body is not None:
        weights = read_arrays(body)[0]
        compact.restart([weights[variable.path] for variable in compact.averaged.variables])
    crops = CompactCrops(fitted, bases, crop_px=96, batch=8, seed=0)
    trainer = MeanTrainer(compact, settings, steps=steps)
    network = CompactBody(compact.averaged, noise_scale=rms, stochastic=False)
    of_parts, rows, seconds = _l1(parts, held), [], 0.0
    for step in range(steps + 1):
        if step in SEEN_AT:
            rows.append((step, round(seconds, 1), round(_l1(parts.with_parts(body=network), held) / of_parts, 4)))
        if step < steps:
            started = time.process_time()
            trainer.step(crops.at(step), step)
            seconds += time.process_time() - started
    return rows


def _l1(generator: ComposedGenerator, held: Sequence[PairPatch]) -> float:
    generated = [generator.distort_part(p.pristine, 1.0, p.image, p.position).astype(np.float32) for p in held]
    return float(np.mean([np.abs(image - p.distorted).mean() for image, p in zip(generated, held, strict=True)]))


def main() -> None:
    """Train from both starts on each number of pairs, and add the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("body", type=Path)
    parser.add_argument("--pairs", default="4,8,16,40")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    pairs, files = load(options.folder / "learn")
    jpeg = read_jpeg_stage(files[0])
    patches = cut_patches(pairs[::6], 384)
    held = patches[:: max(len(patches) // HELD_PATCHES, 1)]
    train = [pair for number, pair in enumerate(pairs) if number % 6]
    for count in map(int, options.pairs.split(",")):
        fitted = cut_patches([train[n] for n in np.linspace(0, len(train) - 1, count).astype(int)], 384)
        parts, _ = fit_composed(fitted, jpeg)
        for start, body in (("zero", None), ("prepared", options.body)):
            rows = curve(parts, fitted, held, body, options.steps)
            _add([(options.name, count, start, *row) for row in rows])
            print(options.name, count, start, rows, flush=True)


def _add(rows: Sequence[Any]) -> None:
    new = not ROWS.is_file()
    with ROWS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([CURVE, *rows] if new else rows)


if __name__ == "__main__":
    main()
