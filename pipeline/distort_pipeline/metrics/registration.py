"""Registration of external pairs: shift or warp, and gain; and pairs of different images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.jsd_nss import luma
from distort_pipeline.metrics.warp import Shift, Warp, find_warp
from distort_pipeline.metrics.window_shift import COHERENT, Plane, window_shift
from distort_pipeline.records import Image, Json

WINDOW_PX = 256  # at most; two thirds of the shorter side in small images
SMALLEST_WINDOW_PX = 32
GRID = 4  # places of windows along each side, and the windows with most detail of them: a clear sky shows no shift
WINDOWS = 6
PASSES = 4  # at most: windows that differ by whole pixels are cut again, with the same content
AGREEMENT_PX = 0.15  # windows that agree with the median
RELIABLE = 0.6  # of the windows agree and are coherent
LEAST_MOVE_PX = 0.1  # a smaller shift, or distance to a whole pixel, is an error of measurement
SHIFTED_PX = 0.25  # worth a remark, if in so large a share of the pairs: random paths of motion blur had 1 of 20
SHIFTED_SHARE = 0.25
BLOCK_PX = 16  # of the means of luma that give the gain
FLAT = 4.0  # 8-bit levels: less contrast between bright and dark blocks gives no gain


@dataclass(frozen=True)
class Registration:
    """Shift or warp, and gain, of a distorted image against its pristine image."""

    dy: float  # px, positive if the distorted image shows everything further down; of a warp, in the middle
    dx: float  # px, positive if further right
    gain: float | None  # slope of the distorted on the pristine luma; None for flat images
    confidence: float  # share of the windows that agree on the shift or warp and are coherent, 0 to 1
    warp: Warp | None = None  # of an image turned, scaled or bent, which no shift explains

    @property
    def is_reliable(self) -> bool:
        """Whether enough windows agree on the shift or warp."""
        return self.confidence >= RELIABLE

    @property
    def shift_px(self) -> float:
        """The length of the shift."""
        return float(np.hypot(self.dy, self.dx))

    @property
    def move(self) -> Shift | Warp | None:
        """What brings the pristine image onto the distorted one, whole pixels if nearly whole; None to leave it."""
        if self.warp is not None:
            return self.warp
        if not self.is_reliable or max(abs(self.dy), abs(self.dx)) < LEAST_MOVE_PX:
            return None
        return Shift(*(float(round(d)) if abs(d - round(d)) < LEAST_MOVE_PX else d for d in (self.dy, self.dx)))

    def facts(self) -> dict[str, Json]:
        """Return the values for the record of a pair."""
        facts: dict[str, Json] = {
            "shift_y_px": self.dy,
            "shift_x_px": self.dx,
            "shift_confidence": self.confidence,
            "gain": self.gain,
        }
        return facts if self.warp is None else {**facts, "warp": self.warp.facts()}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Registration:
        """Return the registration in the record of a pair."""
        warp = Warp.of_facts(facts["warp"]) if "warp" in facts else None
        return cls(facts["shift_y_px"], facts["shift_x_px"], facts["gain"], facts["shift_confidence"], warp)


def are_shifted(registrations: Sequence[Registration]) -> bool:
    """Return whether a clear share of the pairs is reliably shifted by more than SHIFTED_PX, or warped."""
    return count_shifted(registrations) + count_warped(registrations) >= max(1, SHIFTED_SHARE * len(registrations))


def count_shifted(registrations: Sequence[Registration]) -> int:
    """Return the number of pairs reliably shifted by more than SHIFTED_PX, and not warped."""
    return sum(pair.warp is None and pair.is_reliable and pair.shift_px > SHIFTED_PX for pair in registrations)


def count_warped(registrations: Sequence[Registration]) -> int:
    """Return the number of pairs turned, scaled or bent."""
    return sum(pair.warp is not None for pair in registrations)


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
        measured = [window_shift(*pair) for pair in windows]
        shifts = whole_px + np.array([(window.dy, window.dx) for window in measured])
        coherence = np.array([window.coherence for window in measured])
        shift = np.median(shifts, axis=0)
        nearest = np.rint(shift).astype(int)
        if (nearest == whole_px).all():
            break
    agree = (np.abs(shifts - shift).max(axis=1) < AGREEMENT_PX) & (coherence > COHERENT)
    slope = _gain(windows)
    gain = None if slope is None else round(slope, 3)
    if agree.mean() < RELIABLE and (found := find_warp(pristine, distorted)) is not None:
        warp, confidence = found
        return Registration(warp.dy, warp.dx, gain, confidence, warp)
    dy, dx = (round(float(value), 3) + 0.0 for value in shift)  # + 0.0: no negative zero
    return Registration(dy, dx, gain, round(float(agree.mean()), 3))


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
