"""The move of a pristine image onto its partner: a shift, or a warp, which changes from place to place.

A photograph of a screen or a print, another lens, a camera that was turned a little: each window of such a pair has a
shift of its own, and a cubic polynomial of the place describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import cv2
import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from distort_pipeline.metrics.jsd_nss import luma
from distort_pipeline.metrics.window_shift import COHERENT, Plane, WindowShift, detail_of, window_shift
from distort_pipeline.records import TILE_ALIGN_PX, Image, Json, Tile, to_uint8

MOST_PX = 32_766  # of a side, for OpenCV's remap
LANCZOS_PX = 4  # half-width of the interpolation kernel
DEGREE = 3
POWERS = np.array([(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)])  # (10, 2): of y, of x
# side of the windows, their number along each side of the image, and the degree: a turn hides in small windows, and
# moves the detail of large ones apart, until its greater part is known
PASSES = ((256, 6, 1), (192, 8, 2), (128, 12, 3))
SMALLEST_WINDOW_PX = 64
AGREEMENT_PX = 0.25  # between a window and the polynomial
MOST = 0.75  # of the windows that are coherent
WINDOWS_A_TERM = 3  # that are coherent, at least
LEAST_BEND_PX = 0.25  # between two windows: below, it is a shift
LEFT = 0.95  # of what details have not in common: a warp that leaves more is none
FITS = 8  # of robust least squares
BENDING = 0.1  # px of a window that a coefficient of 1 px costs, beyond the first degree: skies show no shifts

Coefficients: TypeAlias = NDArray[np.float64]  # (10, 2): px down and to the right, for each of the POWERS
Corner: TypeAlias = tuple[int, int]
Pixels = TypeVar("Pixels", Image, Plane)


@dataclass(frozen=True)
class Shift:
    """A move that is the same everywhere; whole pixels are copied."""

    dy: float  # px, down
    dx: float  # px, to the right

    def apply(self, image: Image) -> Image:
        """Return `image` moved, of the same size; only pixels `inside` are all of the image's own."""
        return _shifted(image, self.dy, self.dx)

    def inside(self, height: int, width: int) -> Tile:
        """Return the part of a moved image without invented pixels; it starts on the grid of tiles.

        >>> Shift(2.0, -3.0).inside(300, 400)
        Tile(y=16, x=0, height=284, width=397)
        """
        (top, bottom), (left, right) = _extent(height, self.dy), _extent(width, self.dx)
        return Tile(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Warp:
    """A move that is a cubic polynomial of the place, from the middle, in units of half the longer side."""

    coefficients: tuple[tuple[float, float], ...]  # px down and to the right, for each of the POWERS
    largest_px: float  # of the moves of an image

    @property
    def dy(self) -> float:
        """The rows by which the middle moves."""
        return self.coefficients[0][0]

    @property
    def dx(self) -> float:
        """The columns by which the middle moves."""
        return self.coefficients[0][1]

    def facts(self) -> dict[str, Json]:
        """Return the values for the record of a pair."""
        return {"coefficients_px": [list(row) for row in self.coefficients], "largest_px": self.largest_px}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Warp:
        """Return the warp in the record of a pair."""
        return cls(tuple((dy, dx) for dy, dx in facts["coefficients_px"]), facts["largest_px"])

    def apply(self, image: Image) -> Image:
        """Return `image` moved, of the same size, by Lanczos interpolation; only pixels `inside` are its own."""
        return _warped(image, np.array(self.coefficients), (0, 0), *image.shape[:2])

    def inside(self, height: int, width: int) -> Tile:
        """Return the part of a moved image without invented pixels; it starts on the grid of tiles."""
        rows, columns = _sources(np.array(self.coefficients), (0, 0), height, width, (height, width))
        top, bottom = _valid(np.all((rows >= LANCZOS_PX) & (rows < height - LANCZOS_PX), axis=1))
        left, right = _valid(np.all((columns >= LANCZOS_PX) & (columns < width - LANCZOS_PX), axis=0))
        return Tile(top, left, bottom - top, right - left)


def find_warp(pristine: Image, distorted: Image) -> tuple[Warp, float] | None:
    """Return how `distorted` (H, W, 3) is turned, scaled or bent, and the share of coherent windows that agree.

    Each pass measures what the one before has left. None unless most windows agree, more than a shift is needed, and
    details have more in common afterwards. In a trial with crops of six photographs, turns of 0.4° and 1.5°, a scale of
    1.01, a barrel and views from a side left 0.01 to 0.16 px in the median window; blur, noise, JPEG and motion blur
    in place had none.
    """
    size = (pristine.shape[0], pristine.shape[1])
    if max(size) > MOST_PX or min(size) < 2 * SMALLEST_WINDOW_PX:
        return None
    x, y = (luma(image).astype(np.float32) for image in (pristine, distorted))
    coefficients, share = np.zeros((len(POWERS), 2)), 0.0
    for largest_px, count, degree in PASSES:
        side = min(largest_px, min(size) // 2)
        corners = _corners(size, side, count)
        used = POWERS.sum(axis=1) <= degree
        measured = [
            (corner, window_shift(_warped(x, coefficients, corner, side, side), _window(y, corner, side)))
            for corner in corners
        ]
        coherent = [(corner, shift) for corner, shift in measured if shift.coherence > COHERENT]
        if len(coherent) < WINDOWS_A_TERM * np.count_nonzero(used):
            return None
        terms = _terms([corner for corner, _ in coherent], side, size)[:, used]
        shifts = [shift for _, shift in coherent]
        coefficients[used], left = _fitted(terms, shifts, coefficients[used], POWERS.sum(axis=1)[used])
        share = float((left < AGREEMENT_PX).mean())
    coefficients = np.round(coefficients, 3) + 0.0  # the last bits of a transform differ by processor
    moves = _terms(corners, side, size) @ coefficients
    if share < MOST or np.ptp(moves, axis=0).max() < LEAST_BEND_PX:
        return None
    before, after = (
        np.mean([_unlike(_warped(x, move, corner, side, side), _window(y, corner, side)) for corner in corners])
        for move in (np.zeros_like(coefficients), coefficients)
    )
    if after > LEFT * before:
        return None
    rows = tuple((dy, dx) for dy, dx in coefficients.tolist())
    return Warp(rows, round(float(np.hypot(*moves.T).max()), 3)), round(share, 3)


def _corners(size: tuple[int, int], side: int, count: int) -> list[Corner]:
    rows, columns = (np.linspace(0, extent - side, count).astype(int).tolist() for extent in size)
    return [(row, column) for row in rows for column in columns]


def _window(plane: Plane, corner: Corner, side: int) -> Plane:
    return plane[corner[0] : corner[0] + side, corner[1] : corner[1] + side]


def _fitted(
    terms: NDArray[np.float64], windows: list[WindowShift], before: Coefficients, degrees: NDArray[np.int64]
) -> tuple[Coefficients, NDArray[np.float64]]:
    """Return coefficients (terms, 2), for shifts beyond those `before`, and the distances left (N,).

    By the windows' certainty; those far off hardly count.
    """
    certainty = np.array([window.certainty for window in windows])
    shifts = terms @ before + [(window.dy, window.dx) for window in windows]
    rows = np.einsum("nab,nt->natb", certainty, terms).reshape(2 * len(terms), -1)
    targets = np.einsum("nab,nb->na", certainty, shifts).ravel()
    prior = np.diag(np.repeat(BENDING * (degrees > 1), 2))
    weights = np.ones(2 * len(terms))
    for _ in range(FITS):
        design = np.concatenate([rows * weights[:, None], prior])
        fitted = np.linalg.lstsq(design, np.concatenate([targets * weights, np.zeros(len(prior))]), rcond=None)[0]
        left = np.hypot(*(targets - rows @ fitted).reshape(-1, 2).T)
        weights = np.repeat(1 / np.sqrt(1 + np.square(left / AGREEMENT_PX)), 2)
    return np.asarray(fitted.reshape(-1, 2)), np.asarray(left)


def _terms(corners: list[Corner], side: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the terms (N, 10) of the polynomial at the middles of windows."""
    y, x = np.array(corners, np.float64).T + (side - 1) / 2
    v, u = _relative(y, x, size)
    return np.asarray(polynomial.polyvander2d(v, u, [DEGREE, DEGREE])[:, POWERS[:, 0] * (DEGREE + 1) + POWERS[:, 1]])


def _relative(
    y: NDArray[np.float64], x: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = max(size) / 2
    return (y - (size[0] - 1) / 2) / half, (x - (size[1] - 1) / 2) / half


def _sources(
    coefficients: Coefficients, corner: Corner, rows: int, columns: int, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the row and the column of the image from which each pixel of a window of the moved image comes."""
    y, x = corner[0] + np.arange(rows, dtype=np.float64), corner[1] + np.arange(columns, dtype=np.float64)
    v, u = _relative(y, x, size)
    square = np.zeros((DEGREE + 1, DEGREE + 1, 2))
    square[tuple(POWERS.T)] = coefficients
    dy, dx = (polynomial.polygrid2d(v, u, square[..., axis]) for axis in (0, 1))
    return (y[:, None] - dy).astype(np.float32), (x[None] - dx).astype(np.float32)


def _warped(image: Pixels, coefficients: Coefficients, corner: Corner, rows: int, columns: int) -> Pixels:
    """Return a window of the moved image."""
    y, x = _sources(coefficients, corner, rows, columns, (image.shape[0], image.shape[1]))
    moved: Any = cv2.remap(image, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    return cast(Pixels, moved)


def _unlike(moved: Plane, distorted: Plane) -> float:
    """Return the share of the power of the details of one window that those of the other leave unexplained."""
    one, other = detail_of(moved), detail_of(distorted)
    common = float((one * other).sum())
    return 1 - common * abs(common) / (float((one * one).sum()) * float((other * other).sum()) + 1e-6)


def _valid(lines: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first line and the one behind the last around the middle that are all valid, on the grid of tiles."""
    middle = len(lines) // 2
    before, behind = np.flatnonzero(~lines[:middle]), np.flatnonzero(~lines[middle:])
    first = int(before[-1]) + 1 if len(before) else 0
    last = middle + int(behind[0]) if len(behind) else len(lines)
    return -(-first // TILE_ALIGN_PX) * TILE_ALIGN_PX, last


def _shifted(image: Image, dy: float, dx: float) -> Image:
    """Return `image` moved by (dy, dx) px, of the same size; see `Shift`.

    Whole pixels are copied; fractions are interpolated by Lanczos kernels of half-width LANCZOS_PX.
    """
    height, width = image.shape[:2]
    ny, nx = round(dy), round(dx)
    result = np.zeros_like(image)
    result[max(ny, 0) : height + min(ny, 0), max(nx, 0) : width + min(nx, 0)] = image[
        max(-ny, 0) : height + min(-ny, 0), max(-nx, 0) : width + min(-nx, 0)
    ]
    if (ny, nx) == (dy, dx):
        return result
    return to_uint8(cv2.sepFilter2D(result, cv2.CV_32F, _lanczos(dx - nx), _lanczos(dy - ny)))


def _extent(length: int, shift: float) -> tuple[int, int]:
    whole_px = round(shift)
    margin = 0 if shift == whole_px else LANCZOS_PX
    first = max(whole_px + margin, 0)
    return -(-first // TILE_ALIGN_PX) * TILE_ALIGN_PX, length + min(whole_px - margin, 0)


def _lanczos(fraction: float) -> NDArray[np.float64]:
    """Return the kernel (2 * LANCZOS_PX + 1,) of sum 1 that moves by `fraction` px, -0.5 to 0.5, as a correlation."""
    distance = np.arange(-LANCZOS_PX, LANCZOS_PX + 1) + fraction
    kernel = np.sinc(distance) * np.sinc(distance / LANCZOS_PX) * (np.abs(distance) < LANCZOS_PX)
    return np.asarray(kernel / kernel.sum())
