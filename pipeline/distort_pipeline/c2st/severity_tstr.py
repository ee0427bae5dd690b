"""Train on generated, test on true: does a network that has only seen generated severities rank true ones?"""

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
    """What one photograph has to show: untouched tiles, and those of each distortion at its levels in turn."""

    pristine: Images
    multi_level: Mapping[str, MultiLevelTiles]  # by true distortion


def severity_tstr_of(
    photographs: Sequence[FoldData], regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> SeverityTSTR:
    """Return how a network taught by generated tiles, and one taught by true tiles, rank true ones by severity.

    One network learns all distortions and the untouched tiles, whose severity is 0. Both start from the same `seed` and
    see the same places in the same order. There are two `photographs` or more, each with the same distortions.
    """
    names = list(photographs[0].multi_level)
    severities = {name: [own.multi_level[name].severities for own in photographs] for name in names}
    tstr_result = {}
    for source in TRAINED_ON:
        predicted = _predicted(photographs, source, regressor, fold_count=fold_count, seed=seed)
        tstr_result[source] = {
            name: rank_correlation(predicted[name], severities[name], make_rng(derive_seed(seed, "resampled", name)))
            for name in names
        }
    return SeverityTSTR(tstr_result["generated"], tstr_result["true"])


def _predicted(
    photographs: Sequence[FoldData], source: str, regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> dict[str, list[NDArray[np.float32]]]:
    """Return distortion → what was predicted of the true tiles of each photograph, by a network fitted on others."""
    rng = make_rng(derive_seed(seed, "fitted"))
    predicted: dict[str, list[NDArray[np.float32]]] = {
        name: [np.empty(0, np.float32)] * len(photographs) for name in photographs[0].multi_level
    }
    for fitted, judged in folds(len(photographs), fold_count, make_rng(derive_seed(seed, "folds"))):
        tiles, severities = zip(*(_training_tiles(photographs[place], source) for place in fitted), strict=True)
        regressor.fit(np.concatenate(tiles), np.concatenate(severities), rng)
        for place in judged:
            for name, own in photographs[place].multi_level.items():
                predicted[name][place] = regressor.tell(own.true)
    return predicted


def _training_tiles(photograph: FoldData, source: str) -> tuple[Images, NDArray[np.float32]]:
    """Return tiles of one photograph to learn from, and their severities."""
    multi_level = photograph.multi_level.values()
    tiles = [photograph.pristine, *(own.generated if source == "generated" else own.true for own in multi_level)]
    severities = [np.zeros(len(photograph.pristine), np.float32), *(own.severities for own in multi_level)]
    return np.concatenate(tiles), np.concatenate(severities)
