"""Validation tiles: the distance of a generator's statistics from the true distortion's, on unseen photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.predictor import ComposedPredictor, TileSource
from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image, Images
from distort_pipeline.planning.tiles import TILE_ALIGN_PX, spread_tiles
from distort_pipeline.reports.side_by_side import amplified_residual, side_by_side
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.statistics.noise_floor import (
    MIN_THRESHOLD_BITS,
    bootstrap_threshold,
    bootstrap_threshold_unpaired,
)
from distort_pipeline.stores.models import ValidationHistograms
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.wavelets.significance import Significance, Significances, significance_of

if TYPE_CHECKING:
    from distort_pipeline.networks.predictor import Predictor

TILE_PX = 256
SIDE_BY_SIDE_ROWS = 3


@dataclass(frozen=True)
class ValidationTiles:
    """Tiles of the validation images, (N, 256, 256, 3), at a single severity, and the image of each.

    `significances` (N, 18) are of the whole images, see `wavelets/significance.py`; `sources` say where in their
    images the tiles lie.
    """

    pristine: Images
    true: Images
    images: NDArray[np.int64]
    significances: Significances
    severity: float
    sources: tuple[TileSource, ...]

    def histograms(self, predictor: Predictor | ComposedPredictor, seed: int) -> tuple[ValidationHistograms, Images]:
        """Return the JSD_NSS histograms of every tile, and the generated tiles."""
        seeds = [derive_seed(seed, "validation", index) for index in range(len(self.pristine))]
        if isinstance(predictor, ComposedPredictor):
            predictor.set_sources(dict(zip(seeds, self.sources, strict=True)))
        generated = predictor.distort(self.pristine, seeds, [self.severity] * len(seeds), self.significances)
        pristine, true, generated_histograms = (
            np.stack([product_histogram(tile) for tile in kind]) for kind in (self.pristine, self.true, generated)
        )
        return ValidationHistograms(pristine, true, generated_histograms, self.images, TILE_PX), generated


def validation_tiles(
    pairs: PairStore, distortion: str, level: int, *, severity: float, count: int, seed: int
) -> ValidationTiles:
    """Return about `count` tiles at `level`, equally many of each validation image, spread over the image."""
    records = [record for record in pairs.records("val") if (record.distortion, record.level) == (distortion, level)]
    if not records:
        raise PipelineError(f"{pairs.folder} holds no validation image of {distortion} at level {level}")
    pristine: list[Image] = []
    true: list[Image] = []
    images: list[int] = []
    significances: list[Significance] = []
    sources: list[TileSource] = []
    for index, (record, pristine_image, true_image) in enumerate(pairs.validation(distortion, level)):
        tiles = spread_tiles(
            record.height,
            record.width,
            tile_px=TILE_PX,
            count=-(-count // len(records)),
            align_px=TILE_ALIGN_PX,
            seed=derive_seed(seed, "validation", record.image_digest),
        )
        significance = significance_of(pristine_image)
        for tile in tiles:
            if min(tile.height, tile.width) < TILE_PX:
                continue
            crop = (slice(tile.y, tile.y + TILE_PX), slice(tile.x, tile.x + TILE_PX))
            pristine.append(pristine_image[crop])
            true.append(true_image[crop])
            images.append(index)
            significances.append(significance)
            image_seed = derive_seed(seed, "validation image", record.image_digest)
            read = partial(np.asarray, pristine_image)
            sources.append(TileSource(record.image_digest, read, tile.y, tile.x, image_seed))
    if not pristine:
        raise PipelineError(f"no validation image of {distortion} is {TILE_PX} px on both sides")
    stacks = (np.stack(pristine), np.stack(true), np.array(images), np.stack(significances))
    return ValidationTiles(*stacks, severity, tuple(sources))


def summary(histograms: ValidationHistograms) -> dict[str, float]:
    """Return JSD_NSS in bits, the mean over images (the paper's cell) and pooled, and the identity baseline's mean."""
    per_image, identity_baseline = [], []
    for image in np.unique(histograms.images):
        rows = histograms.images == image
        true = histograms.true[rows].sum(0)
        per_image.append(jsd_bits(true, histograms.generated[rows].sum(0)))
        identity_baseline.append(jsd_bits(true, histograms.pristine[rows].sum(0)))
    return {
        "jsd_nss": float(np.mean(per_image)),
        "jsd_nss_pooled": jsd_bits(histograms.true.sum(0), histograms.generated.sum(0)),
        "jsd_nss_pristine": float(np.mean(identity_baseline)),
    }


def batch_thresholds(
    histograms: ValidationHistograms, *, sizes: Sequence[int], seed: int
) -> dict[str, dict[str, float]]:
    """Return "paired" and "unpaired" → number of tiles, as text → acceptance threshold in bits for such a batch.

    The threshold is the 99 % quantile of bootstrapped validation batches, or 0.002 if larger.
    """
    thresholds: dict[str, dict[str, float]] = {"paired": {}, "unpaired": {}}
    pool = histograms.true.sum(0)
    for size in sizes:
        rng = make_rng(derive_seed(seed, "bound", size))
        images = histograms.images
        paired = bootstrap_threshold(histograms.generated, histograms.true, images, size, rng=rng)
        unpaired = bootstrap_threshold_unpaired(histograms.generated, pool, images, size, rng=rng)
        thresholds["paired"][str(size)] = max(paired, MIN_THRESHOLD_BITS)
        thresholds["unpaired"][str(size)] = max(unpaired, MIN_THRESHOLD_BITS)
    return thresholds


def delta_psnr_db(tiles: ValidationTiles, generated: Images) -> float:
    """Return the mean PSNR against pristine, generated minus true, in dB: positive if distorted too little."""
    differences = [
        psnr(pristine, generated_tile) - psnr(pristine, true)
        for pristine, true, generated_tile in zip(tiles.pristine, tiles.true, generated, strict=True)
    ]
    finite = [difference for difference in differences if np.isfinite(difference)]  # a tile may be unchanged
    return float(np.mean(finite)) if finite else 0.0


def validation_side_by_side(tiles: ValidationTiles, generated: Images) -> Image:
    """Return a side-by-side of a tile of each of the first images: pristine, true, generated and both residuals."""
    firsts = [int(np.flatnonzero(tiles.images == image)[0]) for image in np.unique(tiles.images)[:SIDE_BY_SIDE_ROWS]]
    rows = [
        [
            tiles.pristine[index],
            tiles.true[index],
            generated[index],
            amplified_residual(tiles.pristine[index], tiles.true[index]),
            amplified_residual(tiles.pristine[index], generated[index]),
        ]
        for index in firsts
    ]
    return side_by_side(rows, ["pristine", "true", "generated", "true residual x4", "generated residual x4"])
