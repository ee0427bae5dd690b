"""Classifier two-sample tests and TSTR on the tiles of an evaluation.

C2ST: can a classifier discriminate two kinds of tiles, on unseen photographs? Lopez-Paz and Oquab, "Revisiting
Classifier Two-Sample Tests", ICLR 2017. TSTR: is a classifier of distortions, or a regressor of severity, trained on
generated tiles right about true ones?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.c2st import Accuracy, SeverityTSTR, TSTRResult, accuracy, rank_correlation
from distort_pipeline.metrics.classifier import MultiLevelTiles, SeverityRegressor, TileClassifier, folds
from distort_pipeline.records import Images, derive_seed, make_rng


def two_sample_test(
    images: Sequence[tuple[Images, Images]],
    classifier: TileClassifier,
    *,
    fold_count: int,
    rng: np.random.Generator,
) -> Accuracy:
    """Return the accuracy in discriminating two kinds of tiles, each (N, 64, 64, 3), of two `images` or more."""
    right, tiles = [0] * len(images), [0] * len(images)
    for train, test in folds(len(images), fold_count, rng):
        chosen = [images[index] for index in train]
        firsts, seconds = (np.concatenate([kinds[kind] for kinds in chosen]) for kind in (0, 1))
        kinds = np.repeat([0, 1], [len(firsts), len(seconds)])
        classifier.fit(np.concatenate([firsts, seconds]), kinds, rng)
        for index in test:
            for kind, kind_tiles in enumerate(images[index]):
                right[index] += int(np.count_nonzero(classifier.predict(kind_tiles) == kind))
                tiles[index] += len(kind_tiles)
    return accuracy(right, tiles)


def random_split(tiles: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Return two random splits of `tiles`, the first the larger for an odd number."""
    order = rng.permutation(len(tiles))
    return tiles[order[::2]], tiles[order[1::2]]


Kinds = Sequence[Images]  # tiles (N, 64, 64, 3) of each kind, in the order of their names


def tstr_of(
    images: Sequence[tuple[Kinds, Kinds]],
    names: Sequence[str],
    classifier: TileClassifier,
    *,
    fold_count: int,
    seeds: tuple[int, int],
) -> TSTRResult:
    """Return the accuracy on true tiles of a classifier trained on generated tiles (TSTR), and on true tiles (TRTR).

    Each of the `images`, two or more, has its (generated, true) tiles of every kind. Both classifiers start from
    the same `seeds`, for the folds and for the training, and see the same positions in the same order.
    """
    results = {}
    for index, source in enumerate(("generated", "true")):
        results[source] = _train_and_test(
            [(tiles[index], tiles[1]) for tiles in images],
            len(names),
            classifier,
            fold_count=fold_count,
            seeds=seeds,
        )
    return TSTRResult(
        tuple(names),
        tstr=results["generated"][0],
        trtr=results["true"][0],
        confusion={source: matrix for source, (_, matrix) in results.items()},
    )


def _train_and_test(
    images: Sequence[tuple[Kinds, Kinds]],
    kinds: int,
    classifier: TileClassifier,
    *,
    fold_count: int,
    seeds: tuple[int, int],
) -> tuple[Accuracy, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Return accuracy and confusion matrix of a classifier trained on the first and tested on the second of each."""
    rng = np.random.default_rng(seeds[1])
    confusion = np.zeros((kinds, kinds), np.int64)
    right, tiles = [0] * len(images), [0] * len(images)
    for train, test in folds(len(images), fold_count, np.random.default_rng(seeds[0])):
        training_tiles = [kind_tiles for index in train for kind_tiles in images[index][0]]
        numbers = np.concatenate(
            [np.full(len(kind_tiles), kind) for index in train for kind, kind_tiles in enumerate(images[index][0])]
        )
        classifier.fit(np.concatenate(training_tiles), numbers, rng)
        for index in test:
            for kind, kind_tiles in enumerate(images[index][1]):
                counts = np.bincount(classifier.predict(kind_tiles), minlength=kinds)
                confusion[kind] += counts
                right[index] += int(counts[kind])
                tiles[index] += len(kind_tiles)
    return accuracy(right, tiles), confusion


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
