"""Linear filters: a convolution kernel for each channel, for all images or drawn per image.

Each kernel solves min ‖y - x - k * x‖² + ridge ‖k‖² over its own support: y - x, so that the ridge pulls towards the
identity. The normal equations are Toeplitz in the lags, up to borders, which are tapered; Fourier space gives all of
them in one go. Blur, defocus, motion, sharpening, sub-pixel shifts and lateral colour are kernels.

Linear filters that repeat every few pixels: what images that were once smaller have in common.

Scaling down and up again treats rows and columns by turns differently; so do mosaics and chroma subsampling. There is a
kernel for each phase and each channel, for all images or drawn per image: least squares over random pixels of the
phase, y - x on the neighbourhood, so that the ridge pulls towards the identity.

Filters that change over the image: vignetting, lateral colour, blur that grows off-centre.

y - x = Σ φ_b(u, v) (k_b * x), in linear light or on sRGB levels, with low polynomials φ of the position and a small
kernel for each and each channel; least squares over random pixels of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import scipy  # its windows, a second of imports, load at their first use, in a fit
from numpy.typing import NDArray
from scipy.linalg import solve

from distort_pipeline.networks.patches import TO_RGB, TO_YCC, Levels, PairPatch, TilePosition

RIDGE = 1e-4  # of the power of x per tap
OWN_PATCHES, SHARED_PATCHES = 2, 24  # at most, of an image's own kernels and of those of all images
TURNS = 2  # each solves for what the one before left
TAPERED = 0.25  # share of each side on which the weight falls to 0: a convolution of tapered images, nearly


@dataclass(frozen=True)
class Filters:
    """Kernels (images, 3, K, K), K odd, of what is added, and offsets (images, 3) in levels.

    They act on sRGB values; or on `linear` light: what happens in front of a sensor blurs light; or on Y, Cb and Cr,
    `ycc`: chroma is filtered otherwise than luma by whatever stores less of it.
    """

    kernels: NDArray[np.float32]
    offsets: NDArray[np.float32]
    linear: bool = False
    ycc: bool = False

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
        values = to_linear(image) if self.linear else to_ycc(image) if self.ycc else image
        border = cv2.BORDER_REFLECT_101
        channels = [
            values[..., c] + offset[c] + cv2.filter2D(values[..., c], cv2.CV_32F, kernel[c], borderType=border)
            for c in range(3)
        ]
        filtered = np.stack(channels, axis=-1)
        return to_display(filtered) if self.linear else to_rgb(filtered) if self.ycc else filtered


def to_linear(levels: Levels) -> Levels:
    """Return sRGB `levels` as linear light, both on 0-255 (IEC 61966-2-1)."""
    unit = np.clip(levels, 0, 255) / np.float32(255)
    return 255 * np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_display(linear: Levels) -> Levels:
    """Return linear light as sRGB levels, both on 0-255; the inverse of `to_linear`."""
    unit = np.clip(linear, 0, 255) / np.float32(255)
    return 255 * np.where(unit <= 0.0031308, unit * 12.92, 1.055 * unit ** (1 / 2.4) - 0.055).astype(np.float32)


def to_ycc(levels: NDArray[Any]) -> Levels:
    """Return Y, Cb and Cr of RGB `levels`, the colour differences about 128."""
    return levels @ TO_YCC.T.astype(np.float32) + np.array([0, 128, 128], np.float32)


def to_rgb(ycc: Levels) -> Levels:
    """Return the RGB levels of Y, Cb and Cr; the inverse of `to_ycc`."""
    return (ycc - np.array([0, 128, 128], np.float32)) @ TO_RGB.T.astype(np.float32)


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
        taper = np.outer(*(scipy.signal.windows.tukey(side, TAPERED) for side in base.shape[:2]))
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
            diagonal = np.diag_indices_from(gram)
            gram[diagonal] += RIDGE * (gram[diagonal] + self.means[c, 0])  # a flat image tells nothing, not an error
            kernel = solve(gram, self.cross[c].ravel(), assume_a="pos").reshape(side, side)
            pixels, x, remainder = self.means[c]
            offsets.append((remainder - kernel.sum() * x) / pixels)
            kernels.append(kernel[::-1, ::-1])  # filter2D correlates
        return np.array(kernels, np.float32), np.array(offsets, np.float32)


def fit_filters(
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    *,
    radius_px: int,
    per_image: bool,
    linear: bool = False,
    ycc: bool = False,
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
        if ycc:
            pairs = [(to_ycc(base), to_ycc(distorted)) for base, distorted in pairs]
        for _ in range(TURNS):
            present = Filters(kernels[row : row + 1], offsets[row : row + 1])
            sums = FilterSums(radius_px)
            for base, distorted in pairs:
                sums.add(base, distorted - present.distort(base, 0))
            kernel, offset = sums.solve()
            kernels[row] += kernel
            offsets[row] += offset
    return Filters(kernels, offsets, linear, ycc)


def _lags(correlation: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Return the lags from -radius to radius of a circular correlation."""
    lags = np.arange(-radius, radius + 1)
    return correlation[np.ix_(lags, lags)]


PHASE_RADIUS_PX = 5
PHASE_PIXELS = 12_000  # of an image's phase, or of each patch where all images share a kernel
PATCHES = 24  # at most


class PhaseFilters(Filters):
    """Kernels (images, period², 3, K, K) of what is added at each phase, and offsets (images, period², 3) in levels."""

    def distort(self, image: Levels, choice: int, position: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) filtered; without `position` it begins at phase 0. Borders are reflected."""
        number = choice % len(self.kernels)
        values = to_linear(image) if self.linear else image
        filtered = np.empty_like(values)
        period = round(self.kernels.shape[1] ** 0.5)
        first = (position.y % period, position.x % period) if position else (0, 0)
        for phase, (kernels, offsets) in enumerate(zip(self.kernels[number], self.offsets[number], strict=True)):
            row, column = ((each - start) % period for each, start in zip(divmod(phase, period), first, strict=True))
            rows, columns = slice(row, None, period), slice(column, None, period)
            for c in range(3):
                change = cv2.filter2D(values[..., c], cv2.CV_32F, kernels[c], borderType=cv2.BORDER_REFLECT_101)
                filtered[rows, columns, c] = values[rows, columns, c] + change[rows, columns] + offsets[c]
        return to_display(filtered) if self.linear else filtered


def fit_phase_filters(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, period: int, per_image: bool, linear: bool = False
) -> PhaseFilters:
    """Return the kernels that bring `bases`, one a patch, nearest to the distorted ones; one set, or one an image."""
    rng = np.random.Generator(np.random.PCG64(0))
    images = sorted({patch.image for patch in patches}) if per_image else [-1]
    side, phases = 2 * PHASE_RADIUS_PX + 1, period * period
    kernels = np.zeros((len(images), phases, 3, side, side), np.float32)
    offsets = np.zeros((len(images), phases, 3), np.float32)
    for number, image in enumerate(images):
        chosen = [(p, b) for p, b in zip(patches, bases, strict=True) if image in (-1, p.image)]
        spread = np.unique(np.linspace(0, len(chosen) - 1, min(PATCHES, len(chosen))).astype(int))
        few = [chosen[n] for n in spread]
        pairs = [(base, patch.distorted.astype(np.float32)) for patch, base in few]
        if linear:
            pairs = [(to_linear(base), to_linear(distorted)) for base, distorted in pairs]
        for phase in range(phases):
            corners = [
                tuple((n - start) % period for n, start in zip(divmod(phase, period), (p.y, p.x), strict=True))
                for p, _ in few
            ]
            for c in range(3):
                planes = [(base[..., c], distorted[..., c]) for base, distorted in pairs]
                kernels[number, phase, c], offsets[number, phase, c] = _solved(planes, corners, period, rng)
    return PhaseFilters(kernels, offsets, linear)


def _solved(
    planes: Sequence[tuple[Levels, Levels]],
    corners: Sequence[tuple[int, ...]],
    period: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float]:
    """Return the kernel (K, K) and the offset that bring x nearest to y in `planes` (x, y), every `period` pixels.

    `corners` are the first row and column of each plane that count.
    """
    r, side = PHASE_RADIUS_PX, 2 * PHASE_RADIUS_PX + 1
    lags = np.arange(-r, r + 1)
    gram, cross = np.zeros((side * side + 1,) * 2), np.zeros(side * side + 1)
    count = PHASE_PIXELS // len(planes)
    for (x, y), corner in zip(planes, corners, strict=True):
        rows, columns = (
            first + period * rng.integers(-((first - r) // period), (length - r - 1 - first) // period + 1, count)
            for first, length in zip(corner, x.shape, strict=True)
        )
        unclipped = (y[rows, columns] > 1) & (y[rows, columns] < 254)
        rows, columns = rows[unclipped], columns[unclipped]
        taps = x[rows[:, None, None] + lags[:, None], columns[:, None, None] + lags].reshape(len(rows), side * side)
        design = np.concatenate([taps, np.ones((len(rows), 1), np.float32)], axis=1)
        gram += design.T @ design
        cross += design.T @ (y - x)[rows, columns]
    ridge = RIDGE * np.trace(gram[:-1, :-1]) / (side * side)
    gram[np.diag_indices(side * side)] += ridge
    gram[-1, -1] += 1e-6
    solution = solve(gram, cross, assume_a="pos")
    return solution[:-1].reshape(side, side), float(solution[-1])


FIELD_PIXELS = 40_000  # of all images together
FIELD_RIDGE = 1e-5


@dataclass(frozen=True)
class FieldFilters:
    """Kernels (BASES, 3, K, K) of what is added."""

    kernels: NDArray[np.float32]
    linear: bool
    sets: ClassVar[int] = 1  # to choose from: all images have the same

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel."""
        return self.kernels.shape[-1] // 2

    def distort(self, image: Levels, _: int, position: TilePosition) -> Levels:
        """Return `image` (H, W, 3), a tile at `position`, filtered; borders are reflected."""
        values = to_linear(image) if self.linear else image
        rows = np.arange(position.y, position.y + image.shape[0])
        columns = np.arange(position.x, position.x + image.shape[1])
        bases = position_bases(rows[:, None], columns[None], position.height, position.width)
        out = values.copy()
        for basis, kernel in zip(bases, self.kernels, strict=True):
            for c in range(3):
                filtered = cv2.filter2D(values[..., c], cv2.CV_32F, kernel[c], borderType=cv2.BORDER_REFLECT_101)
                out[..., c] += basis * filtered
        return to_display(out) if self.linear else out


def position_bases(rows: NDArray[Any], columns: NDArray[Any], height: int, width: int) -> list[NDArray[np.float32]]:
    """Return the polynomials φ at `rows` and `columns`: of offsets from the centre in half diagonals."""
    half = np.hypot(height, width) / 2
    v = ((rows - (height - 1) / 2) / half).astype(np.float32)
    u = ((columns - (width - 1) / 2) / half).astype(np.float32)
    u, v = np.broadcast_arrays(u, v)
    square = u * u + v * v
    return [np.ones_like(u), u, v, square, u * square, v * square, u * u - v * v, u * v, square * square]


def fit_field_filters(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, radius_px: int, linear: bool, seed: int = 0
) -> FieldFilters:
    """Return the filters that bring `bases`, one a patch, nearest to the distorted patches."""
    rng = np.random.Generator(np.random.PCG64(seed))
    r, side = radius_px, 2 * radius_px + 1
    each = max(FIELD_PIXELS // len(patches), 16)
    gram = target = None
    for patch, base in zip(patches, bases, strict=True):
        x, y = base, patch.distorted.astype(np.float32)
        if linear:
            x, y = to_linear(x), to_linear(y)
        rows = rng.integers(r, x.shape[0] - r, each)
        columns = rng.integers(r, x.shape[1] - r, each)
        open_ = ((patch.distorted[rows, columns] > 2) & (patch.distorted[rows, columns] < 253)).all(-1)
        rows, columns = rows[open_], columns[open_]
        maps = np.stack(
            position_bases(rows + patch.y, columns + patch.x, patch.image_height, patch.image_width), axis=-1
        )
        lags = np.arange(-r, r + 1)
        own_gram, own_target = [], []
        for c in range(3):
            taps = x[rows[:, None, None] + lags[:, None], columns[:, None, None] + lags, c].reshape(
                len(rows), side * side
            )
            design = (maps[:, :, None] * taps[:, None, :]).reshape(len(rows), maps.shape[1] * side * side)
            own_gram.append((design.T @ design).astype(np.float64))
            own_target.append((design.T @ (y - x)[rows, columns, c]).astype(np.float64))
        gram = np.stack(own_gram) if gram is None else gram + np.stack(own_gram)
        target = np.stack(own_target) if target is None else target + np.stack(own_target)
    assert gram is not None
    assert target is not None
    kernels = []
    for c in range(3):
        ridge = FIELD_RIDGE * np.trace(gram[c]) / len(gram[c])
        solved = np.linalg.solve(gram[c] + ridge * np.eye(len(gram[c])), target[c])
        kernels.append(solved.reshape(-1, side, side))
    return FieldFilters(np.stack(kernels, axis=1).astype(np.float32), linear)
