"""Train on generated, test on true: is a classifier that has only seen generated distortions right about true ones?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distort_pipeline.c2st.classifier import TileClassifier
from distort_pipeline.c2st.folds import folds
from distort_pipeline.pixels import Images
from distort_pipeline.statistics.c2st import Accuracy, TSTRResult, accuracy

Kinds = Sequence[Images]  # tiles (N, 64, 64, 3) of each kind, in the order of their names


def tstr_of(
    photographs: Sequence[tuple[Kinds, Kinds]],
    names: Sequence[str],
    classifier: TileClassifier,
    *,
    fold_count: int,
    seeds: tuple[int, int],
) -> TSTRResult:
    """Return how well true tiles are named by a classifier taught by generated tiles, and by one taught by true ones.

    Each of the `photographs`, two or more, has its (generated, true) tiles of every kind. Both classifiers start from
    the same `seeds`, of the folds and of the fitting, and see the same places in the same order.
    """
    found = {}
    for turn, source in enumerate(("generated", "true")):
        found[source] = _train_and_test(
            [(own[turn], own[1]) for own in photographs], len(names), classifier, fold_count=fold_count, seeds=seeds
        )
    return TSTRResult(
        tuple(names),
        tstr=found["generated"][0],
        trtr=found["true"][0],
        confusion={source: named for source, (_, named) in found.items()},
    )


def _train_and_test(
    photographs: Sequence[tuple[Kinds, Kinds]],
    kinds: int,
    classifier: TileClassifier,
    *,
    fold_count: int,
    seeds: tuple[int, int],
) -> tuple[Accuracy, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Return the accuracy of a classifier fitted on the first and judged on the second of each, and what it named."""
    rng = np.random.default_rng(seeds[1])
    named = np.zeros((kinds, kinds), np.int64)
    right, tiles = [0] * len(photographs), [0] * len(photographs)
    for fitted, judged in folds(len(photographs), fold_count, np.random.default_rng(seeds[0])):
        shown = [own for place in fitted for own in photographs[place][0]]
        numbers = np.concatenate(
            [np.full(len(own), kind) for place in fitted for kind, own in enumerate(photographs[place][0])]
        )
        classifier.fit(np.concatenate(shown), numbers, rng)
        for place in judged:
            for kind, own in enumerate(photographs[place][1]):
                counts = np.bincount(classifier.name(own), minlength=kinds)
                named[kind] += counts
                right[place] += int(counts[kind])
                tiles[place] += len(own)
    return accuracy(right, tiles), named
