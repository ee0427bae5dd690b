"""Images that were once smaller: from which share of their sides they were scaled back, and by which kernel.

An image that was scaled up lies in the range of the kernel's matrix: rows of it leave a residual of rounding alone, for
the right size and kernel. That tells both exactly, whatever happened to the small image (compare Popescu and Farid,
"Exposing digital forgeries by detecting traces of resampling", IEEE TSP 2005, which looks at the same dependence).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import scipy  # its sparse matrices load at their first use, in a fit
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3), sRGB
Dips = Mapping[str, tuple[int, float]]  # kernel → pixels of the shorter side, and how deep the residual falls there

SHARES = (0.08, 0.92)  # of the sides, at least and at most
MOST_LEFT = 1.0  # levels²: more is not rounding
DIP, NEAR = 0.45, 3  # where the residual is that much below those of sizes NEAR pixels away, the size is told
SAME_DEPTH = 0.02
COMMON, COMMONLY = 0.01, 0.7  # shares so near to the median, of so many images, are one
BANDWIDTH = 8  # of the Gram matrix of a kernel's rows
MOST_LIKE = 0.5  # of the images tell their size
KERNEL_IMAGES = 3  # that decide on the kernel
TRIED_ROWS = 32  # of an image
MOST_PX = 720  # of an image's shorter side
COARSE_PX = 512  # of an image on each side, to begin with
OPENCV = {
    "OpenCV nearest": cv2.INTER_NEAREST,
    "OpenCV linear": cv2.INTER_LINEAR,
    "OpenCV cubic": cv2.INTER_CUBIC,
    "OpenCV Lanczos": cv2.INTER_LANCZOS4,
    "OpenCV area": cv2.INTER_AREA,
}
PILLOW = {
    "Pillow nearest": Image.Resampling.NEAREST,
    "Pillow box": Image.Resampling.BOX,
    "Pillow bicubic": Image.Resampling.BICUBIC,
    "Pillow Lanczos": Image.Resampling.LANCZOS,
}
UP = tuple(name for name in (*OPENCV, *PILLOW) if name not in ("OpenCV area", "Pillow box"))
DOWN = ("OpenCV area", *(name for name in (*OPENCV, *PILLOW) if name != "OpenCV area"))
ROUNDED = {"nearest": 0.5, "down": 1e-6}  # added to a side times the share, of which the whole part is taken


@dataclass(frozen=True)
class Smaller:
    """Shares of an image's sides, one of which is drawn for it, the kernels down and back up, and how sides round."""

    shares: tuple[float, ...]
    down: str
    up: str
    rounded: str = "nearest"  # of ROUNDED

    @property
    def described(self) -> str:
        """The size in words."""
        low, high = min(self.shares), max(self.shares)
        return f"{low:.2g} of the size" if low == high else f"{low:.2g} to {high:.2g} of the size"

    def distort(self, image: Pixels, rng: np.random.Generator, between: Callable[[Pixels], Pixels]) -> Pixels:
        """Return `image` (H, W, 3) scaled down, through `between`, and scaled back; `rng` draws the share."""
        share = self.shares[int(rng.integers(len(self.shares)))]
        height, width = (max(int(side * share + ROUNDED[self.rounded]), 8) for side in image.shape[:2])
        small = between(resized(image, height, width, self.down))
        return resized(small, image.shape[0], image.shape[1], self.up)


def resized(image: Pixels, height: int, width: int, kernel: str) -> Pixels:
    """Return `image` with other sides, by a kernel of OPENCV or PILLOW."""
    if kernel in OPENCV:
        return np.asarray(cv2.resize(image, (width, height), interpolation=OPENCV[kernel]), np.uint8)
    return np.asarray(Image.fromarray(image).resize((width, height), PILLOW[kernel]))


def find_smaller(pairs: Sequence[tuple[Pixels, Pixels]]) -> Smaller | None:
    """Return how the distorted images were once smaller; None unless most were, by the same kernel.

    Images of more than MOST_PX on both sides, where there are too many sizes to try, are left out.
    """
    pairs = [pair for pair in pairs if min(pair[0].shape[:2]) <= MOST_PX]
    if not pairs:
        return None
    rough = [(pair, share) for pair in pairs if (share := _rough_share(*pair)) is not None]
    kernels: tuple[str, ...] = UP
    told = []
    for pair, share in rough:
        dips = {kernel: _dip(pair[1], share, kernel) for kernel in kernels}
        if min(depth for _, depth in dips.values()) < DIP:
            told.append((pair, dips))
        if len(told) == KERNEL_IMAGES:
            kernels = (_deepest(told),)
    if len(told) < MOST_LIKE * len(pairs):
        return None
    up = _deepest(told)
    sizes = [dips[up][0] for _, dips in told]
    sides = [min(y.shape[:2]) for (_, y), _ in told]

    def error(smaller: Smaller, own: Sequence[float]) -> float:
        rng = np.random.default_rng(0)  # draws among one
        errors = [
            _mse(replace(smaller, shares=(share,)).distort(x, rng, np.asarray), y)
            for share, ((x, y), _) in zip(own, told, strict=True)
        ]
        return float(np.mean(errors))

    drawn = [size / side for size, side in zip(sizes, sides, strict=True)]
    down = min(DOWN, key=lambda kernel: error(Smaller((1.0,), kernel, up), drawn))
    kinds = [(Smaller(tuple(sorted({round(share, 4) for share in drawn})), down, up), drawn)]
    for rounded in ROUNDED:
        share = _common_share(sizes, sides, rounded)
        if share is not None:
            kinds.append((Smaller((share,), down, up, rounded), [share] * len(told)))
    return min(kinds, key=lambda kind: error(*kind))[0]


def _common_share(sizes: Sequence[int], sides: Sequence[int], rounded: str) -> float | None:
    """Return the simplest share that makes nearly all `sides` these `sizes`; None if there is none."""
    size, side = (np.asarray(of, np.float64) for of in (sizes, sides))
    alike = np.abs(size / side - np.median(size / side)) < COMMON
    if alike.mean() < COMMONLY:
        return None
    low = np.max((size - ROUNDED[rounded])[alike] / side[alike])
    high = np.min((size + 1 - ROUNDED[rounded])[alike] / side[alike])
    for denominator in range(1, MOST_PX):
        share = np.ceil(low * denominator) / denominator
        if share < high:
            return float(share)
    return None


def _deepest(told: Sequence[tuple[Any, Dips]]) -> str:
    """Return the kernel whose sizes leave the least of all images."""
    kernels = set.intersection(*(set(dips) for _, dips in told))
    return min(kernels, key=lambda kernel: (np.mean([np.log(dips[kernel][1]) for _, dips in told]), kernel))


def _rough_share(pristine: Pixels, distorted: Pixels) -> float | None:
    """Return from which share of its size the pristine image comes back most like the distorted one; None if all."""
    height, width = (min(side, COARSE_PX) for side in pristine.shape[:2])
    x, y = pristine[:height, :width], distorted[:height, :width]
    shares = np.arange(*SHARES, 0.04)
    errors = []
    for share in shares:
        small = resized(x, round(height * share), round(width * share), "OpenCV area")
        errors.append(_mse(resized(small, height, width, "OpenCV cubic"), y))
    best = int(np.argmin(errors))
    return float(shares[best]) if errors[best] < _mse(x, y) else None


def _dip(image: Pixels, rough: float, kernel: str) -> tuple[int, float]:
    """Return the size at which lines of `image` along its shorter side leave far less than nearby, and that ratio.

    Loss in the small image makes it smoother: the rough share is about the least of those to try.
    """
    if image.shape[0] < image.shape[1]:
        image = image.transpose(1, 0, 2)
    width = image.shape[1]
    unclipped = np.flatnonzero(((image[..., 1] > 0) & (image[..., 1] < 255)).all(axis=1))
    if len(unclipped) < 4:
        return round(rough * width), 1.0
    rows = unclipped[np.unique(np.linspace(0, len(unclipped) - 1, TRIED_ROWS).astype(int))]
    values = image[rows, :, 1].T.astype(np.float64)
    values = values - values.mean(0)
    sizes = np.arange(int(width * max(rough - 0.06, SHARES[0])), int(width * min(2.2 * rough, SHARES[1])) + 1)
    left = np.array([_left(values, int(size), kernel) for size in sizes])
    depths = np.ones(len(sizes))
    for n in range(NEAR, len(sizes) - NEAR):
        depths[n] = left[n] / (min(left[n - NEAR], left[n + NEAR]) + 1e-3)
    depths = np.where(left < MOST_LEFT, depths, 1.0)
    best = int(np.flatnonzero(depths <= depths.min() + SAME_DEPTH)[0])  # multiples of the size explain it as well
    return int(sizes[best]), float(depths[best])


def _left(values: NDArray[np.float64], size: int, kernel: str) -> float:
    """Return the mean square of what rows of `size` pixels, scaled up, cannot explain of the columns of `values`."""
    up, bands = _scaled_up(size, len(values), kernel)
    small = scipy.linalg.cho_solve_banded((bands, False), up.T @ values)
    return float(np.square(values - up @ small).mean())


@functools.lru_cache(maxsize=1024)  # images have often the same sides; some 40 kB each
def _scaled_up(size: int, width: int, kernel: str) -> tuple[scipy.sparse.csr_matrix, NDArray[np.float64]]:
    """Return the matrix (width, size) that scales a row up, and the factor of its normal equations in bands."""
    up = scipy.sparse.csr_matrix(_matrix(size, width, kernel).astype(np.float64))
    gram = up.T @ up
    bands = np.zeros((BANDWIDTH + 1, size))
    for band in range(BANDWIDTH + 1):
        bands[BANDWIDTH - band, band:] = gram.diagonal(band)
    bands[-1] += 1e-6
    return up, scipy.linalg.cholesky_banded(bands)


def _matrix(size: int, width: int, kernel: str) -> NDArray[np.float32]:
    """Return the matrix (width, size) by which `kernel` scales a row of `size` pixels up."""
    unit = np.eye(size, dtype=np.float32)
    if kernel in OPENCV:
        return np.asarray(cv2.resize(unit, (size, width), interpolation=OPENCV[kernel]), np.float32)
    return np.asarray(Image.fromarray(unit).resize((size, width), PILLOW[kernel]), np.float32)


def _mse(x: Pixels, y: Pixels) -> float:
    return float(np.square(x.astype(np.float32) - y).mean())
