"""All residual statistics of an image, of equal shapes for images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Grey, Image
from distort_pipeline.statistics.residuals import (
    SPECTRUM_BINS,
    SPECTRUM_HIGH,
    SPECTRUM_LOW,
    channel_correlation,
    grid_autocorrelation,
    grid_profile,
    radial_amplitude,
    residual,
    residual_mean,
    residual_variance,
)

ResidualFigures: TypeAlias = Mapping[
    str, NDArray[np.float64]
]  # mean, variance, correlation, power, grid, autocorrelation

_EDGES = np.geomspace(SPECTRUM_LOW, SPECTRUM_HIGH, SPECTRUM_BINS + 1)
FREQUENCIES: NDArray[np.float64] = np.sqrt(_EDGES[:-1] * _EDGES[1:])  # (16,) cycles per pixel: the rings' middles


def residual_figures(pristine: Image, distorted: Image) -> ResidualFigures:
    """Return mean, variance (3,), correlation (3, 3), power (16,) at FREQUENCIES, grid (8,) and autocorrelation (24,).

    `power` is in squared 8-bit levels, the mean over the channels; `grid` is the profile of the distorted image,
    `autocorrelation` of the steps of the residual. Sides of 32 px or more.
    """
    added = residual(pristine, distorted)
    return {
        "mean": residual_mean(added),
        "variance": residual_variance(added),
        "correlation": channel_correlation(added),
        "power": np.mean([_power(added[..., channel]) for channel in range(3)], axis=0),
        "grid": grid_profile(distorted),
        "autocorrelation": grid_autocorrelation(added),
    }


def mean_figures(figures: Sequence[ResidualFigures]) -> ResidualFigures:
    """Return the mean of each figure over images."""
    return {name: np.mean([image[name] for image in figures], axis=0) for name in figures[0]}


def slope(power: NDArray[np.float64]) -> float | None:
    """Return the slope of log amplitude over log frequency of `power` (16,): 0 white, -1 pink; None without power.

    >>> slope(FREQUENCIES**-2), slope(0 * FREQUENCIES)
    (-1.0, None)
    """
    if not (power > 0).all():
        return None
    return round(float(np.polyfit(np.log(FREQUENCIES), np.log(power) / 2, 1)[0]), 9)


def _power(field: Grey) -> NDArray[np.float64]:
    """Return the power of `field` at FREQUENCIES, interpolated: a small image has fewer rings."""
    frequencies, amplitudes = radial_amplitude(field)
    return np.interp(np.log(FREQUENCIES), np.log(frequencies), amplitudes**2)
