"""The two-sample test: can a classifier discriminate two kinds of tiles, on unseen photographs?

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
