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
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from distort_pipeline.networks.patches import TO_RGB, TO_YCC, Levels, white_field

LUMAS = 8  # bins
CONTRASTS = 6  # bins
CONTRAST_OF = (0, 1, 1)  # of Y the contrast of luma, of Cb and Cr that of chroma
DIRECTIONS = 4  # of edges, 45 degrees apart
CLASSES = CONTRASTS + DIRECTIONS  # of pixels, each with its kernels
COHERENT = (0.4, 0.9)  # from where on a pixel counts as of an edge, and as of nothing else
LEAST_GRADIENT = 1.0  # levels a pixel: weaker ones have no direction
WINDOW_SIGMA_PX = 2.0  # of the local mean and deviation
CONTRAST_WINDOW_PX = 7
KERNEL_PX, REACH_PX = 15, 7  # noise is correlated over half of it at most; slower parts are the network's
LEVELS = np.arange(256)
KNOTS = np.linspace(0, 255, 17)  # levels at which each channel's deviation is fitted
OCTAVES_PX = (4, 8, 16, 32)  # spacings of the lattices under activity's fields
FIELDS = 2 + len(OCTAVES_PX)  # of a seed


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
    stripes: NDArray[np.float32]  # (2, 3, 3): roots of the covariances of rows' and columns' offsets, RGB, in levels
    reach_px: ClassVar[int] = CONTRAST_WINDOW_PX // 2 + 1  # of the image; white noise is drawn as far as is needed

    def draw(self, base: Levels, rng: np.random.Generator, log_gain: float, fields: Fields | None = None) -> Levels:
        """Return noise for `base` (H, W, 3) in levels, RGB; its activity and stripes by `fields`, else drawn ones."""
        height, width = base.shape[:2]
        if fields is None:
            fields = Fields.of(int(rng.integers(2**32)), 0, 0, height, width)
        white = rng.standard_normal((height + 2 * REACH_PX, width + 2 * REACH_PX, 3), dtype=np.float32)
        return self.colour(base, white, log_gain, fields)

    def colour(self, base: Levels, white: NDArray[np.float32], log_gain: float, fields: Fields) -> Levels:
        """Return noise with the spectrum, covariance and strength that belong to `base` (H, W, 3).

        `white` (H + 14, W + 14, 3) is white noise that reaches 7 px beyond it on every side.
        """
        height, width = base.shape[:2]
        surroundings = Surroundings.of(base, self.contrasts)
        shape = (next_fast_len(white.shape[0], real=True), next_fast_len(white.shape[1], real=True))
        kernel_spectra = _kernel_spectra(self.kernels.tobytes(), shape)
        inside = (slice(2 * REACH_PX, 2 * REACH_PX + height), slice(2 * REACH_PX, 2 * REACH_PX + width))
        components = np.zeros((height, width, 3), np.float32)
        for c in range(3):
            spectrum = rfft2(white[..., c], shape)
            for kernel, share in zip(kernel_spectra[:, c], surroundings.classes(c), strict=True):
                if share.any():
                    filtered = irfft2(spectrum * kernel, shape)[inside]
                    components[..., c] += share * filtered  # of one z: amplitudes add up, not powers
        activity = np.exp(fields.activity @ self.activity - np.square(self.activity).sum(0))  # its mean square is 1
        ycc = activity * surroundings.interpolate(self.amplitudes) * (components @ self.mixing.T)
        unit = ycc @ TO_RGB.T.astype(np.float32)
        noise = deviation_at(base, self.deviations) * unit
        if self.stripes.any():
            of_rows, of_columns = fields.rows @ self.stripes[0].T, fields.columns @ self.stripes[1].T
            noise = noise + of_rows[:, None] + of_columns
        return (np.exp(log_gain) * noise).astype(np.float32)

    def times(self, gains: NDArray[np.floating]) -> SignalNoise:
        """Return this noise with Y, Cb and Cr times `gains` (3,)."""
        return replace(self, amplitudes=(self.amplitudes * gains).astype(np.float32))


@lru_cache(maxsize=4)
def _kernel_spectra(kernels: bytes, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Return the transforms (CLASSES, 3, h, w) of a noise's kernels for a field of `shape`."""
    taps = np.frombuffer(kernels, np.float32).reshape(CLASSES, 3, KERNEL_PX, KERNEL_PX)
    return np.asarray(rfft2(taps, shape))


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


@dataclass(frozen=True)
class Fields:
    """What is drawn for an image as a whole, in a part of it: activity (H, W, OCTAVES), rows (H, 3), columns (W, 3)."""

    activity: NDArray[np.float32]
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]

    @classmethod
    def of(cls, seed: int, y: int, x: int, height: int, width: int) -> Fields:
        """Return those of the part that begins at row `y`, column `x`: a part has the fields of its place."""
        lines = (FIELDS * seed, FIELDS * seed + 1)
        rows = white_field(lines[0], y, 0, height, 1, 3)[:, 0]
        columns = white_field(lines[1], 0, x, 1, width, 3)[0]
        return cls(activity_fields(seed, y, x, height, width), rows, columns)


def activity_fields(seed: int, y: int, x: int, height: int, width: int) -> NDArray[np.float32]:
    """Return independent smooth Gaussian fields of unit variance, (height, width, OCTAVES), one for each of OCTAVES_PX.

    Rows begin at `y`, columns at `x` of the image: a part has the fields of its place in the whole.
    """
    fields = []
    for number, spacing in enumerate(OCTAVES_PX):
        (row, down), (column, across) = (spline_weights(*side, spacing) for side in ((y, height), (x, width)))
        lattice = white_field(FIELDS * seed + 2 + number, row, column, down.shape[1], across.shape[1], 1)[..., 0]
        fields.append(down @ lattice @ across.T)
    return np.stack(fields, axis=-1)


def spline_weights(first: int, length: int, spacing: int) -> tuple[int, NDArray[np.float32]]:
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
