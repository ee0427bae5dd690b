"""Noise floors of the divergence, and acceptance thresholds for whole batches.

All functions take histograms as counts and need no images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distort_pipeline.statistics.divergence import NATS_PER_BIT, jsd_bits, jsd_bits_rows
from distort_pipeline.statistics.histograms import Counts

QUANTILE = 0.99
DRAWS = 1000
# bits: the divergence between twenty images and twenty others under the same true distortion. No acceptance threshold
# is lower: else a very good generator would be rejected for the content of a batch.
MIN_THRESHOLD_BITS = 0.002


def expected_floor_bits(bins: int, n: int) -> float:
    """Return the mean divergence in bits of two samples of `n` values each from one distribution over `bins` bins.

    (K - 1) / (4 n) nats: 4 n times the divergence is the likelihood-ratio statistic of two equal samples, about
    chi-square with K - 1 degrees of freedom. K counts only bins within the range of the values.

    >>> round(expected_floor_bits(101, 255 * 255), 6)
    0.000555
    """
    return (bins - 1) / (4 * n) / NATS_PER_BIT


def split_half_floor(counts: Counts, rng: np.random.Generator) -> float:
    """Return the split-half noise floor in bits of one image's histogram: the divergence of random halves, over 2.

    For deterministic distortions, without a second draw. Halves have half the values, hence twice the divergence.
    The dependence of neighbouring products is ignored: this is the floor of the count alone.
    """
    # the histogram of a random half of the values, drawn without the values themselves
    half = rng.multivariate_hypergeometric(counts, int(counts.sum()) // 2)
    return jsd_bits(half, counts - half) / 2


def between_content_baseline(histograms: NDArray[np.int64], ordering: ArrayLike) -> float:
    """Return the divergence in bits between two disjoint halves of the images, each pooled: the effect of content.

    `histograms` is (n, bins), a row for each image under the same true distortion; `ordering` is a permutation of
    0 … n - 1, whose first n // 2 images are the first half.
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
    """Return the `quantile` of the divergence in bits between `size` generated tiles and the same true tiles.

    `generated` and `true` are (n, bins), row by row the same tile; `groups` (n,) is the image of each tile. Each of
    `draws` resamples `images` images (default: all), then `size` of their tiles, and pools both sides over the same
    tiles. A batch above the threshold differs from the generator in validation. Few images vary more than many.
    """
    if generated.shape != true.shape:
        raise ValueError(f"paired histograms must have the same shape, got {generated.shape} and {true.shape}")
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

    As `bootstrap_threshold`, for batches whose true distortion is not available: `true_pool` (bins,) is fixed, so the
    threshold includes the variation of content and is higher.
    """
    times = _times_drawn(groups, len(generated), size, images, draws, rng)
    return float(np.quantile(jsd_bits_rows(_pooled(times, generated), true_pool), quantile))


def _times_drawn(
    groups: NDArray[np.integer], tiles: int, size: int, images: int | None, draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the multiplicity of each tile in each draw, (draws, tiles): rows add up to `size`."""
    if groups.shape != (tiles,) or tiles == 0 or size < 1 or draws < 1:
        raise ValueError(
            f"expected one group for each of 1 or more tiles, and a size and draws of 1 or more; got groups of shape "
            f"{groups.shape} for {tiles} tiles, size {size}, draws {draws}"
        )
    unique_images, image_of_tile = np.unique(groups, return_inverse=True)
    count = len(unique_images)
    times_image = rng.multinomial(images or count, np.full(count, 1 / count), size=draws)
    weights = times_image[:, image_of_tile].astype(np.float64)
    return rng.multinomial(size, weights / weights.sum(1, keepdims=True))


def _pooled(times: NDArray[np.int64], histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pooled histograms of all draws, (draws, bins): integers in float64, exact, for a fast `@`."""
    return times.astype(np.float64) @ histograms.astype(np.float64)
