"""Signal-dependent noise: Gaussian, its strength and spectrum by local luminance and contrast, its gain per image.

n_c(p) = gain · s_c(x_c(p)) · [a(p) A(p) R (h(p) * z)(p)]_c, with white z in three components. s_c is a channel's
deviation at its own level, linear between KNOTS: the Poisson-Gauss law of sensors is a special case. In (Y, Cb, Cr), A
is diagonal: the deviation of each component of residuals divided by s, in LUMAS × CONTRASTS bins, of edges apart, and
interpolated between them; Y goes by the contrast of luma, Cb and Cr by that of chroma. R is the root of the components'
correlation, h are zero-phase kernels, roots of the spectra of whitened residuals, by component and class: the contrast
bin, at edges the direction, since what a denoiser or an edge-aware interpolation leaves lies along edges. a is the
activity, a Gaussian scale mixture (Wainwright and Simoncelli 2000) whose logarithm is a sum of smooth fields: noise
comes in patches, in a way that the image does not tell. The gain is resampled from those of the training images: ISO,
exposure, grain of a film stock.

Residuals are cut at CUT local deviations before anything is fitted: a few pixels that other models could not explain,
mostly edges, must not make noise of all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.optimize import nnls

from distort_pipeline.networks.patches import TO_RGB, TO_YCC, Levels, PairPatch, white_field

LUMAS = 8  # bins
CONTRAST_QUANTILES = (0.1, 0.3, 0.55, 0.8, 0.93, 0.985)  # bins' centres; few pixels are edges, and edges differ most
CONTRASTS = len(CONTRAST_QUANTILES)
CONTRAST_OF = (0, 1, 1)  # of Y the contrast of luma, of Cb and Cr that of chroma
DIRECTIONS = 4  # of edges, 45 degrees apart
CLASSES = CONTRASTS + DIRECTIONS  # of pixels, each with its kernels
COHERENT = (0.4, 0.9)  # from where on a pixel counts as of an edge, and as of nothing else
LEAST_GRADIENT = 1.0  # levels a pixel: weaker ones have no direction
OTHER_KIND = 0.05  # weight of a bin's pixels off edges for the same bin on edges, and the reverse, where it has few
WINDOW_SIGMA_PX = 2.0  # of the local mean and deviation
CONTRAST_WINDOW_PX = 7
CUT, CUT_SIGMA_PX = 2.5, 6.0  # local deviations, and the window in which they are local
KERNEL_PX, REACH_PX = 15, 7  # noise is correlated over half of it at most; slower parts are the network's
SPECTRUM_PX = 32  # of spectra: correlations are taken up to half of it
LEAST_VARIANCE = 1e-4  # levels²
LEAST_POWER = 0.01  # of a spectrum's mean, at any frequency
CORRECTIONS, MOST_CORRECTION = 3, 2.0  # rounds through the last stage; the most that one changes an amplitude
PRIOR_PIXELS = 300  # that neighbouring bins are worth
LEVELS = np.arange(256)
KNOTS = np.linspace(0, 255, 17)  # levels at which each channel's deviation is fitted
KNOT_PRIOR_PIXELS = 2000  # that the deviation of a channel's every level weighs at each knot
OCTAVES_PX = (4, 8, 16, 32)  # spacings of the lattices under activity's fields
ACTIVITY_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # px, at which squares are correlated
MOST_ACTIVITY = 0.2  # variance of its logarithm
LEAST_SEEN = 0.1  # of an image's pixels, not clipped: others tell nothing of activity
CLIPPED = 4  # levels from either end: residuals there are cut off, and nothing is fitted to them


@dataclass(frozen=True)
class SignalNoise:
    """Deviations (3, KNOTS) in levels, the rest of unit size: amplitudes (2, LUMAS, CONTRASTS, 3), mixing (3, 3).

    The first amplitudes are for pixels off edges, the second for those on edges.
    """

    deviations: NDArray[np.float32]
    amplitudes: NDArray[np.float32]
    mixing: NDArray[np.float32]
    kernels: NDArray[np.float32]  # (CLASSES, 3, K, K), of unit energy
    contrasts: NDArray[np.float32]  # (2, CONTRASTS), log deviations in levels, of luma and of chroma
    log_gains: NDArray[np.float32]  # (training images,)
    activity: NDArray[np.float32]  # (OCTAVES, 3): deviations of the parts of its logarithm, of Y, Cb and Cr
    reach_px: ClassVar[int] = CONTRAST_WINDOW_PX // 2 + 1  # of the image; white noise is drawn as far as is needed

    def draw(
        self, base: Levels, rng: np.random.Generator, log_gain: float, fields: NDArray[np.float32] | None = None
    ) -> Levels:
        """Return noise for `base` (H, W, 3) in levels, RGB; its activity by `fields`, else by drawn ones."""
        height, width = base.shape[:2]
        if fields is None:
            fields = activity_fields(int(rng.integers(2**32)), 0, 0, height, width)
        white = rng.standard_normal((height + 2 * REACH_PX, width + 2 * REACH_PX, 3), dtype=np.float32)
        return self.colour(base, white, log_gain, fields)

    def colour(self, base: Levels, white: NDArray[np.float32], log_gain: float, fields: NDArray[np.float32]) -> Levels:
        """Return noise with the spectrum, covariance and strength that belong to `base` (H, W, 3).

        `white` (H + 14, W + 14, 3) is white noise that reaches 7 px beyond it on every side, `fields` (H, W, OCTAVES)
        are those of `activity_fields`.
        """
        height, width = base.shape[:2]
        surroundings = Surroundings.of(base, self.contrasts)
        shape = (next_fast_len(white.shape[0], real=True), next_fast_len(white.shape[1], real=True))
        if shape not in self._kernel_spectra:
            self._kernel_spectra.clear()
            self._kernel_spectra[shape] = rfft2(self.kernels, shape)
        inside = (slice(2 * REACH_PX, 2 * REACH_PX + height), slice(2 * REACH_PX, 2 * REACH_PX + width))
        components = np.zeros((height, width, 3), np.float32)
        for c in range(3):
            spectrum = rfft2(white[..., c], shape)
            for kernel, share in zip(self._kernel_spectra[shape][:, c], surroundings.classes(c), strict=True):
                if share.any():
                    filtered = irfft2(spectrum * kernel, shape)[inside]
                    components[..., c] += share * filtered  # of one z: amplitudes add up, not powers
        activity = np.exp(fields @ self.activity - np.square(self.activity).sum(0))  # its mean square is 1
        ycc = activity * surroundings.interpolate(self.amplitudes) * (components @ self.mixing.T)
        unit = ycc @ TO_RGB.T.astype(np.float32)
        return (np.exp(log_gain) * deviation_at(base, self.deviations) * unit).astype(np.float32)

    @cached_property
    def _kernel_spectra(self) -> dict[tuple[int, int], NDArray[np.complex64]]:
        """Return the kernels' transforms (CLASSES, 3, h, w), by the sides of the field, of the last sides alone."""
        return {}

    def times(self, gains: NDArray[np.floating]) -> SignalNoise:
        """Return this noise with Y, Cb and Cr times `gains` (3,)."""
        return replace(self, amplitudes=(self.amplitudes * gains).astype(np.float32))

    def whiten(self, base: Levels, residual: Levels, surroundings: Surroundings) -> Levels:
        """Return `residual` (H, W, 3) in units of what the bins say, its components uncorrelated, not its pixels."""
        unit = _cut(_unit_ycc(base, residual, self.deviations)) / surroundings.interpolate(self.amplitudes)
        return np.asarray(unit @ np.linalg.inv(self.mixing).T, np.float32)


@dataclass(frozen=True)
class Surroundings:
    """Of each pixel the local luma, the shares (CONTRASTS, H, W) of luma's and chroma's contrast bins, and its edge."""

    luma: Levels  # (H, W)
    shares: tuple[Levels, Levels]
    edge: Levels  # (H, W), 0 to 1: how much of an edge it is
    directions: Levels  # (DIRECTIONS, H, W): the shares of its directions, in sum `edge`

    @classmethod
    def of(cls, base: Levels, contrasts: NDArray[np.float32]) -> Surroundings:
        """Return those of `base` (H, W, 3) for bins with their centres at `contrasts` (2, CONTRASTS)."""
        luma, *logs = local_contrast(base)
        shares = []
        for log, centres in zip(logs, contrasts, strict=True):
            position = np.interp(log, centres, np.arange(CONTRASTS)).astype(np.float32)
            shares.append(np.maximum(1 - np.abs(position - np.arange(CONTRASTS, dtype=np.float32)[:, None, None]), 0))
        return cls(luma, (shares[0], shares[1]), *edges(base))

    def classes(self, component: int) -> Levels:
        """Return the shares (CLASSES, H, W) of the classes of a component, in sum 1."""
        return np.concatenate([(1 - self.edge) * self.shares[CONTRAST_OF[component]], self.directions])

    def interpolate(self, amplitudes: NDArray[np.float32]) -> Levels:
        """Return `amplitudes` (2, LUMAS, CONTRASTS, 3) at each pixel (H, W, 3), linear between the centres of bins."""
        position = np.clip(LEVELS / (256 / LUMAS) - 0.5, 0, LUMAS - 1)
        low = np.minimum(position.astype(np.intp), LUMAS - 2)
        high_share = (position - low).astype(np.float32)[:, None, None]
        by_level = (1 - high_share) * amplitudes[:, low] + high_share * amplitudes[:, low + 1]
        luma = np.clip(np.rint(self.luma), 0, 255).astype(np.uint8)
        at_pixels = np.zeros((*luma.shape, 3), np.float32)
        for c in range(3):
            for t, share in enumerate(self.shares[CONTRAST_OF[c]]):
                off, on = by_level[0, :, t, c][luma], by_level[1, :, t, c][luma]
                at_pixels[..., c] += share * (off + self.edge * (on - off))
        return at_pixels

    def bins(self, component: int) -> NDArray[np.intp]:
        """Return the number of the nearest bin (H, W), 2 by LUMAS by CONTRASTS, of a component."""
        rows = np.clip(self.luma / (256 / LUMAS), 0, LUMAS - 1).astype(np.intp) + LUMAS * (self.edge > 0.5)
        return rows * CONTRASTS + self.shares[CONTRAST_OF[component]].argmax(0)


def local_contrast(base: Levels) -> tuple[Levels, Levels, Levels]:
    """Return the local mean luma of `base` (H, W, 3), and the logs of the local deviations of luma and of chroma."""
    ycc = base @ TO_YCC.T.astype(np.float32) - np.array([128, 0, 0], np.float32)
    size, border = (CONTRAST_WINDOW_PX, CONTRAST_WINDOW_PX), cv2.BORDER_REFLECT_101
    mean = cv2.GaussianBlur(ycc, size, WINDOW_SIGMA_PX, borderType=border)
    square = cv2.GaussianBlur(np.square(ycc), size, WINDOW_SIGMA_PX, borderType=border)
    variance = np.maximum(square - np.square(mean), 0)
    luma, chroma = np.sqrt(variance[..., 0]), np.sqrt(variance[..., 1:].sum(-1))
    return mean[..., 0] + 128, np.log(luma + 0.5), np.log(chroma + 0.5)


def edges(base: Levels) -> tuple[Levels, Levels]:
    """Return how much of an edge each pixel of `base` (H, W, 3) is, (H, W), and the shares of the edge's directions.

    By the structure tensor of luma (Bigün and Granlund 1987): its coherence, and the angle of the gradient, doubled.
    """
    luma = base @ TO_YCC[0].astype(np.float32)
    border = cv2.BORDER_REFLECT_101
    across, down = (cv2.Sobel(luma, -1, dx, dy, ksize=1, scale=0.5, borderType=border) for dx, dy in ((1, 0), (0, 1)))
    size = (CONTRAST_WINDOW_PX, CONTRAST_WINDOW_PX)
    xx, yy, xy = (
        cv2.GaussianBlur(product, size, WINDOW_SIGMA_PX, borderType=border)
        for product in (across * across, down * down, across * down)
    )
    along, diagonal = xx - yy, 2 * xy  # of the doubled angle, times the strength
    strength = np.sqrt(along * along + diagonal * diagonal)
    coherence = strength / (xx + yy + np.float32(LEAST_GRADIENT**2))
    edge = np.clip((coherence - COHERENT[0]) / (COHERENT[1] - COHERENT[0]), 0, 1).astype(np.float32)
    cosine, sine = (component / np.maximum(strength, np.float32(1e-6)) for component in (along, diagonal))
    # squares of what points each way: in sum 1, and halves between two directions
    shares = np.stack([np.square(np.maximum(part, 0)) for part in (cosine, sine, -cosine, -sine)])
    return edge, edge * shares


def activity_fields(seed: int, y: int, x: int, height: int, width: int) -> NDArray[np.float32]:
    """Return independent smooth Gaussian fields of unit variance, (height, width, OCTAVES), one for each of OCTAVES_PX.

    Rows begin at `y`, columns at `x` of the image: a part has the fields of its place in the whole.
    """
    fields = []
    for number, spacing in enumerate(OCTAVES_PX):
        (row, down), (column, across) = (_spline(*side, spacing) for side in ((y, height), (x, width)))
        lattice_seed = seed * (len(OCTAVES_PX) + 1) + number + 1
        lattice = white_field(lattice_seed, row, column, down.shape[1], across.shape[1], 1)[..., 0]
        fields.append(down @ lattice @ across.T)
    return np.stack(fields, axis=-1)


def _spline(first: int, length: int, spacing: int) -> tuple[int, NDArray[np.float32]]:
    """Return the first knot that pixels `first` to `first + length` lean on, and their weights (length, knots).

    Of cubic B-splines, their squares in sum 1: independent knots of unit variance make pixels of unit variance.
    """
    positions = np.arange(first, first + length) / spacing
    knot = int(np.floor(positions[0])) - 1
    away = np.abs(positions[:, None] - np.arange(knot, int(np.floor(positions[-1])) + 3))
    weights = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6)
    return knot, (weights / np.sqrt(np.square(weights).sum(1, keepdims=True))).astype(np.float32)


def deviation_at(base: Levels, deviations: NDArray[np.float32]) -> Levels:
    """Return each channel's deviation at its level in `base` (H, W, 3), linear between knots."""
    tables = np.stack([np.interp(LEVELS, KNOTS, deviation) for deviation in deviations], axis=-1).astype(np.float32)
    levels = np.clip(np.rint(base), 0, 255).astype(np.uint8)
    return np.stack([tables[levels[..., c], c] for c in range(3)], axis=-1)


def fit_signal_noise(
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    residuals: Sequence[Levels] | None = None,
    *,
    last_stage: Callable[[Levels], Levels] | None = None,
) -> SignalNoise:
    """Return the noise that `residuals` (default: distorted - base) look like, where neither side is clipped.

    `last_stage` is what happens to levels once noise has been added (rounding, a JPEG): a few rounds correct the
    amplitudes and spectra until drawn residuals behind it are like the true ones.
    """
    if residuals is None:
        residuals = [patch.distorted - base for patch, base in zip(patches, bases, strict=True)]
    noise = SignalNoise(
        deviations=_deviations(bases, residuals),
        amplitudes=np.ones((2, LUMAS, CONTRASTS, 3), np.float32),
        mixing=np.eye(3, dtype=np.float32),
        kernels=np.zeros((CLASSES, 3, KERNEL_PX, KERNEL_PX), np.float32),
        contrasts=_contrasts(bases),
        log_gains=np.zeros(1, np.float32),
        activity=np.zeros((len(OCTAVES_PX), 3), np.float32),
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
    return noise


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
        white = noise.whiten(base, residual, surroundings)[_unclipped(base).all(-1)].astype(np.float64)
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
        white = noise.whiten(base, residual, surroundings)
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

    Of each image in units of its mean square, squared.
    """
    products = []
    for (base, surroundings), residual in zip(pixels, residuals, strict=True):
        seen = np.asarray(_unclipped(base).all(-1))
        if seen.mean() < LEAST_SEEN or min(seen.shape) <= 2 * ACTIVITY_LAGS[-1]:
            continue
        squares = np.square(noise.whiten(base, residual, surroundings)) * seen[..., None]
        power = squares[seen].mean(0)
        rows = []
        for lag in ACTIVITY_LAGS:
            both = [(axis[lag:], axis[:-lag]) for axis in (squares, squares.swapaxes(0, 1))]
            pairs = [np.count_nonzero(axis[lag:] & axis[:-lag]) for axis in (seen, seen.T)]
            sums = [np.einsum("hwc,hwc->c", one, other, dtype=np.float64) for one, other in both]
            rows.append(sum(sums) / max(sum(pairs), 1) / power**2)
        products.append(rows)
    return np.maximum(np.mean(products, axis=0), 1e-3) if products else np.ones((len(ACTIVITY_LAGS), 3))


def _field_correlations(spacing: int) -> NDArray[np.float64]:
    """Return the correlation of an octave's field at each of ACTIVITY_LAGS, over all places in its lattice."""
    _, weights = _spline(0, spacing + ACTIVITY_LAGS[-1], spacing)
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
