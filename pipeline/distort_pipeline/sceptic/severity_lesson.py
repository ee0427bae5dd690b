"""Train on generated, test on true: does a network that has only seen generated severities rank true ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ranges import Images
from distort_pipeline.sceptic.classifier import SeverityRegressor
from distort_pipeline.sceptic.folds import folds
from distort_pipeline.sceptic.tiles import GradedTiles
from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.statistics.told import SeverityLesson, rank_correlation

TEACHERS = ("generated", "true")


@dataclass(frozen=True)
class Shown:
    """What one photograph has to show: untouched tiles, and those of each distortion at its levels in turn."""

    pristine: Images
    graded: Mapping[str, GradedTiles]  # by true distortion


def teach_severity(
    photographs: Sequence[Shown], regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> SeverityLesson:
    """Return how a network taught by generated tiles, and one taught by true tiles, rank true ones by severity.

    One network learns all distortions and the untouched tiles, whose severity is 0. Both start from the same `seed` and
    see the same places in the same order. There are two `photographs` or more, each with the same distortions.
    """
    names = list(photographs[0].graded)
    severities = {name: [own.graded[name].severities for own in photographs] for name in names}
    lesson = {}
    for teacher in TEACHERS:
        told = _told(photographs, teacher, regressor, fold_count=fold_count, seed=seed)
        lesson[teacher] = {
            name: rank_correlation(told[name], severities[name], generator(derive_seed(seed, "resampled", name)))
            for name in names
        }
    return SeverityLesson(lesson["generated"], lesson["true"])


def _told(
    photographs: Sequence[Shown], teacher: str, regressor: SeverityRegressor, *, fold_count: int, seed: int
) -> dict[str, list[NDArray[np.float32]]]:
    """Return distortion → what was told of the true tiles of each photograph, by a network fitted on others."""
    rng = generator(derive_seed(seed, "fitted"))
    told: dict[str, list[NDArray[np.float32]]] = {
        name: [np.empty(0, np.float32)] * len(photographs) for name in photographs[0].graded
    }
    for fitted, judged in folds(len(photographs), fold_count, generator(derive_seed(seed, "folds"))):
        tiles, severities = zip(*(_lessons(photographs[place], teacher) for place in fitted), strict=True)
        regressor.fit(np.concatenate(tiles), np.concatenate(severities), rng)
        for place in judged:
            for name, own in photographs[place].graded.items():
                told[name][place] = regressor.tell(own.true)
    return told


def _lessons(photograph: Shown, teacher: str) -> tuple[Images, NDArray[np.float32]]:
    """Return tiles of one photograph to learn from, and their severities."""
    graded = photograph.graded.values()
    tiles = [photograph.pristine, *(own.generated if teacher == "generated" else own.true for own in graded)]
    severities = [np.zeros(len(photograph.pristine), np.float32), *(own.severities for own in graded)]
    return np.concatenate(tiles), np.concatenate(severities)
