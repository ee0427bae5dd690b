"""Linear filters: a convolution kernel for each channel, for all images or drawn per image.

Each kernel solves min ‖y - x - k * x‖² + ridge ‖k‖² over its own support: y - x, so that the ridge pulls towards the
identity. The normal equations are Toeplitz in the lags, up to borders, which are tapered; Fourier space gives all of
them in one go. Blur, defocus, motion, sharpening, sub-pixel shifts and lateral colour are
kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.signal.windows import tukey

from distort_pipeline.components.patches import Levels, PairPatch, TilePosition

RIDGE = 1e-4  # of the power of x per tap
OWN_PATCHES, SHARED_PATCHES = 2, 24  # at most, of an image's own kernels and of those of all images
TURNS = 2  # each solves for what the one before left
TAPERED = 0.25  # share of each side on which the weight falls to 0: a convolution of tapered images, nearly


@dataclass(frozen=True)
class Filters:
    """Kernels (images, 3, K, K), K odd, of what is added, and offsets (images, 3) in levels.

    They act on sRGB values, or on `linear` light: what happens in front of a sensor blurs light.
    """

    kernels: NDArray[np.float32]
    offsets: NDArray[np.float32]
    linear: bool = False

    @property
    def reach_px(self) -> int:
        """Pixels that a kernel reaches in each direction."""
        return self.kernels.shape[-1] // 2

    @property
    def sets(self) -> int:
        """The number of kernels to choose from."""
        return len(self.kernels)

    def distort(self, image: Levels, choice: int, _: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) plus its convolution with kernel number `choice`; borders are reflected."""
        kernel, offset = self.kernels[choice % len(self.kernels)], self.offsets[choice % len(self.kernels)]
        values = to_linear(image) if self.linear else image
        border = cv2.BORDER_REFLECT_101
        channels = [
            values[..., c] + offset[c] + cv2.filter2D(values[..., c], cv2.CV_32F, kernel[c], borderType=border)
            for c in range(3)
        ]
        filtered = np.stack(channels, axis=-1)
        return to_display(filtered) if self.linear else filtered


def to_linear(levels: Levels) -> Levels:
    """Return sRGB `levels` as linear light, both on 0-255 (IEC 61966-2-1)."""
    unit = np.clip(levels, 0, 255) / np.float32(255)
    return 255 * np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_display(linear: Levels) -> Levels:
    """Return linear light as sRGB levels, both on 0-255; the inverse of `to_linear`."""
    unit = np.clip(linear, 0, 255) / np.float32(255)
    return 255 * np.where(unit <= 0.0031308, unit * 12.92, 1.055 * unit ** (1 / 2.4) - 0.055).astype(np.float32)


class FilterSums:
    """The normal equations of the kernels of one image, or of all, about a present solution: sums over patches.

    Where patches end, the weight falls to 0. The Gram matrix is that of tapered images, Toeplitz in the lags, which is
    near the exact one; the gradient is exact, so that a few turns of solving for what is left converge to it.
    """

    def __init__(self, radius_px: int) -> None:
        self.radius_px = radius_px
        span = 4 * radius_px + 1
        self.gram = np.zeros((3, span, span))  # autocorrelation of x at lags up to twice the radius
        self.cross = np.zeros((3, 2 * radius_px + 1, 2 * radius_px + 1))
        self.means = np.zeros((3, 3))  # pixels, sum of x, sum of what is left

    def add(self, base: Levels, remainder: Levels) -> None:
        """Take in a patch (H, W, 3) of x, and what the present solution leaves of y."""
        r = self.radius_px
        taper = np.outer(*(tukey(side, TAPERED) for side in base.shape[:2]))
        weight = np.square(taper)
        total = weight.sum()
        shape = [cv2.getOptimalDFTSize(side + 2 * r) for side in base.shape[:2]]
        for c in range(3):
            means = [float((weight * plane[..., c]).sum() / total) for plane in (base, remainder)]
            self.means[c] += base[..., c].size * np.array([1.0, *means])
            x, change = (plane[..., c] - mean for plane, mean in zip((base, remainder), means, strict=True))
            f_tapered, f_x, f_change = (np.fft.rfft2(plane, shape) for plane in (taper * x, x, weight * change))
            self.cross[c] += _lags(np.fft.irfft2(f_change * f_x.conj(), shape), r)
            self.gram[c] += _lags(np.fft.irfft2(np.square(np.abs(f_tapered)), shape), 2 * r)

    def solve(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what to add to kernels (3, K, K), flipped for cv2.filter2D, and to offsets (3,)."""
        r = self.radius_px
        side = 2 * r + 1
        rows, columns = np.divmod(np.arange(side * side), side)
        down, across = (positions[:, None] - positions[None] + 2 * r for positions in (rows, columns))
        kernels, offsets = [], []
        for c in range(3):
            gram = self.gram[c][down, across]
            gram[np.diag_indices_from(gram)] *= 1 + RIDGE
            kernel = solve(gram, self.cross[c].ravel(), assume_a="pos").reshape(side, side)
            pixels, x, remainder = self.means[c]
            offsets.append((remainder - kernel.sum() * x) / pixels)
            kernels.append(kernel[::-1, ::-1])  # filter2D correlates
        return np.array(kernels, np.float32), np.array(offsets, np.float32)


def fit_filters(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, radius_px: int, per_image: bool, linear: bool = False
) -> Filters:
    """Return the kernels that bring `bases`, one a patch, nearest to the distorted ones; one set, or one an image."""
    images = sorted({patch.image for patch in patches}) if per_image else [-1]
    side = 2 * radius_px + 1
    kernels = np.zeros((len(images), 3, side, side), np.float32)
    offsets = np.zeros((len(images), 3), np.float32)
    for row, image in enumerate(images):
        chosen = [(p, b) for p, b in zip(patches, bases, strict=True) if image in (-1, p.image)]
        most = OWN_PATCHES if per_image else SHARED_PATCHES
        spread = np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int))
        pairs = [(chosen[n][1], chosen[n][0].distorted.astype(np.float32)) for n in spread]
        if linear:
            pairs = [(to_linear(base), to_linear(distorted)) for base, distorted in pairs]
        for _ in range(TURNS):
            present = Filters(kernels[row : row + 1], offsets[row : row + 1])
            sums = FilterSums(radius_px)
            for base, distorted in pairs:
                sums.add(base, distorted - present.distort(base, 0))
            kernel, offset = sums.solve()
            kernels[row] += kernel
            offsets[row] += offset
    return Filters(kernels, offsets, linear)


def _lags(correlation: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Return the lags from -radius to radius of a circular correlation."""
    lags = np.arange(-radius, radius + 1)
    return correlation[np.ix_(lags, lags)]
