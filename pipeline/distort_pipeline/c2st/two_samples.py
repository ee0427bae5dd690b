"""The two-sample test: can a classifier tell two kinds of tiles apart, on photographs that it was not fitted on?

Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distort_pipeline.c2st.classifier import TileClassifier
from distort_pipeline.c2st.folds import folds
from distort_pipeline.pixels import Images
from distort_pipeline.statistics.c2st import Accuracy, accuracy


def two_sample_test(
    photographs: Sequence[tuple[Images, Images]],
    classifier: TileClassifier,
    *,
    fold_count: int,
    rng: np.random.Generator,
) -> Accuracy:
    """Return how often the two kinds of tiles, each (N, 64, 64, 3), of two `photographs` or more are told apart."""
    right, tiles = [0] * len(photographs), [0] * len(photographs)
    for fitted, judged in folds(len(photographs), fold_count, rng):
        chosen = [photographs[place] for place in fitted]
        firsts, seconds = (np.concatenate([kinds[kind] for kinds in chosen]) for kind in (0, 1))
        kinds = np.repeat([0, 1], [len(firsts), len(seconds)])
        classifier.fit(np.concatenate([firsts, seconds]), kinds, rng)
        for place in judged:
            for kind, own in enumerate(photographs[place]):
                right[place] += int(np.count_nonzero(classifier.name(own) == kind))
                tiles[place] += len(own)
    return accuracy(right, tiles)


def random_halves(tiles: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Return two random halves of `tiles`, the first the larger if they are odd."""
    order = rng.permutation(len(tiles))
    return tiles[order[::2]], tiles[order[1::2]]
