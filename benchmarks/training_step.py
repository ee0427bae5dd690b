"""A training step of our networks, float32 and mixed_bfloat16, against the plain Keras form in float32.

The same trainer and losses; the plain generator replaces ours, and Keras's batch norms those of our discriminator. A
full-size step takes many seconds on two cores, so few are measured.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Figure, Options, Result, cut_tiles, interleaved, ratios, read_images, spread
from benchmarks.trainers import trainer_of
from distort_pipeline.distortions import apply
from distort_pipeline.networks.backend import bfloat16_is_faster, pin_backend_threads
from distort_pipeline.records import package_versions

BAR = 1.5  # where bfloat16 is faster


def measure(options: Options) -> Result:
    """Return images/s of ours over images/s of the plain form, for full-size and small networks."""
    pin_backend_threads(0)
    figures = []
    sizes = ((4, 2, 1, 128),) if options.quick else ((16, 8, 5, 256), (64, 16, 2, 256))
    for filters, batch, rounds, crop_px in sizes:
        figures += _size(options, filters, batch, options.rounds_or(rounds), crop_px)
    return Result(
        "one step of generator and discriminator, 256² crops, all cores",
        figures,
        [
            "The full size is 64 filters and batches of 16; 16 filters, batches of 8 are the sample's networks.",
            "Tried and kept (2026-11-24, processor time, forward and backward pass): fused batch norm, 35 ms for 290 "
            "on 16 x 128² x 64 features.",
            "Tried and left: LeakyReLU as a maximum, 100 ms for 35; upsampling as sub-pixel convolutions where there "
            "are more than 8 filters, 38 ms for 31 with gradients (2026-11-30, 8 x 16² x 192 features to 64, bfloat16 "
            "by AVX-512); cropping a transposed convolution without padding, 33 for 31.",
            "Tried and kept (2026-11-26, AMX, 9 rounds): TensorFlow's kernel for Adam, one pass over each weight for a "
            "dozen of Keras's, which the plain form has. The full-size G's update takes 48 ms for 132, and 92 ms of "
            "processor time for 261: 3 to 4 % of a step, less than such steps differ by on a busy machine.",
            "Since 2026-11-26 G's first convolution computes in float32 (see precision.py), which cost 4 % of a "
            "full-size step without AMX, 3.00 for 3.13; D's as well would be 2.88, and showed nothing. Pixels in two "
            "bfloat16 parts, multiples of 1/128 and what is left, were 2.96 and no nearer to float32 than before.",
            "Tried as well (2026-11-26, AMX): in 8-bit levels from the middle of the range, bfloat16 holds any pixel "
            "exactly; but the kernel rounded to it lets brightness through where it should not, which is as bad: near "
            "white an error of 0.10 of the residual's variation, 0.13 with pixels rounded and 0.004 in float32. That "
            "convolution and its gradient would take 49 ms of processor time for 62.",
            "With nearest upsampling in place of transposed convolutions, until December 2026, the full-size step was "
            "4.74 × (3.96 – 5.52) the plain one on A, which has AMX, and 2.97 × (2.93 – 3.02) on B, which has AVX-512 "
            "BF16 alone; see upsampling.py.",
        ],
        packages=package_versions(["tensorflow", "keras"]),
    )


def _size(options: Options, filters: int, batch: int, rounds: int, crop_px: int) -> list[Figure]:
    pristine = cut_tiles(read_images(options.images, 4), batch, crop_px)
    rng = np.random.default_rng(0)
    distorted = np.stack([apply("white_noise", tile, {"sigma_8bit": 19}, rng).image for tile in pristine])
    trainers = {
        "plain": trainer_of(filters, batch, crop_px, "float32", plain=True),
        "float32": trainer_of(filters, batch, crop_px, "float32"),
        "mixed_bfloat16": trainer_of(filters, batch, crop_px, "mixed_bfloat16"),
    }
    steps = {
        name: lambda trainer=trainer: float(
            trainer.step(pristine, distorted, np.ones((batch, 1), np.float32), 1)["generator_loss"]
        )
        for name, trainer in trainers.items()
    }
    seconds = interleaved(steps, rounds)
    setting = f"{filters} filters, batch {batch}"
    plain = "plain Keras form, float32"
    figures = [
        Figure(
            f"{precision}, {setting}",
            plain,
            ratios(seconds["plain"], seconds[precision]),
            bar=BAR if filters == 64 and precision == "mixed_bfloat16" and bfloat16_is_faster() else None,
            note=f"{batch / sorted(seconds[precision])[rounds // 2]:.2f} images/s",
        )
        for precision in ("float32", "mixed_bfloat16")
    ]
    return [*figures, Figure(f"{plain}, {setting}", "–", spread([batch / s for s in seconds["plain"]]), "images/s")]
