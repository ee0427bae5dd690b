"""Registration of external pairs: shift and gain, the pristine image moved, and pairs of different images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.jsd_nss import luma
from distort_pipeline.records import TILE_ALIGN_PX, Image, Tile, to_uint8

WINDOW_PX = 256  # at most; two thirds of the shorter side in small images
SMALLEST_WINDOW_PX = 32
GRID = 4  # places of windows along each side, and the windows with most detail of them: a clear sky shows no shift
WINDOWS = 6
# cycles/px, of a Gaussian low-pass. In a trial with crops of five photographs, motion blur of 15 px, defocus of 6 px,
# noise of σ 60 and JPEG at quality 10 moved no reliable shift by more than 0.26 px.
CUTOFF = 0.12
MEAN_PX = 9  # of the local mean, taken away first: tapered slow gradients do not move with the image
PASSES = 4  # at most: windows that differ by whole pixels are cut again, with the same content
AGREEMENT_PX = 0.15  # windows that agree with the median
COHERENT = 0.5  # the squared cross-spectrum's peak, of its power: medians of 0.19 to 0.43 between unrelated images
RELIABLE = 0.6  # of the windows agree and are coherent
LEAST_MOVE_PX = 0.1  # a smaller shift, or distance to a whole pixel, is an error of measurement
SHIFTED_PX = 0.25  # worth a remark, if in so large a share of the pairs: random paths of motion blur had 1 of 20
SHIFTED_SHARE = 0.25
BLOCK_PX = 16  # of the means of luma that give the gain
FLAT = 4.0  # 8-bit levels: less contrast between bright and dark blocks gives no gain
LANCZOS_PX = 4  # half-width of the interpolation kernel

Plane: TypeAlias = NDArray[np.float32]  # (side, side) luma on 0-255


@dataclass(frozen=True)
class Registration:
    """Shift and gain of a distorted image against its pristine image."""

    dy: float  # px, positive if the distorted image shows everything further down
    dx: float  # px, positive if further right
    gain: float | None  # slope of the distorted on the pristine luma; None for flat images
    confidence: float  # share of the windows that agree on the shift and are coherent, 0 to 1

    @property
    def is_reliable(self) -> bool:
        """Whether enough windows agree on the shift."""
        return self.confidence >= RELIABLE

    @property
    def shift_px(self) -> float:
        """The length of the shift."""
        return float(np.hypot(self.dy, self.dx))

    @property
    def move(self) -> tuple[float, float] | None:
        """The rows and columns by which to move the pristine image, whole numbers if nearly whole; None to leave it."""
        if not self.is_reliable or max(abs(self.dy), abs(self.dx)) < LEAST_MOVE_PX:
            return None
        dy, dx = (float(round(d)) if abs(d - round(d)) < LEAST_MOVE_PX else d for d in (self.dy, self.dx))
        return dy, dx

    def facts(self) -> dict[str, float | None]:
        """Return the values for the record of a pair."""
        return {
            "shift_y_px": self.dy,
            "shift_x_px": self.dx,
            "shift_confidence": self.confidence,
            "gain": self.gain,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Registration:
        """Return the registration in the record of a pair."""
        return cls(facts["shift_y_px"], facts["shift_x_px"], facts["gain"], facts["shift_confidence"])


def are_shifted(registrations: Sequence[Registration]) -> bool:
    """Return whether a clear share of the pairs is reliably shifted by more than SHIFTED_PX."""
    return count_shifted(registrations) >= max(1, SHIFTED_SHARE * len(registrations))


def count_shifted(registrations: Sequence[Registration]) -> int:
    """Return the number of pairs reliably shifted by more than SHIFTED_PX."""
    return sum(pair.is_reliable and pair.shift_px > SHIFTED_PX for pair in registrations)


def register(pristine: Image, distorted: Image) -> Registration:
    """Return the registration of `distorted` against `pristine`, both (H, W, 3); confidence 0 if too small.

    Values are rounded to 0.001, because the last bits of a transform differ by processor.
    """
    height, width = pristine.shape[:2]
    side = min(WINDOW_PX, 2 * min(height, width) // 3)
    if side < SMALLEST_WINDOW_PX:
        return Registration(0.0, 0.0, None, 0.0)
    corners = _detailed_windows(pristine, side)
    nearest = np.zeros(2, int)
    for _ in range(PASSES):
        whole_px = nearest
        windows = _windows(pristine, distorted, corners, whole_px, side)
        residual_shifts = np.array([_window_shift(*pair) for pair in windows])
        shifts, coherence = whole_px + residual_shifts[:, :2], residual_shifts[:, 2]
        shift = np.median(shifts, axis=0)
        nearest = np.rint(shift).astype(int)
        if (nearest == whole_px).all():
            break
    agree = (np.abs(shifts - shift).max(axis=1) < AGREEMENT_PX) & (coherence > COHERENT)
    gain = _gain(windows)
    dy, dx = (round(float(value), 3) + 0.0 for value in shift)  # + 0.0: no negative zero
    return Registration(dy, dx, None if gain is None else round(gain, 3), round(float(agree.mean()), 3))


def _detailed_windows(image: Image, side: int) -> list[tuple[int, int]]:
    """Return the corners of the windows with most detail along the axis that has less of it."""
    rows, columns = (np.linspace(0, extent - side, GRID).astype(int) for extent in image.shape[:2])
    corners = [(int(y), int(x)) for y in np.unique(rows) for x in np.unique(columns)]

    def detail(corner: tuple[int, int]) -> float:
        y, x = corner
        green = image[y : y + side : 2, x : x + side : 2, 1].astype(np.int16)
        return float(min(np.abs(np.diff(green, axis=axis)).mean() for axis in (0, 1)))

    return sorted(corners, key=detail, reverse=True)[:WINDOWS]


def _windows(
    pristine: Image, distorted: Image, corners: list[tuple[int, int]], shift: NDArray[np.int_], side: int
) -> list[tuple[Plane, Plane]]:
    """Return the luma of each window, pristine and distorted, the distorted `shift` whole pixels further."""
    last = np.array(pristine.shape[:2]) - side
    pairs = []
    for corner in corners:
        start = np.clip(corner, np.maximum(-shift, 0), last - np.maximum(shift, 0))
        pairs.append((_luma(pristine, start, side), _luma(distorted, start + shift, side)))
    return pairs


def _luma(image: Image, start: NDArray[np.int_], side: int) -> Plane:
    y, x = start
    return luma(np.ascontiguousarray(image[y : y + side, x : x + side])).astype(np.float32)


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


def _window_shift(pristine: Plane, distorted: Plane) -> tuple[float, float, float]:
    """Return the shift (dy, dx) of a window, at most a quarter of its side, and its coherence, 0 to 1.

    A symmetric blur multiplies the cross-spectrum by a real factor. Where this factor is negative, phase correlation is
    led astray: by half the path of a motion blur. The squared cross-spectrum has no signs, only the phase of twice the
    shift, so its transform has the peak at twice the shift.
    """
    side = len(pristine)
    taper, weight = _taper_and_weight(side)
    details = [window - cv2.blur(window, (MEAN_PX, MEAN_PX)) for window in (pristine, distorted)]
    spectra = [np.fft.rfft2(detail * taper) for detail in details]
    squared = (spectra[1] * spectra[0].conj() * weight) ** 2
    correlation = np.fft.irfft2(squared, s=(side, side))
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    ty, tx = (_parabola(np.take(line, range(i - 1, i + 2), mode="wrap")) + i for line, i in _through(correlation, peak))
    ty, tx = (t - side if t > side / 2 else t for t in (ty, tx))
    # a step of least squares from the parabola's peak to the slope of the phase, all of whose values are now small
    fy, fx = _frequencies(side)
    turned = squared * (np.exp(1j * ty * fy) * np.exp(1j * tx * fx)).astype(np.complex64)
    power, slope = np.abs(squared), turned.imag
    normal = [[(power * fy * fy).sum(), (power * fy * fx).sum()], [(power * fy * fx).sum(), (power * fx * fx).sum()]]
    step = np.linalg.lstsq(np.array(normal), -np.array([(slope * fy).sum(), (slope * fx).sum()]), rcond=1e-6)[0]
    dy, dx = np.array([ty, tx]) + np.clip(step, -1, 1)
    total = 2 * float(power.sum()) / side**2  # of both halves of the spectrum
    return float(dy) / 2, float(dx) / 2, float(correlation.max()) / total if total else 0.0


def _through(correlation: NDArray[np.floating], peak: tuple[np.intp, ...]) -> list[tuple[NDArray[np.floating], int]]:
    y, x = int(peak[0]), int(peak[1])
    return [(correlation[:, x], y), (correlation[y], x)]


def _parabola(values: NDArray[np.floating]) -> float:
    """Return the place of the maximum of the parabola through three values at -1, 0 and 1."""
    before, middle, after = map(float, values)
    curvature = before - 2 * middle + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _gain(windows: list[tuple[Plane, Plane]]) -> float | None:
    """Return the slope of the distorted on the pristine block means, after Theil (1950); None for flat images.

    Each block of the darker half is paired with one of the brighter half, and the median of the slopes is robust.
    """
    x, y = (np.concatenate([_block_means(pair[side]) for pair in windows]) for side in (0, 1))
    order = np.argsort(x, kind="stable")
    half = len(order) // 2
    dark, bright = order[:half], order[len(order) - half :]
    contrast = x[bright] - x[dark]
    if not half or np.median(contrast) < FLAT:
        return None
    usable = contrast > 1
    return float(np.median((y[bright] - y[dark])[usable] / contrast[usable]))


def _block_means(plane: Plane) -> NDArray[np.float32]:
    count = len(plane) // BLOCK_PX
    blocks = plane[: count * BLOCK_PX, : count * BLOCK_PX].reshape(count, BLOCK_PX, count, BLOCK_PX)
    return np.asarray(blocks.mean(axis=(1, 3)).ravel(), np.float32)


def moved(image: Image, dy: float, dx: float) -> Image:
    """Return `image` moved by (dy, dx) px, of the same size; only pixels inside `overlap` are all of the image's own.

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


def overlap(height: int, width: int, dy: float, dx: float) -> Tile:
    """Return the part of an image moved by (dy, dx) without invented pixels; it starts on the grid of tiles.

    >>> overlap(300, 400, 2.0, -3.0)
    Tile(y=16, x=0, height=284, width=397)
    """
    (top, bottom), (left, right) = _extent(height, dy), _extent(width, dx)
    return Tile(top, left, bottom - top, right - left)


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


SIDE = 32  # of a thumbnail: a value averages 64 pixels of a 256 px image, and strong noise with them
SIGMA = 2.0  # of the local mean, pixels of the thumbnail
FLAT_DETAIL = 2.0  # 8-bit levels: keeps the local contrast of flat areas small
CLEAR_RATIO = 1.5  # times the resemblance of the pair; at most 0.91 in true pairs of the trial
CHANCE = 0.35  # at most 0.29 between unrelated images of the trial
UNRELATED = 0.2  # strong noise can hide an image to this degree

Thumbnail = NDArray[np.float32]  # (SIDE, SIDE) luma
Features = NDArray[np.float32]  # (2, SIDE²), each of norm 1


def thumbnail(image: Image) -> Thumbnail:
    """Return the mean of the channels, averaged to SIDE x SIDE pixels."""
    # of bytes: floats of a whole image are many
    fine = cv2.resize(image, (8 * SIDE, 8 * SIDE), interpolation=cv2.INTER_AREA)
    luma = fine.astype(np.float32).mean(axis=2)
    return np.asarray(cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def find_mismatches(
    pristine: Sequence[Thumbnail], distorted: Sequence[Thumbnail]
) -> Iterator[tuple[int, str | int | None, float, float]]:
    """Yield each pair less alike than another pairing: its index, the better pairing, and both resemblances, 0 to 1.

    The better pairing is the index of another pristine image, a description such as 'mirrored', or None if no pairing
    resembles clearly, and neither noise nor flat content can explain the lack.

    An image is reduced to the local contrast of a small luma thumbnail, and its magnitude. Blur, noise, compression and
    changes of tone keep one or the other; other images, or the same image mirrored, have unrelated values. In a trial
    with 37 photographs, true pairs (blur to 30 px, white noise to 250 levels, pink noise to 50 levels, clipped) never
    resembled another image or a turned version more than their own.
    """
    if not pristine:
        return
    originals = np.stack([_features(image) for image in pristine])
    for index, image in enumerate(distorted):
        pair_score = _resemblance(originals[index], _features(image))
        if pair_score * CLEAR_RATIO >= 1:
            continue
        scores: dict[str | int, float] = {
            name: _resemblance(originals[index], _features(turned)) for name, turned in _turned(image)
        }
        others = _resemblances(originals, _features(image))
        others[index] = 0
        scores[int(others.argmax())] = float(others.max())
        best = max(scores, key=lambda name: scores[name])
        if scores[best] > max(CHANCE, CLEAR_RATIO * pair_score):
            yield index, best, scores[best], pair_score
        elif pair_score < min(UNRELATED, scores[best]) and _has_more_detail_than_noise(pristine[index], image):
            yield index, None, scores[best], pair_score


def _has_more_detail_than_noise(pristine: Thumbnail, distorted: Thumbnail) -> bool:
    """Return whether both have detail, and additive noise of this strength would leave a clear resemblance."""
    detail, noisy_detail = (float(np.std(image - _local_mean(image))) for image in (pristine, distorted))
    return detail > FLAT_DETAIL and noisy_detail > FLAT_DETAIL and detail > 2 * UNRELATED * noisy_detail


def _local_mean(image: Thumbnail) -> Thumbnail:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), SIGMA), np.float32)


def _features(image: Thumbnail) -> Features:
    detail = image - _local_mean(image)
    contrast = detail / (np.sqrt(_local_mean(detail * detail)) + FLAT_DETAIL)
    magnitude = np.abs(contrast)
    rows = np.stack([contrast.ravel(), (magnitude - _local_mean(magnitude)).ravel()])
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6), np.float32)


def _resemblances(originals: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
    """Return the correlation with each of `originals` (n, 2, SIDE²): of contrast or magnitude, the larger in size."""
    return np.maximum(np.abs(originals[:, 0] @ features[0]), originals[:, 1] @ features[1])


def _resemblance(original: Features, features: Features) -> float:
    return float(_resemblances(original[None], features)[0])


def _turned(image: Thumbnail) -> Iterator[tuple[str, Thumbnail]]:
    """Yield description and thumbnail of each mirrored or turned version."""
    for quarters in range(4):
        turned = np.rot90(image, quarters)
        if quarters:
            yield f"turned by {90 * quarters}°", np.ascontiguousarray(turned)
        name = f"mirrored and turned by {90 * quarters}°" if quarters else "mirrored"
        yield name, np.ascontiguousarray(turned[:, ::-1])
