"""Validation of a generator on tiles of each learned level: during training, and at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from distort_pipeline.reports.side_by_side import png_bytes
from distort_pipeline.seeds import derive_seed
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.stores.models import ValidationHistograms
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.calibration import calibrate
from distort_pipeline.training.validation import (
    ValidationTiles,
    delta_psnr_db,
    summary,
    validation_side_by_side,
    validation_tiles,
)

if TYPE_CHECKING:
    from distort_pipeline.networks.predictor import Predictor
    from distort_pipeline.pixels import Images

Figures = dict[str, float]
FINAL_TILES = 8  # times the tiles of a validation during training


class Validator:
    """Validates `predictor` at the `levels` of a pair store, weakest first, on about `count` tiles in all."""

    def __init__(
        self, pairs: PairStore, distortion: str, levels: Sequence[int], predictor: Predictor, *, count: int, seed: int
    ) -> None:
        self._pairs, self._distortion, self._levels, self._predictor = pairs, distortion, levels, predictor
        self._count, self._seed, self._distortion_seed = count, seed, derive_seed(seed, distortion)
        self._training_tiles = list(self._tiles(-(-count // len(levels))))

    def along(self, step: int, side_by_side: Path) -> Figures:
        """Return the mean figures of the levels, and write a PNG for each level to the folder `side_by_side`."""
        level_figures = []
        for level, tiles in self._training_tiles:
            figures, _, generated = self._validated(tiles)
            suffix = f"-level-{level}" if len(self._levels) > 1 else ""
            write_bytes(side_by_side / f"{step:08d}{suffix}.png", png_bytes(validation_side_by_side(tiles, generated)))
            level_figures.append(figures)
        return mean_figures(level_figures)

    def final(self) -> tuple[list[Figures], list[ValidationHistograms]]:
        """Return the figures and the histograms of each level, on many tiles of each."""
        results = [self._validated(tiles)[:2] for _, tiles in self._tiles(FINAL_TILES * self._count)]
        return [figures for figures, _ in results], [histograms for _, histograms in results]

    def calibration(self) -> dict[str, list[float]] | None:
        """Return the calibration of a multi-level generator; None for a single level."""
        if len(self._levels) == 1:
            return None
        tiles = self._tiles_of(self._levels[-1], 1.0, self._count)
        seeds = [derive_seed(self._distortion_seed, "calibration", index) for index in range(len(tiles.pristine))]
        return calibrate(self._predictor, tiles.pristine, seeds, tiles.significances)

    def _tiles(self, count: int) -> Iterator[tuple[int, ValidationTiles]]:
        """Yield each level with about `count` tiles; only a single level's tiles are kept at a time."""
        for rank, level in enumerate(self._levels, start=1):
            yield level, self._tiles_of(level, rank / len(self._levels), count)

    def _tiles_of(self, level: int, severity: float, count: int) -> ValidationTiles:
        return validation_tiles(self._pairs, self._distortion, level, severity=severity, count=count, seed=self._seed)

    def _validated(self, tiles: ValidationTiles) -> tuple[Figures, ValidationHistograms, Images]:
        """Return the figures, the histograms and the generated tiles."""
        histograms, generated = tiles.histograms(self._predictor, self._distortion_seed)
        return {**summary(histograms), "delta_psnr_db": delta_psnr_db(tiles, generated)}, histograms, generated


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """Return the mean over levels of each figure."""
    return {name: fmean(level[name] for level in figures) for name in figures[0]}
