"""Signal-dependent noise: Gaussian, its covariance and spectrum by local luminance and contrast, its gain per image.

n_c(p) = gain · s_c(x_c(p)) · [A(p) (h_t(p) * z)(p)]_c, with white z in three components. s_c is a channel's deviation
at its own level, linear between KNOTS: the Poisson-Gauss law of sensors is a special case. A is a 3×3 matrix in
(Y, Cb, Cr), the symmetric root of the covariance of residuals divided by s, in each of LUMAS × CONTRASTS bins and
interpolated between them. h are zero-phase kernels by contrast bin and component, roots of the spectra of whitened
residuals. The gain is resampled from those of the training images: ISO, exposure, grain of a film stock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from distort_pipeline.components.patches import Levels, PairPatch

LUMAS = 8  # bins
CONTRAST_QUANTILES = (0.1, 0.3, 0.55, 0.8, 0.93, 0.985)  # bins' centres; few pixels are edges, and edges differ most
CONTRASTS = len(CONTRAST_QUANTILES)
WINDOW_SIGMA_PX = 2.0  # of the local mean and deviation
CONTRAST_WINDOW_PX = 7
KERNEL_PX, REACH_PX = 15, 7  # noise is correlated over half of it at most; slower parts are the network's
SPECTRUM_PX = 32  # windows, half overlapping
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # BT.601
TO_RGB = np.linalg.inv(TO_YCC)
LEAST_VARIANCE = 1e-4  # levels²
CORRECTIONS, MOST_CORRECTION = 3, 2.0  # rounds through the last stage; the most that one changes an amplitude
PRIOR_PIXELS = 300  # that neighbouring bins are worth
LEVELS = np.arange(256)
KNOTS = np.linspace(0, 255, 17)  # levels at which each channel's deviation is fitted
KNOT_PRIOR_PIXELS = 2000  # that the deviation of a channel's every level weighs at each knot
CLIPPED = 4  # levels from either end: residuals there are cut off, and nothing is fitted to them


@dataclass(frozen=True)
class SignalNoise:
    """Deviations (3, KNOTS) in levels, roots (LUMAS, CONTRASTS, 3, 3) of unit size, kernels (CONTRASTS, 3, K, K)."""

    deviations: NDArray[np.float32]
    roots: NDArray[np.float32]
    kernels: NDArray[np.float32]
    contrasts: NDArray[np.float32]  # (CONTRASTS,), log deviations in levels
    log_gains: NDArray[np.float32]  # (training images,)
    reach_px: ClassVar[int] = CONTRAST_WINDOW_PX // 2  # of the image; white noise is drawn as far as it is needed

    def draw(self, base: Levels, rng: np.random.Generator, log_gain: float) -> Levels:
        """Return noise for `base` (H, W, 3) in levels, RGB."""
        height, width = base.shape[:2]
        white = rng.standard_normal((height + 2 * REACH_PX, width + 2 * REACH_PX, 3), dtype=np.float32)
        return self.colour(base, white, log_gain)

    def colour(self, base: Levels, white: NDArray[np.float32], log_gain: float) -> Levels:
        """Return noise with the spectrum, covariance and strength that belong to `base` (H, W, 3).

        `white` (H + 14, W + 14, 3) is white noise that reaches 7 px beyond it on every side.
        """
        height, width = base.shape[:2]
        luma, contrast = local_luma(base)
        shares = _shares(contrast, self.contrasts)  # (H, W, CONTRASTS)
        shape = [next_fast_len(side, real=True) for side in white.shape[:2]]
        inside = (slice(2 * REACH_PX, 2 * REACH_PX + height), slice(2 * REACH_PX, 2 * REACH_PX + width))
        components = np.zeros((height, width, 3), np.float32)
        for c in range(3):
            spectrum = rfft2(white[..., c], shape)
            for t in range(CONTRASTS):
                filtered = irfft2(spectrum * rfft2(self.kernels[t, c], shape), shape)[inside]
                components[..., c] += shares[..., t] * filtered  # of one z: amplitudes add up, not powers
        roots = interpolate_roots(self.roots, luma, shares)
        ycc = np.einsum("hwij,hwj->hwi", roots, components, optimize=True)
        unit = ycc @ TO_RGB.T.astype(np.float32)
        return (np.exp(log_gain) * deviation_at(base, self.deviations) * unit).astype(np.float32)


def deviation_at(base: Levels, deviations: NDArray[np.float32]) -> Levels:
    """Return each channel's deviation at its level in `base` (H, W, 3), linear between knots."""
    tables = np.stack([np.interp(LEVELS, KNOTS, deviation) for deviation in deviations], axis=-1).astype(np.float32)
    levels = np.clip(np.rint(base), 0, 255).astype(np.uint8)
    return np.stack([tables[levels[..., c], c] for c in range(3)], axis=-1)


def local_luma(base: Levels) -> tuple[Levels, Levels]:
    """Return the local mean luma of `base` (H, W, 3) and the log of the local deviation in all colours, both (H, W)."""
    ycc = base @ TO_YCC.T.astype(np.float32) - np.array([128, 0, 0], np.float32)
    size, border = (CONTRAST_WINDOW_PX, CONTRAST_WINDOW_PX), cv2.BORDER_REFLECT_101
    mean = cv2.GaussianBlur(ycc, size, WINDOW_SIGMA_PX, borderType=border)
    square = cv2.GaussianBlur(np.square(ycc), size, WINDOW_SIGMA_PX, borderType=border)
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0).sum(-1))
    return mean[..., 0] + 128, np.log(deviation + 0.5)


def interpolate_roots(roots: NDArray[np.float32], luma: Levels, shares: Levels) -> NDArray[np.float32]:
    """Return the root (H, W, 3, 3) at each pixel, linear between luma centres, weighted by contrast shares."""
    position = np.clip(luma / (256 / LUMAS) - 0.5, 0, LUMAS - 1)
    low = np.minimum(position.astype(np.intp), LUMAS - 2)
    high_share = (position - low).astype(np.float32)
    flat = roots.reshape(LUMAS, CONTRASTS, 9)
    out = np.zeros((*luma.shape, 9), np.float32)
    for t in range(CONTRASTS):
        root = (1 - high_share)[..., None] * flat[low, t] + high_share[..., None] * flat[low + 1, t]
        out += shares[..., t, None] * root
    return out.reshape(*luma.shape, 3, 3)


def fit_signal_noise(
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    residuals: Sequence[Levels] | None = None,
    *,
    last_stage: Callable[[Levels], Levels] | None = None,
) -> SignalNoise:
    """Return the noise that `residuals` (default: distorted - base) look like, where neither side is clipped.

    `last_stage` is what happens to levels once noise has been added (rounding, a JPEG): a few rounds correct the
    covariances and spectra until drawn residuals behind it are like the true ones.
    """
    if residuals is None:
        residuals = [patch.distorted - base for patch, base in zip(patches, bases, strict=True)]
    deviations = _deviations(bases, residuals)
    local = [local_luma(base) for base in bases]
    every = np.concatenate([contrast[::4, ::4].ravel() for _, contrast in local])
    contrasts = np.quantile(every, CONTRAST_QUANTILES)
    contrasts = np.maximum.accumulate(contrasts + 1e-3 * np.arange(CONTRASTS)).astype(np.float32)
    noise = SignalNoise(
        deviations,
        np.zeros((LUMAS, CONTRASTS, 3, 3), np.float32),
        np.zeros((CONTRASTS, 3, KERNEL_PX, KERNEL_PX), np.float32),
        contrasts,
        np.zeros(1, np.float32),
    )
    true = _Statistics.of(noise, bases, residuals, local)
    roots = _roots(true.products, true.counts)
    true_power = _spectra(noise, bases, residuals, local, roots)
    noise = replace(noise, roots=roots, kernels=_kernels(true_power))
    if last_stage is not None:
        steady = [p.distorted - residual for p, residual in zip(patches, residuals, strict=True)]
        power = true_power
        for turn in range(CORRECTIONS):
            drawn = []
            for number, (base, levels) in enumerate(zip(bases, steady, strict=True)):
                rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([turn, number])))
                drawn.append(last_stage(levels + noise.draw(base, rng, 0.0)) - levels)
            simulated = _Statistics.of(noise, bases, drawn, local)
            noise = replace(noise, roots=_corrected(noise.roots, true, simulated))
            power = power * np.clip(
                true_power / _spectra(noise, bases, drawn, local, roots), 1 / MOST_CORRECTION, MOST_CORRECTION
            )
            noise = replace(noise, kernels=_kernels(power))
    return replace(noise, log_gains=_log_gains(noise, patches, bases, residuals, local))


@dataclass(frozen=True)
class _Statistics:
    """Sums over pixels of products of residuals' Y, Cb, Cr, (LUMAS, CONTRASTS, 3, 3), and numbers of pixels."""

    products: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        noise: SignalNoise,
        bases: Sequence[Levels],
        residuals: Sequence[Levels],
        local: Sequence[tuple[Levels, Levels]],
    ) -> _Statistics:
        """Return those of `residuals` divided by the deviations of `noise`."""
        products, counts = np.zeros((LUMAS, CONTRASTS, 3, 3)), np.zeros((LUMAS, CONTRASTS))
        inside = slice(4, -4)
        for base, residual, (luma, contrast) in zip(bases, residuals, local, strict=True):
            ycc = _unit_ycc(noise, base, residual)[inside, inside].reshape(-1, 3).astype(np.float64)
            unclipped = np.all(_unclipped(base), axis=-1)[inside, inside].ravel()
            bins = _nearest_bins(luma, contrast, noise.contrasts)[inside, inside].ravel()
            for index in np.unique(bins[unclipped]):
                samples = ycc[unclipped & (bins == index)]
                row, column = divmod(int(index), CONTRASTS)
                products[row, column] += samples.T @ samples
                counts[row, column] += len(samples)
        return cls(products, counts)


def _corrected(roots: NDArray[np.float32], true: _Statistics, simulated: _Statistics) -> NDArray[np.float32]:
    """Return `roots` scaled by component, where true residuals are stronger or weaker than those that were drawn."""
    diagonals = [np.einsum("mtcc->mtc", statistics.products) for statistics in (true, simulated)]
    prior = LEAST_VARIANCE * (true.counts[..., None] + 1)
    ratio = np.clip((diagonals[0] + prior) / (diagonals[1] + prior), MOST_CORRECTION**-2, MOST_CORRECTION**2)
    trust = (true.counts / (true.counts + PRIOR_PIXELS))[..., None]
    return (ratio ** (0.5 * trust))[..., None].astype(np.float32) * roots


def _unit_ycc(noise: SignalNoise, base: Levels, residual: Levels) -> Levels:
    """Return Y, Cb and Cr of `residual` divided by each channel's deviation at its level."""
    return (residual / deviation_at(base, noise.deviations)) @ TO_YCC.T.astype(np.float32)


def _unclipped(base: Levels) -> NDArray[np.bool_]:
    return (base > CLIPPED) & (base < 255 - CLIPPED)


def _deviations(bases: Sequence[Levels], residuals: Sequence[Levels]) -> NDArray[np.float32]:
    """Return each channel's deviation (3, KNOTS) at the knots; knots that few pixels are near lean on all levels."""
    counts, squares = np.zeros((3, len(LEVELS))), np.zeros((3, len(LEVELS)))
    for base, residual in zip(bases, residuals, strict=True):
        levels, unclipped = np.clip(np.rint(base), 0, 255).astype(np.intp), _unclipped(base)
        for c in range(3):
            seen = unclipped[..., c]
            counts[c] += np.bincount(levels[..., c][seen], minlength=256)
            squares[c] += np.bincount(levels[..., c][seen], np.square(residual[..., c][seen]), minlength=256)
    hats = np.maximum(1 - np.abs(LEVELS[:, None] - KNOTS) / KNOTS[1], 0)  # (256, KNOTS)
    mean = squares.sum(1, keepdims=True) / np.maximum(counts.sum(1, keepdims=True), 1)
    variances = (squares @ hats + KNOT_PRIOR_PIXELS * mean) / (counts @ hats + KNOT_PRIOR_PIXELS)
    return np.sqrt(np.maximum(variances, LEAST_VARIANCE)).astype(np.float32)


def _roots(products: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return symmetric roots of the covariances; bins that few pixels fill lean on their neighbours in luminance."""
    roots = np.zeros((LUMAS, CONTRASTS, 3, 3), np.float32)
    for t in range(CONTRASTS):
        covariances = products[:, t] / np.maximum(counts[:, t], 1)[:, None, None]
        for m in range(LUMAS):
            trusted = np.exp(-np.abs(np.arange(LUMAS) - m)) * np.minimum(counts[:, t], PRIOR_PIXELS)
            prior = (trusted[:, None, None] * covariances).sum(0) / max(trusted.sum(), 1e-9)
            mixed = (products[m, t] + PRIOR_PIXELS * prior) / (counts[m, t] + PRIOR_PIXELS)
            values, vectors = np.linalg.eigh(mixed)
            roots[m, t] = (vectors * np.sqrt(np.maximum(values, LEAST_VARIANCE))) @ vectors.T
    return roots


def _spectra(
    noise: SignalNoise,
    bases: Sequence[Levels],
    residuals: Sequence[Levels],
    local: Sequence[tuple[Levels, Levels]],
    roots: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the power spectra (CONTRASTS, 3, S, S) of residuals whitened by `roots`, each of mean 1."""
    side, half = SPECTRUM_PX, SPECTRUM_PX // 2
    window = np.sqrt(np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1]))
    power = np.full((CONTRASTS, 3, side, side), 1e-9)
    for base, residual, (luma, contrast) in zip(bases, residuals, local, strict=True):
        shares = _shares(contrast, noise.contrasts)
        inverse = interpolate_roots(np.linalg.inv(roots), luma, shares)
        white = np.einsum("hwij,hwj->hwi", inverse, _unit_ycc(noise, base, residual), optimize=True)
        views = np.lib.stride_tricks.sliding_window_view(white, (side, side), (0, 1))[::half, ::half]
        spectra = np.square(np.abs(np.fft.fft2(views * window)))  # (n, m, 3, side, side)
        weights = np.lib.stride_tricks.sliding_window_view(shares, (side, side), (0, 1))[::half, ::half].mean((-1, -2))
        power += np.einsum("nmt,nmcij->tcij", weights, spectra, optimize=True)
    return power / power.mean((-1, -2), keepdims=True)


def _kernels(power: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return kernels (CONTRASTS, 3, K, K) of unit energy: roots of power spectra (CONTRASTS, 3, S, S)."""
    reach = KERNEL_PX // 2
    lags = np.arange(-reach, reach + 1)
    taper = np.outer(np.hanning(KERNEL_PX + 2)[1:-1], np.hanning(KERNEL_PX + 2)[1:-1]) ** 0.25
    impulses = np.fft.ifft2(np.sqrt(power)).real
    kernels = impulses[..., lags[:, None], lags[None]] * taper
    return (kernels / np.sqrt(np.square(kernels).sum((-1, -2), keepdims=True))).astype(np.float32)


def _log_gains(
    noise: SignalNoise,
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    residuals: Sequence[Levels],
    local: Sequence[tuple[Levels, Levels]],
) -> NDArray[np.float32]:
    """Return the log of each training image's gain, the ratio of the residuals' deviation to what bins say."""
    powers = np.full((1 + max(patch.image for patch in patches), 2), 1e-9)
    inverses = np.linalg.inv(noise.roots + 1e-6 * np.eye(3)).astype(np.float32)
    for patch, base, residual, (luma, contrast) in zip(patches, bases, residuals, local, strict=True):
        inverse = interpolate_roots(inverses, luma, _shares(contrast, noise.contrasts))
        white = np.einsum("hwij,hwj->hwi", inverse, _unit_ycc(noise, base, residual), optimize=True)
        powers[patch.image] += (np.square(white).sum(), white.size)
    return (0.5 * np.log(np.maximum(powers[:, 0], 1e-6) / powers[:, 1])).astype(np.float32)


def _shares(contrast: Levels, contrasts: NDArray[np.float32]) -> Levels:
    """Return how much each contrast centre has a say at each pixel, (H, W, CONTRASTS), adding up to 1."""
    position = np.interp(contrast, contrasts, np.arange(CONTRASTS)).astype(np.float32)
    return np.maximum(1 - np.abs(position[..., None] - np.arange(CONTRASTS, dtype=np.float32)), 0)


def _nearest_bins(luma: Levels, contrast: Levels, contrasts: NDArray[np.float32]) -> NDArray[np.intp]:
    rows = np.clip(luma / (256 / LUMAS), 0, LUMAS - 1).astype(np.intp)
    columns = np.rint(np.interp(contrast, contrasts, np.arange(CONTRASTS))).astype(np.intp)
    return rows * CONTRASTS + columns
