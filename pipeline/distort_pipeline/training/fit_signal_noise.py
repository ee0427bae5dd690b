"""Fits signal-dependent noise (`networks/signal_noise`) to what other parts leave of training images.

Residuals are cut at CUT local deviations before anything is fitted: a few pixels that other models could not explain,
mostly edges, must not make noise of all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from distort_pipeline.networks.patches import TO_YCC, Levels, PairPatch
from distort_pipeline.networks.signal_noise import (
    CLASSES,
    CONTRASTS,
    KERNEL_PX,
    KNOTS,
    LEVELS,
    LUMAS,
    OCTAVES_PX,
    SignalNoise,
    Surroundings,
    deviation_at,
    local_contrast,
    spline_weights,
)

CONTRAST_QUANTILES = (0.1, 0.3, 0.55, 0.8, 0.93, 0.985)  # bins' centres; few pixels are edges, and edges differ most
OTHER_KIND = 0.05  # weight of a bin's pixels off edges for the same bin on edges, and the reverse, where it has few
CUT, CUT_SIGMA_PX = 2.5, 6.0  # local deviations, and the window in which they are local
SPECTRUM_PX = 32  # of spectra: correlations are taken up to half of it
LEAST_VARIANCE = 1e-4  # levels²
LEAST_POWER = 0.01  # of a spectrum's mean, at any frequency
CORRECTIONS, MOST_CORRECTION = 3, 2.0  # rounds through the last stage; the most that one changes an amplitude
PRIOR_PIXELS = 300  # that neighbouring bins are worth
KNOT_PRIOR_PIXELS = 2000  # that the deviation of a channel's every level weighs at each knot
ACTIVITY_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # px, at which squares are correlated
MOST_ACTIVITY = 0.2  # variance of its logarithm
LEAST_SEEN = 0.1  # of an image's pixels, not clipped: others tell nothing of activity
LEAST_LINES_PX = 64  # sides of images in which offsets of lines are looked for
LINE_GAP_PX, NEAR_LINES = 16, (3, 4, 5, 6)  # between halves of lines; lines that are alike because the image is
LEAST_STRIPES, MOST_SHOW_STRIPES = 0.01, 0.8  # of the residual's power; share of images that show as much
CLIPPED = 4  # levels from either end: residuals there are cut off, and nothing is fitted to them


def fit_signal_noise(
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    residuals: Sequence[Levels] | None = None,
    *,
    last_stage: Callable[[Levels], Levels] | None = None,
) -> SignalNoise:
    """Return the noise that `residuals` (default: distorted - base) look like, where the base is not clipped.

    `last_stage` is what happens to levels once noise has been added (rounding, a JPEG): a few rounds correct the
    amplitudes and spectra until drawn residuals behind it are like the true ones.
    """
    if residuals is None:
        residuals = [patch.distorted - base for patch, base in zip(patches, bases, strict=True)]
    stripes, residuals = without_stripes(bases, residuals)
    noise = SignalNoise(
        deviations=_deviations(bases, residuals),
        amplitudes=np.ones((2, LUMAS, CONTRASTS, 3), np.float32),
        mixing=np.eye(3, dtype=np.float32),
        kernels=np.zeros((CLASSES, 3, KERNEL_PX, KERNEL_PX), np.float32),
        contrasts=_contrasts(bases),
        log_gains=np.zeros(1, np.float32),
        activity=np.zeros((len(OCTAVES_PX), 3), np.float32),
        stripes=np.zeros((2, 3, 3), np.float32),  # until the rest is fitted
    )
    pixels = [(base, Surroundings.of(base, noise.contrasts)) for base in bases]
    true_powers, counts = _powers(noise, pixels, residuals)
    noise = replace(noise, amplitudes=np.sqrt(true_powers).astype(np.float32))
    noise = replace(noise, mixing=_correlation_root(noise, pixels, residuals))
    true_spectra = spectra = _spectra(noise, pixels, residuals)
    noise = replace(noise, kernels=_kernels(spectra))
    steady = [p.distorted - residual for p, residual in zip(patches, residuals, strict=True)]

    def drawn_residuals(turn: int) -> list[Levels]:
        drawn = []
        for number, (base, levels) in enumerate(zip(bases, steady, strict=True)):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([turn, number])))
            draw = noise.draw(base, rng, 0.0)
            drawn.append(last_stage(levels + draw) - levels if last_stage is not None else draw)
        return drawn

    noise = replace(noise, activity=_activity(noise, pixels, residuals, drawn_residuals(CORRECTIONS)))
    if last_stage is not None:
        for turn in range(CORRECTIONS):
            drawn = drawn_residuals(turn)
            ratio = true_powers / _powers(noise, pixels, drawn)[0]
            trust = counts / (counts + PRIOR_PIXELS)
            amplitudes = noise.amplitudes * np.clip(ratio, MOST_CORRECTION**-2, MOST_CORRECTION**2) ** (0.5 * trust)
            change = np.clip(true_spectra / _spectra(noise, pixels, drawn), 1 / MOST_CORRECTION, MOST_CORRECTION)
            spectra = spectra * change
            noise = replace(noise, amplitudes=amplitudes.astype(np.float32), kernels=_kernels(spectra))
    return replace(noise, stripes=stripes)


def whiten(noise: SignalNoise, base: Levels, residual: Levels, surroundings: Surroundings) -> Levels:
    """Return `residual` (H, W, 3) in units of what the bins say, its components uncorrelated, not its pixels."""
    unit = _cut(_unit_ycc(base, residual, noise.deviations)) / surroundings.interpolate(noise.amplitudes)
    return np.asarray(unit @ np.linalg.inv(noise.mixing).T, np.float32)


def without_stripes(bases: Sequence[Levels], residuals: Sequence[Levels]) -> tuple[NDArray[np.float32], list[Levels]]:
    """Return the roots (2, 3, 3) of the covariances of rows' and columns' offsets, and `residuals` without these.

    The mean residuals of a row's two halves have its offset in common, and what nearby rows have in common too, the
    image's doing: that is taken off. Zeros where most images do not show offsets. An offset itself is estimated as a
    random effect (Henderson's best linear unbiased prediction).
    """
    roots = []
    for axis in range(2):
        turned = [
            (b, r) if axis == 0 else (b.swapaxes(0, 1), r.swapaxes(0, 1)) for b, r in zip(bases, residuals, strict=True)
        ]
        covariances = np.array([_line_covariance(_unclipped(base), residual) for base, residual in turned])
        traces = np.trace(covariances, axis1=1, axis2=2)
        powers = np.array([np.square(_cut(residual)).mean((0, 1)).sum() for _, residual in turned])
        if np.mean(traces > LEAST_STRIPES * powers) < MOST_SHOW_STRIPES:
            roots.append(np.zeros((3, 3), np.float32))
            continue
        covariance = np.median(covariances, axis=0)
        values, vectors = np.linalg.eigh(covariance)
        roots.append(((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32))
        offsets = [_line_offsets(_unclipped(base), residual, covariance) for base, residual in turned]
        residuals = [
            residual - (of_lines[:, None] if axis == 0 else of_lines)
            for residual, of_lines in zip(residuals, offsets, strict=True)
        ]
    return np.stack(roots), list(residuals)


def _line_means(seen: NDArray[np.bool_], residual: Levels) -> NDArray[np.float64]:
    """Return the mean of each row (H, 3) of `residual` (H, W, 3) where `seen`, of all three channels."""
    weights = seen.all(-1, keepdims=True)
    sums = (_cut(residual) * weights).sum(1, dtype=np.float64)
    return np.asarray(sums / np.maximum(weights.sum(1), 1))


def _line_covariance(seen: NDArray[np.bool_], residual: Levels) -> NDArray[np.float64]:
    """Return the covariance (3, 3) of rows' offsets in one image; zeros of one too small to tell."""
    if min(residual.shape[:2]) < LEAST_LINES_PX:
        return np.zeros((3, 3))
    half = residual.shape[1] // 2 - LINE_GAP_PX // 2
    left, right = (_line_means(seen[:, side], residual[:, side]) for side in (slice(half), slice(-half, None)))
    nearby = [left[lag:].T @ right[:-lag] + left[:-lag].T @ right[lag:] for lag in NEAR_LINES]
    apart = sum(nearby) / (2 * sum(len(left) - lag for lag in NEAR_LINES))
    covariance = left.T @ right / len(left) - apart
    return (covariance + covariance.T) / 2


def _line_offsets(seen: NDArray[np.bool_], residual: Levels, covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the offset of each row (H, 3), likeliest under `covariance`."""
    means = _line_means(seen, residual)
    rest = means - gaussian_filter1d(means, NEAR_LINES[-1], axis=0, mode="mirror")
    spread = rest.T @ rest / len(rest) + 1e-6 * np.eye(3)
    return np.asarray(rest @ np.linalg.solve(spread, covariance), np.float32)


Pixels = Sequence[tuple[Levels, Surroundings]]


def _contrasts(bases: Sequence[Levels]) -> NDArray[np.float32]:
    """Return the centres (2, CONTRASTS) of contrast bins, rising."""
    logs = [local_contrast(base)[1:] for base in bases]
    centres = []
    for kind in range(2):
        every = np.concatenate([log[kind][::4, ::4].ravel() for log in logs])
        centres.append(np.maximum.accumulate(np.quantile(every, CONTRAST_QUANTILES) + 1e-3 * np.arange(CONTRASTS)))
    return np.array(centres, np.float32)


def _unclipped(base: Levels) -> NDArray[np.bool_]:
    return (base > CLIPPED) & (base < 255 - CLIPPED)


def _unit_ycc(base: Levels, residual: Levels, deviations: NDArray[np.float32]) -> Levels:
    """Return Y, Cb and Cr of `residual` divided by each channel's deviation at its level."""
    return (residual / deviation_at(base, deviations)) @ TO_YCC.T.astype(np.float32)


def _cut(unit: Levels) -> Levels:
    """Return `unit` (H, W, 3) cut at CUT local deviations on either side."""
    size = cv2.GaussianBlur(np.abs(unit), (0, 0), CUT_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101)
    most = CUT * np.sqrt(np.float32(np.pi / 2)) * size + 1e-6  # a Gaussian's deviation by its mean size
    return np.clip(unit, -most, most)


def _deviations(bases: Sequence[Levels], residuals: Sequence[Levels]) -> NDArray[np.float32]:
    """Return each channel's deviation (3, KNOTS) at the knots; knots that few pixels are near lean on all levels."""
    counts, squares = np.zeros((3, len(LEVELS))), np.zeros((3, len(LEVELS)))
    for base, residual in zip(bases, residuals, strict=True):
        levels, unclipped, cut = np.clip(np.rint(base), 0, 255).astype(np.intp), _unclipped(base), _cut(residual)
        for c in range(3):
            seen = unclipped[..., c]
            counts[c] += np.bincount(levels[..., c][seen], minlength=256)
            squares[c] += np.bincount(levels[..., c][seen], np.square(cut[..., c][seen]), minlength=256)
    hats = np.maximum(1 - np.abs(LEVELS[:, None] - KNOTS) / KNOTS[1], 0)  # (256, KNOTS)
    mean = squares.sum(1, keepdims=True) / np.maximum(counts.sum(1, keepdims=True), 1)
    variances = (squares @ hats + KNOT_PRIOR_PIXELS * mean) / (counts @ hats + KNOT_PRIOR_PIXELS)
    return np.sqrt(np.maximum(variances, LEAST_VARIANCE)).astype(np.float32)


def _powers(
    noise: SignalNoise, pixels: Pixels, residuals: Sequence[Levels]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean squares and the numbers of pixels of each bin (2, LUMAS, CONTRASTS, 3) of cut unit residuals.

    Bins that few pixels fill lean on their neighbours in luminance.
    """
    bins_in_all = 2 * LUMAS * CONTRASTS
    sums, counts = np.zeros((3, bins_in_all)), np.zeros((3, bins_in_all))
    inside = (slice(4, -4), slice(4, -4))
    for (base, surroundings), residual in zip(pixels, residuals, strict=True):
        squares = np.square(_cut(_unit_ycc(base, residual, noise.deviations)))[inside]
        unclipped = np.all(_unclipped(base), axis=-1)[inside]
        for c in range(3):
            bins = surroundings.bins(c)[inside][unclipped]
            counts[c] += np.bincount(bins, minlength=bins_in_all)
            sums[c] += np.bincount(bins, squares[..., c][unclipped], minlength=bins_in_all)
    by_bin, seen = (of.reshape(3, 2, LUMAS, CONTRASTS).transpose(1, 2, 3, 0) for of in (sums, counts))
    near = np.exp(-np.abs(np.arange(LUMAS)[:, None] - np.arange(LUMAS)))
    alike = np.array([[1, OTHER_KIND], [OTHER_KIND, 1]])
    trusted = np.minimum(seen, PRIOR_PIXELS)
    means = by_bin / np.maximum(seen, 1)
    total, weight = (np.einsum("ml,fe,eltc->fmtc", near, alike, of) for of in (trusted * means, trusted))
    prior = total / np.maximum(weight, 1e-9)
    return np.maximum((by_bin + PRIOR_PIXELS * prior) / (seen + PRIOR_PIXELS), LEAST_VARIANCE), seen


def _correlation_root(noise: SignalNoise, pixels: Pixels, residuals: Sequence[Levels]) -> NDArray[np.float32]:
    """Return the symmetric root (3, 3) of the correlation of the components of residuals, noise.mixing being 1."""
    products = 1e-6 * np.eye(3)
    for (base, surroundings), residual in zip(pixels, residuals, strict=True):
        white = whiten(noise, base, residual, surroundings)[_unclipped(base).all(-1)].astype(np.float64)
        products += white.T @ white
    scale = np.sqrt(np.diag(products))
    values, vectors = np.linalg.eigh(products / np.outer(scale, scale))
    return ((vectors * np.sqrt(np.maximum(values, 1e-3))) @ vectors.T).astype(np.float32)


def _spectra(noise: SignalNoise, pixels: Pixels, residuals: Sequence[Levels]) -> NDArray[np.float64]:
    """Return the power spectra (CLASSES, 3, S, S) of whitened residuals, each of mean 1.

    By the correlation of each pixel of a class with its neighbours, of whatever class these are: edges are thin.
    """
    half = SPECTRUM_PX // 2
    shape = [next_fast_len(max(b.shape[axis] for b, _ in pixels) + half, real=True) for axis in range(2)]
    crossed = np.zeros((CLASSES, 3, shape[0], shape[1] // 2 + 1), np.complex128)
    for (base, surroundings), residual in zip(pixels, residuals, strict=True):
        white = whiten(noise, base, residual, surroundings) * np.asarray(_unclipped(base).all(-1))[..., None]
        for c in range(3):
            spectrum = rfft2(white[..., c], shape)
            for number, share in enumerate(surroundings.classes(c)):
                crossed[number, c] += np.conj(rfft2(share * white[..., c], shape)) * spectrum
    lags = np.arange(-half, half)
    correlations = irfft2(crossed, shape)[..., lags[:, None], lags[None]]  # 0 at (half, half)
    taper = 0.5 + 0.5 * np.cos(np.pi * lags / half)
    tapered = np.fft.ifftshift(correlations * np.outer(taper, taper), axes=(-2, -1))
    power = np.fft.fft2(tapered).real  # of the even part: a field's correlation has no other
    power = np.maximum(power, LEAST_POWER * np.maximum(power.mean((-1, -2), keepdims=True), 1e-9))
    return np.asarray(power / power.mean((-1, -2), keepdims=True))


def _activity(
    noise: SignalNoise, pixels: Pixels, residuals: Sequence[Levels], drawn: Sequence[Levels]
) -> NDArray[np.float32]:
    """Return the deviations (OCTAVES, 3) with which squares of `drawn` correlate like those of true `residuals`.

    `drawn` are without activity. It multiplies the product of two squares, on average, by exp(4 Σ deviation² ρ), with
    ρ the correlation of an octave's field at their distance.
    """
    excess = np.log(_square_products(noise, pixels, residuals) / _square_products(noise, pixels, drawn)) / 4
    rho = np.stack([_field_correlations(spacing) for spacing in OCTAVES_PX], axis=-1)  # (lags, OCTAVES)
    variances = np.stack([nnls(rho, excess[:, c])[0] for c in range(3)], axis=-1)
    variances *= np.minimum(MOST_ACTIVITY / np.maximum(variances.sum(0), 1e-9), 1)
    return np.sqrt(variances).astype(np.float32)


def _square_products(noise: SignalNoise, pixels: Pixels, residuals: Sequence[Levels]) -> NDArray[np.float64]:
    """Return the mean product of two squares of whitened residuals at each of ACTIVITY_LAGS, (lags, 3).

    Of each image in units of its mean square, squared; the median of images, so that none decides alone.
    """
    products = []
    for (base, surroundings), residual in zip(pixels, residuals, strict=True):
        seen = np.asarray(_unclipped(base).all(-1))
        if seen.mean() < LEAST_SEEN or min(seen.shape) <= 2 * ACTIVITY_LAGS[-1]:
            continue
        squares = np.square(whiten(noise, base, residual, surroundings)) * seen[..., None]
        power = squares[seen].mean(0)
        if power.min() < LEAST_VARIANCE:
            continue  # an image that nothing has happened to
        rows = []
        for lag in ACTIVITY_LAGS:
            both = [(axis[lag:], axis[:-lag]) for axis in (squares, squares.swapaxes(0, 1))]
            pairs = [np.count_nonzero(axis[lag:] & axis[:-lag]) for axis in (seen, seen.T)]
            sums = [np.einsum("hwc,hwc->c", one, other, dtype=np.float64) for one, other in both]
            rows.append(sum(sums) / max(sum(pairs), 1) / power**2)
        products.append(rows)
    return np.maximum(np.median(products, axis=0), 1e-3) if products else np.ones((len(ACTIVITY_LAGS), 3))


def _field_correlations(spacing: int) -> NDArray[np.float64]:
    """Return the correlation of an octave's field at each of ACTIVITY_LAGS, over all places in its lattice."""
    _, weights = spline_weights(0, spacing + ACTIVITY_LAGS[-1], spacing)
    here = weights[:spacing]
    return np.array([(here * weights[lag : lag + spacing]).sum(1).mean() for lag in ACTIVITY_LAGS])


def _kernels(power: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return kernels (CLASSES, 3, K, K) of unit energy: roots of power spectra (CLASSES, 3, S, S)."""
    reach = KERNEL_PX // 2
    lags = np.arange(-reach, reach + 1)
    taper = np.outer(np.hanning(KERNEL_PX + 2)[1:-1], np.hanning(KERNEL_PX + 2)[1:-1]) ** 0.25
    impulses = np.fft.ifft2(np.sqrt(power)).real
    kernels = impulses[..., lags[:, None], lags[None]] * taper
    return (kernels / np.sqrt(np.square(kernels).sum((-1, -2), keepdims=True))).astype(np.float32)
