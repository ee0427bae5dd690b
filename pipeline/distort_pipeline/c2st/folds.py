"""Cross-validation folds over photographs: no classifier is tested on photographs of its training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def folds(images: int, count: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (photographs for training, photographs for testing) of up to `count` folds; each is tested once.

    >>> [(len(train), len(test)) for train, test in folds(5, 2, np.random.default_rng(0))]
    [(2, 3), (3, 2)]
    """
    order = rng.permutation(images)
    for test in np.array_split(order, min(count, images)):
        yield np.setdiff1d(order, test), test
