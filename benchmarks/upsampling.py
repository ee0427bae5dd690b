"""The paper's network with transposed convolutions against the same with nearest upsampling before its kernels.

Both forms of "upsampling, with symmetric parameters" have the same weights and widths; nearest upsampling is in its
exact 5x5 rewrite, which has a quarter of the multiplications, see studies/nearest_upsampling.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from benchmarks.harness import Figure, Options, Result, cut_tiles, interleaved, ratios, read_images
from benchmarks.trainers import trainer_of
from distort_pipeline.distortions import apply
from distort_pipeline.networks.backend import bfloat16_is_faster, keras, pin_backend_threads
from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.records import package_versions
from studies.nearest_upsampling import nearest_upsampling

FORMS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "transposed": nullcontext,
    "nearest": nearest_upsampling,
}


def measure(options: Options) -> Result:
    """Return images/s of the transposed form over those of nearest upsampling, in training and in generation."""
    pin_backend_threads(0)
    precision = "mixed_bfloat16" if bfloat16_is_faster() else "float32"
    figures = []
    for filters, batch, rounds in ((4, 2, 1),) if options.quick else ((16, 8, 9), (64, 4, 3)):
        tiles = cut_tiles(read_images(options.images, 4), batch)
        for what, form in (("training", _step), ("generation", _forward)):
            calls = {}
            for name, context in FORMS.items():
                with context():
                    calls[name] = form(filters, tiles, precision)
            seconds = interleaved(calls, options.rounds_or(rounds))
            figures.append(
                Figure(
                    f"{what}, {filters} filters, batch {batch}, {precision}",
                    "nearest upsampling, rewritten",
                    ratios(seconds["nearest"], seconds["transposed"]),
                    bar=1.0,
                    note=f"{batch / sorted(seconds['transposed'])[len(seconds['transposed']) // 2]:.2f} images/s",
                )
            )
    return Result(
        "the paper's network by its upsampling, 256² crops, all cores",
        figures,
        [
            "The 3 filters of the last block are computed as sub-pixels: of that layer alone 8.4 ms for 9.1 in a "
            "training step and 2.7 for 6.2 in a forward pass (2026-11-30, AVX-512, float32, 8 x 64² x 48 features)."
        ],
        packages=package_versions(["tensorflow", "keras"]),
    )


def _step(filters: int, tiles: np.ndarray, precision: str) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    distorted = np.stack([apply("white_noise", tile, {"sigma_8bit": 19}, rng).image for tile in tiles])
    trainer = trainer_of(filters, len(tiles), tiles.shape[1], precision)
    severities = np.ones((len(tiles), 1), np.float32)
    return lambda: float(trainer.step(tiles, distorted, severities, 1)["generator_loss"])


def _forward(filters: int, tiles: np.ndarray, precision: str) -> Callable[[], float]:
    import tensorflow as tf

    generator: keras.Model = build_generator(Architecture(filters), precision=precision, fused=True)
    inputs = tf.constant(tiles.astype(np.float32) / 127.5 - 1)
    compiled = tf.function(generator)
    return lambda: float(tf.reduce_sum(compiled(inputs)))
