"""How much of a random distortion is drawn anew: two draws on one image, compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distort_pipeline.pixels import Image

# Pristine greys that noise hardly clips: 64 steps to black and white are 2.5 standard deviations of our pink noise
DARKEST_LEVEL, BRIGHTEST_LEVEL = 64, 191
CORRELATION_GOAL = 0.05  # ours: how far apart the correlations of two draws may be, generated and true
VARIANCE_GOAL = 0.10  # ours: how far from 1 the ratio of the variances may be
FEWEST_VALUES = 1000  # ours; chance alone correlates a thousand pairs by 0.03


@dataclass(frozen=True)
class DrawLikeness:
    """How alike the residuals of two draws are, over pixel values away from black and white."""

    correlation: float | None  # Pearson's: 0 for fresh noise, 1 for the same again; None without any variation
    variance: float  # of a pixel value from draw to draw, mean over pixel values, in squared greys


@dataclass(frozen=True)
class SampleDiversity:
    """Two draws of a generator beside two draws of the truth."""

    correlation: float  # between the generator's; 1 is the same again
    true_correlation: float
    variance_ratio: float  # of a pixel value from draw to draw, generated over true

    @property
    def independent(self) -> bool:
        """Whether the generator's draws are no more alike than true ones."""
        return abs(self.correlation - self.true_correlation) <= CORRELATION_GOAL

    @property
    def variance_matches(self) -> bool:
        """Whether pixels vary from draw to draw as much as true ones."""
        return abs(self.variance_ratio - 1) <= VARIANCE_GOAL


def compare_draws(pristine: Image, first: Image, second: Image) -> DrawLikeness | None:
    """Return how alike two distorted versions of `pristine` are; None if hardly a pixel is away from clipping.

    The choice of pixels looks at the pristine image only: to leave out what came out clipped would cut the tails of
    the very noise that is measured.
    """
    inside = (pristine >= DARKEST_LEVEL) & (pristine <= BRIGHTEST_LEVEL)
    if np.count_nonzero(inside) < FEWEST_VALUES:
        return None
    clean = pristine[inside].astype(np.float64)
    one, other = first[inside] - clean, second[inside] - clean
    variance = float(np.mean((one - other) ** 2)) / 2  # of two values: half their squared difference
    spread = one.std() * other.std()
    if spread == 0:
        return DrawLikeness(None, variance)
    return DrawLikeness(float(np.mean((one - one.mean()) * (other - other.mean())) / spread), variance)
