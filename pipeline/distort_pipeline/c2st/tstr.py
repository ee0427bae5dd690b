"""TSTR of distortions: is a classifier trained on generated tiles right about true tiles?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distort_pipeline.c2st.classifier import TileClassifier
from distort_pipeline.c2st.folds import folds
from distort_pipeline.pixels import Images
from distort_pipeline.statistics.c2st import Accuracy, TSTRResult, accuracy

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
