"""What is true of batches whose samples share their parameters: the shards of reference tiles hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from distort_pipeline.pixels import Image
from distort_pipeline.reports.batch import TruthStats
from distort_pipeline.stores.truths import Truth


def truth_stats(
    truths: Mapping[int, Truth],
    numbers: Sequence[int],
    per_shard: int,
    *,
    same_level_conditions: Mapping[str, str],
    condition_levels: Mapping[str, int],
) -> TruthStats:
    """Return the true distortions' measures of those samples whose tiles have them; `numbers` are the samples' tiles.

    `truths` are those of the shards, by number. `peers` (condition → distortion) are what the batch is held against,
    `rungs` (condition → level) the other levels of its own distortion.
    """
    places, found = [], []
    for place, number in enumerate(numbers):
        truth = truths[number // per_shard]
        position = int(np.searchsorted(truth.rows, number % per_shard))
        if position < len(truth.rows) and truth.rows[position] == number % per_shard:
            places.append(place)
            found.append((truth, position))
    known = found[0][0].histograms if found else {}
    columns = {condition: name for condition, name in same_level_conditions.items() if condition in known}
    return TruthStats(
        places=np.array(places, np.int64),
        histograms={
            name: np.stack([truth.histograms[condition][row] for truth, row in found])
            for condition, name in columns.items()
        },
        psnr={
            name: np.array([truth.psnr[condition][row] for truth, row in found]) for condition, name in columns.items()
        },
        ssim={
            name: np.array([truth.ssim[condition][row] for truth, row in found]) for condition, name in columns.items()
        },
        levels={
            level: np.stack([truth.histograms[condition][row] for truth, row in found])
            for condition, level in condition_levels.items()
            if condition in known
        },
    )


def true_examples(truths: Mapping[int, Truth], numbers: Sequence[int], condition: str) -> dict[int, Image]:
    """Return place in the batch → true image, for those samples whose tiles' shards keep one."""
    as_path = {number: place for place, number in reversed(list(enumerate(numbers)))}
    found: dict[int, Image] = {}
    for truth in truths.values():
        true = truth.examples.get(condition)
        for turn, row in enumerate(truth.example_rows):
            place = as_path.get(truth.first_tile + int(row))
            if true is not None and place is not None:
                found[place] = true[turn]
    return found
