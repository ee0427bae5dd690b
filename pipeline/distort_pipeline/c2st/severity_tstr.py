"""TSTR of severity: does a regressor trained on generated tiles rank true tiles by severity?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.c2st.classifier import SeverityRegressor
from distort_pipeline.c2st.folds import folds
from distort_pipeline.c2st.tiles import MultiLevelTiles
from distort_pipeline.pixels import Images
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.c2st import SeverityTSTR, rank_correlation

TRAINED_ON = ("generated", "true")


@dataclass(frozen=True)
class FoldData:
    """The tiles of a photograph: pristine tiles, and tiles of each distortion with levels interleaved."""

    pristine: Images
    multi_level: Mapping[str, MultiLevelTiles]  # by true distortion


def severity_tstr_of(
    images: Sequence[FoldData], regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> SeverityTSTR:
    """Return the rank correlation on true tiles of regressors trained on generated and on true tiles.

    A single network learns all distortions and the pristine tiles, with severity 0. Both start from the same `seed` and
    see the same positions in the same order. There are two `images` or more, each with the same distortions.
    """
    names = list(images[0].multi_level)
    severities = {name: [image.multi_level[name].severities for image in images] for name in names}
    correlations = {}
    for source in TRAINED_ON:
        predicted = _predicted(images, source, regressor, fold_count=fold_count, seed=seed)
        correlations[source] = {
            name: rank_correlation(predicted[name], severities[name], make_rng(derive_seed(seed, "resampled", name)))
            for name in names
        }
    return SeverityTSTR(correlations["generated"], correlations["true"])


def _predicted(
    images: Sequence[FoldData], source: str, regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> dict[str, list[NDArray[np.float32]]]:
    """Return distortion → predictions for the true tiles of each photograph, by networks trained on the others."""
    rng = make_rng(derive_seed(seed, "fitted"))
    predicted: dict[str, list[NDArray[np.float32]]] = {
        name: [np.empty(0, np.float32)] * len(images) for name in images[0].multi_level
    }
    for train, test in folds(len(images), fold_count, make_rng(derive_seed(seed, "folds"))):
        tiles, severities = zip(*(_training_tiles(images[index], source) for index in train), strict=True)
        regressor.fit(np.concatenate(tiles), np.concatenate(severities), rng)
        for index in test:
            for name, level_tiles in images[index].multi_level.items():
                predicted[name][index] = regressor.predict(level_tiles.true)
    return predicted


def _training_tiles(image: FoldData, source: str) -> tuple[Images, NDArray[np.float32]]:
    """Return the training tiles of a photograph, and their severities."""
    multi_level = image.multi_level.values()
    tiles = [
        image.pristine,
        *(level_tiles.generated if source == "generated" else level_tiles.true for level_tiles in multi_level),
    ]
    severities = [
        np.zeros(len(image.pristine), np.float32),
        *(level_tiles.severities for level_tiles in multi_level),
    ]
    return np.concatenate(tiles), np.concatenate(severities)
