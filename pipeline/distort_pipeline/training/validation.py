"""Validation on unseen photographs: figures, statistics and calibration of a generator, for its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.config import CALIBRATED
from distort_pipeline.data.conditions import SEVERITY
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import marked_png
from distort_pipeline.data.pairs import PairStore, Recipe
from distort_pipeline.data.severity_search import monotone
from distort_pipeline.distortions import LevelScale, declared_scale
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.acceptance import TileStatistics, ValidationStatistics, content_statistics
from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB, gmsd, psnr, ssim
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.card import Figures, LearnedLevel, TrainingData
from distort_pipeline.models.store import ValidationHistograms
from distort_pipeline.networks.composed import ComposedPredictor, TileSource
from distort_pipeline.networks.wavelets import Significance, Significances, significance_of
from distort_pipeline.records import TILE_ALIGN_PX, Image, Images, derive_seed, spread_tiles
from distort_pipeline.reports.pages import amplified_residual, side_by_side

if TYPE_CHECKING:
    from distort_pipeline.networks.predictor import Predictor

    AnyPredictor: TypeAlias = Predictor | ComposedPredictor

TILE_PX = 256
SIDE_BY_SIDE_ROWS = 3


@dataclass(frozen=True)
class ValidationTiles:
    """Tiles of the validation images, (N, 256, 256, 3), at a single severity, and the image of each.

    `significances` (N, 18) are of the whole images, see `networks/wavelets.py`; `sources` say where in their
    images the tiles lie.
    """

    pristine: Images
    true: Images
    images: NDArray[np.int64]
    significances: Significances
    severity: float
    sources: tuple[TileSource, ...]

    @property
    def statistics(self) -> ValidationStatistics:
        """The statistics of every true tile, and the content of its pristine tile."""
        content = np.stack([content_statistics(tile) for tile in self.pristine])
        return ValidationStatistics(TileStatistics.of(self.pristine, self.true), content, self.images)

    def histograms(self, predictor: AnyPredictor, seed: int) -> tuple[ValidationHistograms, Images]:
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


def figures_of(histograms: ValidationHistograms, *, delta_psnr_db: float) -> Figures:
    """Return the figures of a level from the histograms of its validation tiles."""
    per_image, identity_baseline = [], []
    for image in np.unique(histograms.images):
        rows = histograms.images == image
        true = histograms.true[rows].sum(0)
        per_image.append(jsd_bits(true, histograms.generated[rows].sum(0)))
        identity_baseline.append(jsd_bits(true, histograms.pristine[rows].sum(0)))
    return Figures(
        jsd_nss=float(np.mean(per_image)),
        jsd_nss_pooled=jsd_bits(histograms.true.sum(0), histograms.generated.sum(0)),
        jsd_nss_pristine=float(np.mean(identity_baseline)),
        delta_psnr_db=delta_psnr_db,
    )


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


STEPS = 20  # of position among the levels: four between two of five


def calibrate(
    predictor: AnyPredictor,
    pristine: Images,
    seeds: Sequence[int],
    significances: Significances | None = None,
    *,
    highest: float,
) -> dict[str, list[float]]:
    """Return the calibration of a multi-level generator, as read by `metrics/severity_sweep.py`.

    `pristine` are validation tiles (N, H, W, 3), each distorted with its own of N `seeds`, the same at every severity;
    `significances` (N, 18) are the statistics of their whole images; `highest` is the severity of the last level. PSNR
    counts up to 60 dB a tile. Means improving with severity are pooled with their neighbours.
    """
    severities = [highest * step / STEPS for step in range(STEPS)] + [highest]
    means = [_means(predictor, pristine, seeds, severity, significances) for severity in severities]
    curves = {measure: monotone(measure, [row[measure] for row in means]) for measure in CALIBRATED}
    return {SEVERITY: severities, **curves}


def _means(
    predictor: AnyPredictor,
    pristine: Images,
    seeds: Sequence[int],
    severity: float,
    significances: Significances | None,
) -> dict[str, float]:
    """Return the means of each measure over the tiles at this severity."""
    generated = predictor.distort(pristine, seeds, [severity] * len(pristine), significances)
    rows = [_measured(clean, bad) for clean, bad in zip(pristine, generated, strict=True)]
    return {measure: fmean(row[measure] for row in rows) for measure in CALIBRATED}


def _measured(pristine: Image, distorted: Image) -> dict[str, float]:
    return {
        "psnr": min(psnr(pristine, distorted), HIGHEST_PSNR_DB),
        "ssim": ssim(pristine, distorted),
        "gmsd": gmsd(pristine, distorted),
    }


COMPOSED_CALIBRATION_TILES = 8  # at 21 severities; a network takes a third of a second for a tile
FINAL_TILES = 8  # times the tiles of a validation during training


class Validator:
    """Validates `predictor` at the `levels` of a pair store, weakest first, on about `count` tiles in all."""

    def __init__(
        self,
        pairs: PairStore,
        distortion: str,
        levels: Sequence[int],
        predictor: AnyPredictor,
        *,
        count: int,
        seed: int,
    ) -> None:
        self._pairs, self._distortion, self._levels, self._predictor = pairs, distortion, levels, predictor
        recipes = [recipe for recipe in pairs.recipes(distortion) if recipe.level in levels]
        self._severities = level_scale(recipes).severities
        self._count, self._seed, self._distortion_seed = count, seed, derive_seed(seed, distortion)
        self._training_tiles = list(self._tiles(-(-count // len(levels))))

    def along(self, step: int, side_by_side: Path) -> Figures:
        """Return the mean figures of the levels, and write a PNG for each level to the folder `side_by_side`."""
        level_figures = []
        for level, tiles in self._training_tiles:
            figures, _, generated = self._validated(tiles)
            suffix = f"-level-{level}" if len(self._levels) > 1 else ""
            write_bytes(side_by_side / f"{step:08d}{suffix}.png", marked_png(validation_side_by_side(tiles, generated)))
            level_figures.append(figures)
        return mean_figures(level_figures)

    def final(self) -> tuple[list[Figures], list[ValidationHistograms]]:
        """Return figures and histograms of each level, on many tiles of each; of external pairs, statistics too."""
        external = any(recipe.external for recipe in self._pairs.recipes(self._distortion))
        results = []
        for _, tiles in self._tiles(FINAL_TILES * self._count):
            figures, histograms, _ = self._validated(tiles)
            histograms = dataclasses.replace(histograms, statistics=tiles.statistics if external else None)
            results.append((figures, histograms))
        return [figures for figures, _ in results], [histograms for _, histograms in results]

    def calibration(self) -> dict[str, list[float]] | None:
        """Return the calibration of a generator that takes any severity; None for another."""
        composed = isinstance(self._predictor, ComposedPredictor)
        if len(self._levels) == 1 and not composed:
            return None
        count = min(self._count, COMPOSED_CALIBRATION_TILES) if composed else self._count
        tiles = self._tiles_of(self._levels[-1], self._severities[-1], count)
        seeds = [derive_seed(self._distortion_seed, "calibration", index) for index in range(len(tiles.pristine))]
        highest = self._severities[-1]
        return calibrate(self._predictor, tiles.pristine, seeds, tiles.significances, highest=highest)

    def _tiles(self, count: int) -> Iterator[tuple[int, ValidationTiles]]:
        """Yield each level with about `count` tiles; only a single level's tiles are kept at a time."""
        for level, severity in zip(self._levels, self._severities, strict=True):
            yield level, self._tiles_of(level, severity, count)

    def _tiles_of(self, level: int, severity: float, count: int) -> ValidationTiles:
        return validation_tiles(self._pairs, self._distortion, level, severity=severity, count=count, seed=self._seed)

    def _validated(self, tiles: ValidationTiles) -> tuple[Figures, ValidationHistograms, Images]:
        """Return the figures, the histograms and the generated tiles."""
        histograms, generated = tiles.histograms(self._predictor, self._distortion_seed)
        return figures_of(histograms, delta_psnr_db=delta_psnr_db(tiles, generated)), histograms, generated


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """Return the mean over levels of each figure."""
    rows = [dataclasses.astuple(level) for level in figures]
    return Figures(*map(fmean, zip(*rows, strict=True)))


COLOURLESS = 1.0  # 8-bit levels, mean range of the channels: grey images after a codec stay below


def learned_levels(recipes: Sequence[Recipe], figures: Sequence[Figures]) -> tuple[LearnedLevel, ...]:
    """Return the levels for the model card, weakest first."""
    levels = zip(recipes, level_scale(recipes).severities, figures, strict=True)
    return tuple(LearnedLevel(r.level, r.parameters, severity, figure) for r, severity, figure in levels)


def level_scale(recipes: Sequence[Recipe]) -> LevelScale:
    """Return the levels of these `recipes`, weakest first, on the severity scale of their distortion."""
    distortion, external = recipes[0].distortion, recipes[0].external
    levels = tuple(recipe.parameters for recipe in recipes)
    return LevelScale(distortion, levels, None if external else declared_scale(distortion))


def training_data(pairs: PairStore, distortion: str) -> TrainingData:
    """Return the description of the training pairs for the model card."""
    metadata = pairs.metadata
    return TrainingData(
        pairs_digest=metadata.digest,
        manifest_digest=metadata.manifest_digest,
        train_tiles=metadata.counts.train_tiles,
        val_images=metadata.counts.val_images,
        grey=is_grey(pairs, distortion),
    )


def is_grey(pairs: PairStore, distortion: str) -> bool:
    """Return whether all pristine training tiles of `distortion` are grey; reads tiles up to the first colour."""
    tiles = pairs.tile_array("train/pristine")
    slots = sorted({record.slot for record in pairs.records("train") if record.distortion == distortion})
    return all(np.ptp(tiles.read([slot]), axis=-1).mean() < COLOURLESS for slot in slots)
