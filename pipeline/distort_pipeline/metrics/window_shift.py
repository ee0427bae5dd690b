"""The shift of a window of an external pair, by the phase of its squared cross-spectrum."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

# cycles/px, of a Gaussian low-pass. In a trial with crops of five photographs, motion blur of 15 px, defocus of 6 px,
# noise of σ 60 and JPEG at quality 10 moved no reliable shift by more than 0.26 px.
CUTOFF = 0.12
MEAN_PX = 9  # of the local mean, taken away first: tapered slow gradients do not move with the image
COHERENT = 0.5  # the squared cross-spectrum's peak, of its power: medians of 0.19 to 0.43 between unrelated images

Plane: TypeAlias = NDArray[np.float32]  # (side, side) luma on 0-255


class WindowShift(NamedTuple):
    """The shift of a window, and how far it can be trusted."""

    dy: float  # px, at most a quarter of the window's side
    dx: float
    coherence: float  # 0 to 1
    certainty: NDArray[np.float64]  # (2, 2), 1 across the strongest edges, 0 along them where there are no others


def window_shift(pristine: Plane, distorted: Plane) -> WindowShift:
    """Return the shift of a window.

    A symmetric blur multiplies the cross-spectrum by a real factor. Where this factor is negative, phase correlation is
    led astray: by half the path of a motion blur. The squared cross-spectrum has no signs, only the phase of twice the
    shift, so its transform has the peak at twice the shift.
    """
    side = len(pristine)
    taper, weight = _taper_and_weight(side)
    spectra = [np.fft.rfft2(detail_of(window) * taper) for window in (pristine, distorted)]
    squared = (spectra[1] * spectra[0].conj() * weight) ** 2
    correlation = np.fft.irfft2(squared, s=(side, side))
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    ty, tx = (_parabola(np.take(line, range(i - 1, i + 2), mode="wrap")) + i for line, i in _through(correlation, peak))
    ty, tx = (t - side if t > side / 2 else t for t in (ty, tx))
    # a step of least squares from the parabola's peak to the slope of the phase, all of whose values are now small
    fy, fx = _frequencies(side)
    turned = squared * (np.exp(1j * ty * fy) * np.exp(1j * tx * fx)).astype(np.complex64)
    power, slope = np.abs(squared), turned.imag
    cross = (power * fy * fx).sum()
    normal = np.array([[(power * fy * fy).sum(), cross], [cross, (power * fx * fx).sum()]], np.float64)
    step = np.linalg.lstsq(normal, -np.array([(slope * fy).sum(), (slope * fx).sum()]), rcond=1e-6)[0]
    dy, dx = np.array([ty, tx]) + np.clip(step, -1, 1)
    total = 2 * float(power.sum()) / side**2  # of both halves of the spectrum
    coherence = float(correlation.max()) / total if total else 0.0
    information, axes = np.linalg.eigh(normal)
    certainty = (axes * np.sqrt(np.maximum(information, 0) / max(information.max(), 1e-30))) @ axes.T
    return WindowShift(float(dy) / 2, float(dx) / 2, coherence, certainty)


def detail_of(window: Plane) -> Plane:
    """Return `window` without its local mean."""
    return np.asarray(window - cv2.blur(window, (MEAN_PX, MEAN_PX)))


@lru_cache(maxsize=8)
def _frequencies(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the angular frequencies of a half spectrum along y (side, 1) and along x (1, side // 2 + 1)."""
    fy, fx = 2 * np.pi * np.fft.fftfreq(side)[:, None], 2 * np.pi * np.fft.rfftfreq(side)[None]
    return fy.astype(np.float32), fx.astype(np.float32)


@lru_cache(maxsize=8)
def _taper_and_weight(side: int) -> tuple[Plane, NDArray[np.float32]]:
    """Return a Hann window, and the weight of a cross-spectrum: f², as natural images fall by 1/f², and a low-pass."""
    hann = np.hanning(side + 2)[1:-1]
    fy, fx = _frequencies(side)
    squared = (fy**2 + fx**2) / (2 * np.pi) ** 2
    return np.outer(hann, hann).astype(np.float32), squared * np.exp(-squared / (2 * CUTOFF**2))


def _through(correlation: NDArray[np.floating], peak: tuple[np.intp, ...]) -> list[tuple[NDArray[np.floating], int]]:
    y, x = int(peak[0]), int(peak[1])
    return [(correlation[:, x], y), (correlation[y], x)]


def _parabola(values: NDArray[np.floating]) -> float:
    """Return the place of the maximum of the parabola through three values at -1, 0 and 1."""
    before, middle, after = map(float, values)
    curvature = before - 2 * middle + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0
