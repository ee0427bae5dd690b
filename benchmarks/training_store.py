"""Training on crops of a pair store against training on a constant batch: the cost of reading.

The store is read by `Crops.prefetch`, as in the train step; both forms take turns, some steps each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Figure, Options, Result, interleaved, ratios
from benchmarks.sample_store import make_manifest, make_pairs
from benchmarks.trainers import trainer_of
from distort_pipeline.data.pairs import PairStore
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import package_versions
from distort_pipeline.training.crops import CropBatch, Crops

BAR = 0.97
DISTORTION = "white_noise"  # compresses least, so that its chunks take longest


def measure(options: Options) -> Result:
    """Return the speed of training from the store over that of a constant batch, small and full-size."""
    pin_backend_threads(0)
    sizes = ((4, 2, 2, 1),) if options.quick else ((16, 8, 12, 5), (64, 16, 3, 2))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_manifest(options.images, Path(folder))
        store = make_pairs(manifest, Path(folder) / "pairs", distortions=(DISTORTION,))
        for filters, batch, steps, rounds in sizes:
            figures.append(_size(store, filters, batch, steps, options.rounds_or(rounds)))
    return Result(
        "steps of training, mixed_bfloat16, 256² crops, all cores",
        figures,
        ["The store's chunks are decompressed in the measured steps as far as they are not in the cache yet."],
        packages=package_versions(["tensorflow", "keras", "zarr"]),
    )


def _size(store: PairStore, filters: int, batch_size: int, steps: int, rounds: int) -> Figure:
    crops = Crops(store, DISTORTION, [1], crop_px=256, crop_align=16, batch_size=batch_size, seed=0)
    trainer = trainer_of(filters, batch_size, 256, "mixed_bfloat16")
    constant = crops.at(0)
    reading = crops.prefetch(1, 1 + steps * (rounds + 1))

    def train(batches: Iterator[CropBatch]) -> None:
        for _ in range(steps):
            batch = next(batches)
            float(trainer.step(batch.pristine, batch.distorted, batch.severities, 1)["generator_loss"])

    def repeated() -> Iterator[CropBatch]:
        while True:
            yield constant

    seconds = interleaved({"constant": lambda: train(repeated()), "store": lambda: train(reading)}, rounds)
    rate = steps * batch_size / sorted(seconds["store"])[len(seconds["store"]) // 2]
    return Figure(
        f"from the store, {filters} filters, batch {batch_size}",
        "one constant batch, share of its speed",
        ratios(seconds["constant"], seconds["store"]),
        bar=BAR,
        note=f"{steps} steps a turn, {rate:.2f} images/s",
    )
