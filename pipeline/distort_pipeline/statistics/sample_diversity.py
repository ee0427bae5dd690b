"""Sample diversity of a random distortion: two draws on one image, compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distort_pipeline.pixels import Image

# Pristine levels rarely clipped by noise: 64 levels to black and white are 2.5 standard deviations of our pink noise
DARKEST_LEVEL, BRIGHTEST_LEVEL = 64, 191
CORRELATION_GOAL = 0.05  # ours: largest difference between the generated and the true correlation
VARIANCE_GOAL = 0.10  # ours: largest difference of the ratio of variances from 1
FEWEST_VALUES = 1000  # ours; chance alone correlates a thousand pairs by 0.03


@dataclass(frozen=True)
class DrawLikeness:
    """Similarity of the residuals of two draws, over pixel values away from black and white."""

    correlation: float | None  # Pearson's: 0 for independent noise, 1 for identical draws; None without variation
    variance: float  # of a pixel value from draw to draw, mean over pixel values, in squared 8-bit levels


@dataclass(frozen=True)
class SampleDiversity:
    """Two draws of a generator against two draws of the truth."""

    correlation: float  # between the generator's draws; 1 for identical draws
    true_correlation: float
    variance_ratio: float  # of a pixel value from draw to draw, generated over true

    @property
    def independent(self) -> bool:
        """Whether generated draws correlate as true draws do, within CORRELATION_GOAL."""
        return abs(self.correlation - self.true_correlation) <= CORRELATION_GOAL

    @property
    def variance_matches(self) -> bool:
        """Whether the variance from draw to draw is that of the truth, within VARIANCE_GOAL."""
        return abs(self.variance_ratio - 1) <= VARIANCE_GOAL


def compare_draws(pristine: Image, first: Image, second: Image) -> DrawLikeness | None:
    """Return the similarity of two distorted versions of `pristine`; None if most pixels are near clipping.

    Pixels are chosen by the pristine image only: leaving out clipped output would cut the tails of the noise.
    """
    inside = (pristine >= DARKEST_LEVEL) & (pristine <= BRIGHTEST_LEVEL)
    if np.count_nonzero(inside) < FEWEST_VALUES:
        return None
    clean = pristine[inside].astype(np.float64)
    a, b = first[inside] - clean, second[inside] - clean
    variance = float(np.mean((a - b) ** 2)) / 2  # of two values: half their squared difference
    spread = a.std() * b.std()
    if spread == 0:
        return DrawLikeness(None, variance)
    return DrawLikeness(float(np.mean((a - a.mean()) * (b - b.mean())) / spread), variance)
