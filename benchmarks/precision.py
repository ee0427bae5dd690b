"""JSD_NSS in float32 and in mixed_bfloat16, by trained models on the same tiles with the same seeds.

The bar of the difference is the split-half noise floor. Both precisions get the same tiles, so differences between
images cancel; the standard error over images is larger and stated without a bar. For random models the difference
between two draws is stated as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, Options, Result, read_images, spread
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.card import ModelCard, read_card
from distort_pipeline.models.store import load_generator, model_folders
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import TILE_ALIGN_PX, derive_seed, make_rng, package_versions, spread_tiles

TILE_PX = 256
TILES_EACH = 4
IMAGES = 20
Counts = NDArray[np.int64]


def measure(options: Options) -> Result:
    """Return JSD_NSS in both precisions for each trained model, and the difference."""
    pin_backend_threads(0)
    if not options.models.is_dir():
        return Result(
            "no trained models",
            [],
            [],
            [f"no models in {options.models}: `make repro` makes them, --models names some"],
        )
    images = read_images(options.images, 2 if options.quick else IMAGES)
    figures: list[Figure] = []
    for name, folder in model_folders(options.models).items():
        card = read_card(folder)
        if not card.external:
            figures += _model(name, folder, card, images)
    return Result(
        f"float32 and mixed_bfloat16 on the same {TILES_EACH} tiles of 256² of each of {len(images)} images",
        figures,
        [
            "JSD_NSS is the mean over images of the divergence of an image's tiles, pooled, from the true "
            "distortion of the same tiles. Some of the images may have been seen in training: both paths saw them.",
            "Measured are what `train` leaves by default, a fit and a U-Net of 16 filters beside it, after 600 steps "
            "of the latter, which left JPEG far from JPEG.",
            "The first convolution reads the image in float32, whatever the precision: rounded to bfloat16 a bright "
            "pixel is up to a quarter of an 8-bit level off before the kernel takes differences. With it in bfloat16 "
            "(2026-11-26) the same JPEG model differed by 0.0006 bits on photographs of dev/ and by 0.00028 on the "
            "sample; in float32 by 0.00004 and 0.000007.",
            "Pretrained generators have no U-Net, and give the same bytes on both paths.",
        ],
        packages=package_versions(["tensorflow", "keras", "numpy"]),
    )


def _model(name: str, folder: Path, card: ModelCard, images: Sequence[NDArray[np.uint8]]) -> list[Figure]:
    pristine, true = _tiles(card, images)
    true_counts = _pooled(true)
    distorted = {
        precision: _distorted(folder, precision, pristine, "one") for precision in ("float32", "mixed_bfloat16")
    }
    counts = {precision: _pooled(tiles) for precision, tiles in distorted.items()}
    scores = {precision: _scores(histograms, true_counts) for precision, histograms in counts.items()}
    error = float(np.std(scores["float32"], ddof=1)) / len(images) ** 0.5
    notes = [f"standard error over images {error:.2g} bits"]
    if card.is_stochastic:
        redraw = _scores(_pooled(_distorted(folder, "float32", pristine, "another")), true_counts)
        notes.append(f"another draw changes {abs(float(np.mean(redraw) - np.mean(scores['float32']))):.2g} bits")
    errors = np.abs(distorted["float32"].astype(np.int16) - distorted["mixed_bfloat16"])
    notes.append(f"pixels differ by {errors.mean():.3f} 8-bit levels on average, {errors.max()} at most")
    difference = abs(float(np.mean(scores["mixed_bfloat16"]) - np.mean(scores["float32"])))
    return [
        *(
            Figure(f"{name}, {precision}: JSD_NSS", "the true distortion", spread(bits), "bits", note=_mean(bits))
            for precision, bits in scores.items()
        ),
        Figure(
            f"{name}: difference of the means",
            "noise floor",
            spread([difference]),
            "bits",
            bar=_floor(counts["float32"]),
            at_least=False,
            note="; ".join(notes),
        ),
    ]


def _tiles(card: ModelCard, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pristine and truly distorted tiles, TILES_EACH of every image, distorted as full images."""
    pristine, true = [], []
    for number, image in enumerate(images):
        seed = derive_seed(0, "precision", number)
        distorted = apply(card.distortion, image, card.levels[-1].parameters, make_rng(seed)).image
        height, width = image.shape[:2]
        tiles = spread_tiles(height, width, tile_px=TILE_PX, count=TILES_EACH, align_px=TILE_ALIGN_PX, seed=seed)
        for index in range(TILES_EACH):
            tile = tiles[index % len(tiles)]
            inside = (slice(tile.y, tile.y + TILE_PX), slice(tile.x, tile.x + TILE_PX))
            pristine.append(image[inside])
            true.append(distorted[inside])
    return np.stack(pristine), np.stack(true)


def _distorted(folder: Path, precision: str, tiles: NDArray[np.uint8], draw: str) -> NDArray[np.uint8]:
    seeds = [derive_seed(0, draw, index) for index in range(len(tiles))]
    return load_generator(folder, batch_size=16, precision=precision).predictor.distort(tiles, seeds)


def _pooled(tiles: NDArray[np.uint8]) -> list[Counts]:
    """Return the histogram of each image's tiles."""
    counts = [product_histogram(tile) for tile in tiles]
    return [np.sum(counts[first : first + TILES_EACH], axis=0) for first in range(0, len(counts), TILES_EACH)]


def _scores(generated: Sequence[Counts], true: Sequence[Counts]) -> list[float]:
    return [jsd_bits(*pair) for pair in zip(true, generated, strict=True)]


def _floor(counts: Sequence[Counts]) -> float:
    """Return the mean divergence of random halves of each histogram, over 2, as halves have half the values."""
    rng = make_rng(0)
    halves = [rng.multivariate_hypergeometric(histogram, int(histogram.sum()) // 2) for histogram in counts]
    return float(np.mean([jsd_bits(half, all_ - half) / 2 for half, all_ in zip(halves, counts, strict=True)]))


def _mean(scores: Sequence[float]) -> str:
    return f"mean {np.mean(scores):.4f}"
