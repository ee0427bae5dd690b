"""How small a divergence can be, and how large before it means something: floors, and bounds for whole batches.

All functions take histograms as counts, so that nothing needs the images again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distort_pipeline.statistics.divergence import NATS_PER_BIT, jsd_bits, jsd_bits_rows
from distort_pipeline.statistics.histograms import Counts

QUANTILE = 0.99
DRAWS = 1000
# bits: what twenty photographs differ from twenty others by, under one true distortion. A bound is never tighter: a
# generator whose validation was better than that would be distrusted for the content of a batch.
MIN_THRESHOLD_BITS = 0.002


def expected_floor_bits(bins: int, n: int) -> float:
    """Return the mean divergence in bits of two samples of `n` values each from one distribution over `bins` bins.

    (K - 1) / (4 n) nats: 4 n times the divergence is the likelihood-ratio statistic of two equal samples, about
    chi-square with K - 1 degrees of freedom. Only bins that values do reach count as K.

    >>> round(expected_floor_bits(101, 255 * 255), 6)
    0.000555
    """
    return (bins - 1) / (4 * n) / NATS_PER_BIT


def split_half_floor(counts: Counts, rng: np.random.Generator) -> float:
    """Return the sampling floor in bits of one image's histogram: the divergence of random halves, divided by 2.

    For deterministic distortions, which have no second draw. Halves hold half the values, hence twice the divergence.
    Neighbouring products are not independent, but a random half does not know: this is the floor of the count alone.
    """
    # the histogram of a random half of the values, drawn without the values themselves
    half = rng.multivariate_hypergeometric(counts, int(counts.sum()) // 2)
    return jsd_bits(half, counts - half) / 2


def between_content_baseline(histograms: NDArray[np.int64], ordering: ArrayLike) -> float:
    """Return the divergence in bits between two disjoint halves of the images, each pooled.

    `histograms` is (n, bins), one row for each image under the same true distortion; `ordering` is a permutation of
    0 … n - 1, of which the first n // 2 images are the one half. It measures content: what other images alone do.
    """
    order = np.asarray(ordering)
    if len(histograms) < 2 or sorted(order.tolist()) != list(range(len(histograms))):
        raise ValueError(f"expected a permutation of two or more images, 0 to {len(histograms) - 1}, got {order}")
    half = len(order) // 2
    return jsd_bits(histograms[order[:half]].sum(0), histograms[order[half:]].sum(0))


def bootstrap_threshold(
    generated: NDArray[np.int64],
    true: NDArray[np.int64],
    groups: NDArray[np.integer],
    size: int,
    images: int | None = None,
    *,
    quantile: float = QUANTILE,
    draws: int = DRAWS,
    rng: np.random.Generator,
) -> float:
    """Return the `quantile` of the divergence in bits between `size` generated tiles and the true ones beside them.

    `generated` and `true` are (n, bins), row by row the same tile; `groups` (n,) says which image a tile is from.
    Each of `draws` resamples so many `images` (as many as there are), then tiles of those, and pools both sides over
    the same tiles: what a batch of `size` from so many photographs would show if the generator is as it was in
    validation. Above it, something has changed. Few photographs vary more than many.
    """
    if generated.shape != true.shape:
        raise ValueError(f"paired histograms must have one shape, got {generated.shape} and {true.shape}")
    times = _times_drawn(groups, len(generated), size, images, draws, rng)
    return float(np.quantile(jsd_bits_rows(_pooled(times, generated), _pooled(times, true)), quantile))


def bootstrap_threshold_unpaired(
    generated: NDArray[np.int64],
    true_pool: Counts,
    groups: NDArray[np.integer],
    size: int,
    images: int | None = None,
    *,
    quantile: float = QUANTILE,
    draws: int = DRAWS,
    rng: np.random.Generator,
) -> float:
    """Return the `quantile` of the divergence in bits between `size` generated tiles and one pooled true histogram.

    As bootstrap_bound, for batches whose true distortion cannot be made: `true_pool` (bins,) stays as it is, so that
    the bound holds the variation of content too and is wider.
    """
    times = _times_drawn(groups, len(generated), size, images, draws, rng)
    return float(np.quantile(jsd_bits_rows(_pooled(times, generated), true_pool), quantile))


def _times_drawn(
    groups: NDArray[np.integer], tiles: int, size: int, images: int | None, draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how often each tile is drawn in each draw, (draws, tiles): rows add up to `size`."""
    if groups.shape != (tiles,) or tiles == 0 or size < 1 or draws < 1:
        raise ValueError(
            f"expected one group for each of 1 or more tiles, and a size and draws of 1 or more; got groups of shape "
            f"{groups.shape} for {tiles} tiles, size {size}, draws {draws}"
        )
    there, image_of_tile = np.unique(groups, return_inverse=True)
    times_image = rng.multinomial(images or len(there), np.full(len(there), 1 / len(there)), size=draws)
    weights = times_image[:, image_of_tile].astype(np.float64)
    return rng.multinomial(size, weights / weights.sum(1, keepdims=True))


def _pooled(times: NDArray[np.int64], histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pooled histograms of all draws, (draws, bins): whole numbers, exact in float64, where `@` is fast."""
    return times.astype(np.float64) @ histograms.astype(np.float64)
