"""Statistics of residuals, distorted minus pristine: mean, colour, spectrum, 8x8 grid; and of two draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from distort_pipeline.metrics.jsd_nss import luma
from distort_pipeline.records import Grey, Image

Residual: TypeAlias = NDArray[np.float32]  # (H, W, 3), 8-bit levels, -255 to 255

JPEG_BLOCK_PX = 8
SPECTRUM_LOW = 1 / 64  # cycles per pixel: a period of 64 px, still several frequencies above 0 on a tile of 256 px
SPECTRUM_HIGH = 1 / 2  # the highest along an axis; the corners of the plane beyond it have no full circle
SPECTRUM_BINS = 16
GRID_LAGS_PX = 24  # three blocks
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # BT.601

_EDGES = np.geomspace(SPECTRUM_LOW, SPECTRUM_HIGH, SPECTRUM_BINS + 1)
FREQUENCIES: NDArray[np.float64] = np.sqrt(_EDGES[:-1] * _EDGES[1:])  # (16,) cycles per pixel: the rings' middles


@dataclass(frozen=True)
class ResidualFigures:
    """Statistics of the residual of an image with sides of 32 px or more, or their means over images."""

    mean: NDArray[np.float64]  # (3,) R, G, B, 8-bit levels: not 0 where colours are shifted
    variance: NDArray[np.float64]  # (3,) of the pixels of a channel, squared 8-bit levels
    correlation: NDArray[np.float64]  # (3, 3) between channels
    power: NDArray[np.float64]  # (16,) at FREQUENCIES, squared 8-bit levels, mean over channels
    grid: NDArray[np.float64]  # (8,) `grid_profile` of the distorted image
    autocorrelation: NDArray[np.float64]  # (24,) `grid_autocorrelation` of the residual

    @property
    def amplitude(self) -> NDArray[np.float64]:
        """The root-mean-square amplitude at FREQUENCIES in 8-bit levels, (16,)."""
        return np.sqrt(self.power)

    @property
    def spectral_slope(self) -> float | None:
        """The slope of log amplitude over log frequency: 0 for white noise, -1 for pink; None without power."""
        if not (self.power > 0).all():
            return None
        return round(float(np.polyfit(np.log(FREQUENCIES), np.log(self.power) / 2, 1)[0]), 9)

    @property
    def blocking(self) -> float | None:
        """The mean step across the 8x8 grid over the mean step inside blocks, 1 without blocking; None for no steps."""
        return float(self.grid[0] / self.grid[1:].mean()) if self.grid[1:].any() else None


def residual_figures(pristine: Image, distorted: Image) -> ResidualFigures:
    """Return the statistics of the residual of `distorted`."""
    added = residual(pristine, distorted)
    return ResidualFigures(
        mean=added.mean((0, 1), dtype=np.float64),
        variance=added.var((0, 1), dtype=np.float64),
        correlation=channel_correlation(added),
        power=np.mean([_power(added[..., channel]) for channel in range(3)], axis=0),
        grid=grid_profile(distorted),
        autocorrelation=grid_autocorrelation(added),
    )


def mean_figures(images: Sequence[ResidualFigures]) -> ResidualFigures:
    """Return the mean of each statistic over images."""
    means = (np.mean([getattr(image, field.name) for image in images], axis=0) for field in fields(ResidualFigures))
    return ResidualFigures(*means)


def residual(pristine: Image, distorted: Image) -> Residual:
    """Return distorted minus pristine, in 8-bit levels."""
    if pristine.shape != distorted.shape:
        raise ValueError(f"images must have the same shape, got {pristine.shape} and {distorted.shape}")
    return distorted.astype(np.float32) - pristine.astype(np.float32)


def channel_correlation(residual: Residual) -> NDArray[np.float64]:
    """Return Pearson's correlation between the channels, (3, 3); 0 between a constant channel and another."""
    centred = residual.reshape(-1, residual.shape[-1]) - residual.mean((0, 1), dtype=np.float64)
    covariance = centred.T @ centred
    deviation = np.sqrt(np.diag(covariance))
    scale = np.outer(deviation, deviation)
    correlation = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(correlation, 1)
    return correlation


def radial_amplitude(field: Grey) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies in cycles per pixel and the root-mean-square amplitude of `field` (H, W) on rings around each.

    Rings are equally wide in log frequency, rings without a frequency of the grid are left out. White noise of
    standard deviation σ has the amplitude σ at all frequencies. The mean is subtracted and a Hann window applied:
    discontinuities at the borders leave no cross in the spectrum.
    """
    height, width = field.shape
    window = np.outer(_hann(height), _hann(width))
    spectrum = scipy.fft.fft2((field - field.mean(dtype=np.float64)) * window)
    power = np.abs(spectrum) ** 2 / np.sum(window**2)
    frequency = np.hypot(scipy.fft.fftfreq(height)[:, None], scipy.fft.fftfreq(width))
    inside = (frequency >= SPECTRUM_LOW) & (frequency <= SPECTRUM_HIGH)
    ring = np.digitize(frequency[inside], _EDGES[1:-1])
    members = np.bincount(ring, minlength=SPECTRUM_BINS)
    filled = members > 0
    log_frequency = np.bincount(ring, np.log(frequency[inside]), SPECTRUM_BINS)[filled] / members[filled]
    mean_power = np.bincount(ring, power[inside], SPECTRUM_BINS)[filled] / members[filled]
    return np.exp(log_frequency), np.sqrt(mean_power)


def _power(field: Grey) -> NDArray[np.float64]:
    """Return the power of `field` at FREQUENCIES, interpolated: a small image has fewer rings."""
    frequencies, amplitudes = radial_amplitude(field)
    return np.interp(np.log(FREQUENCIES), np.log(frequencies), amplitudes**2)


def _hann(length: int) -> NDArray[np.float64]:
    """Return a Hann window of `length` px without zeros."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2


def grid_profile(image: Image) -> NDArray[np.float64]:
    """Return the mean absolute luma step by its phase in JPEG's grid of 8 px, (8,), in 8-bit levels.

    Entry k is the step from pixel k - 1 to pixel k of a block, the mean of both directions; entry 0 crosses the
    border between blocks. Flat over k without blocking, high at 0 with blocking. The image starts on the grid, and
    both sides are longer than a block.
    """
    return steps_by_phase(image).mean(0)


def steps_by_phase(image: Image) -> NDArray[np.float64]:
    """Return `grid_profile` of steps across and down, (2, 8)."""
    grey = luma(image).astype(np.int16)
    if min(grey.shape) <= JPEG_BLOCK_PX:
        raise ValueError(f"a grid of {JPEG_BLOCK_PX} px needs longer sides, got the shape {image.shape}")
    profiles = np.abs(np.diff(grey, axis=1)).mean(0), np.abs(np.diff(grey, axis=0)).mean(1)
    return np.stack([_by_phase(steps) for steps in profiles])


def _by_phase(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of `steps` by phase; the first step, from pixel 0 to pixel 1, has phase 1."""
    phase = np.arange(1, len(steps) + 1) % JPEG_BLOCK_PX
    return np.bincount(phase, steps, JPEG_BLOCK_PX) / np.bincount(phase, minlength=JPEG_BLOCK_PX)


def grid_autocorrelation(residual: Residual) -> NDArray[np.float64]:
    """Return the autocorrelation of the residual's luma steps at lags of 1 to 24 px, (24,), -1 to 1.

    Steps are the mean absolute differences between neighbouring columns (and rows). A residual with jumps at block
    borders has peaks at multiples of the block size. 0 for a residual without steps.
    """
    grey = residual @ np.array(LUMA_WEIGHTS, np.float32)
    profiles = (np.abs(np.diff(grey, axis=axis)).mean(1 - axis, dtype=np.float64) for axis in (0, 1))
    return np.mean([_autocorrelation(profile) for profile in profiles], axis=0)


def _autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean()
    power = float(np.mean(centred**2))
    if power == 0:
        return np.zeros(GRID_LAGS_PX)
    return np.array([np.mean(centred[:-lag] * centred[lag:]) for lag in range(1, GRID_LAGS_PX + 1)]) / power


# Pristine levels rarely clipped by noise: 64 levels to black and white are 2.5 standard deviations of our pink noise
DARKEST_LEVEL, BRIGHTEST_LEVEL = 64, 191
CORRELATION_GOAL = 0.05  # ours: largest difference between the generated and the true correlation
VARIANCE_GOAL = 0.10  # ours: largest difference of the ratio of variances from 1
FEWEST_VALUES = 1000  # ours; chance alone correlates a thousand pairs by 0.03


@dataclass(frozen=True)
class Draws:
    """Similarity of the residuals of two draws on an image, over pixel values away from black and white, or a mean."""

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


def compare_draws(pristine: Image, first: Image, second: Image) -> Draws | None:
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
        return Draws(None, variance)
    return Draws(float(np.mean((a - a.mean()) * (b - b.mean())) / spread), variance)
