"""Each photograph is judged by a classifier that was fitted on others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def folds(
    photographs: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (photographs to fit on, photographs to judge) of up to `count` folds; each is judged once.

    >>> [(len(fit), len(judge)) for fit, judge in folds(5, 2, np.random.default_rng(0))]
    [(2, 3), (3, 2)]
    """
    order = rng.permutation(photographs)
    for judged in np.array_split(order, min(count, photographs)):
        yield np.setdiff1d(order, judged), judged
