"""Resemblance of pristine and distorted images: finds partners of other images, and mirrored or turned partners.

An image is reduced to the local contrast of a small luma thumbnail, and its magnitude. Blur, noise, compression and
changes of tone keep one or the other; other images, or the same image mirrored, have unrelated values. In a trial with
37 photographs, true pairs (blur to 30 px, white noise to 250 levels, pink noise to 50 levels, clipped) never resembled
another image or a turned version more than their own. A partner without any resemblance is reported, unless noise or
flat content can explain the lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image

SIDE = 32  # of a thumbnail: a value averages 64 pixels of a 256 px image, and strong noise with them
SIGMA = 2.0  # of the local mean, pixels of the thumbnail
FLAT = 2.0  # 8-bit levels: keeps the local contrast of flat areas small
CLEAR_RATIO = 1.5  # times the resemblance of the pair; at most 0.91 in true pairs of the trial
CHANCE = 0.35  # at most 0.29 between unrelated images of the trial
UNRELATED = 0.2  # strong noise can hide an image to this degree

Thumbnail = NDArray[np.float32]  # (SIDE, SIDE) luma
Features = NDArray[np.float32]  # (2, SIDE²), each of norm 1


def thumbnail(image: Image) -> Thumbnail:
    """Return the mean of the channels, averaged to SIDE x SIDE pixels."""
    fine = cv2.resize(
        image, (8 * SIDE, 8 * SIDE), interpolation=cv2.INTER_AREA
    )  # of bytes: floats of a whole image are many
    luma = fine.astype(np.float32).mean(axis=2)
    return np.asarray(cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def find_mismatches(
    pristine: Sequence[Thumbnail], distorted: Sequence[Thumbnail]
) -> Iterator[tuple[int, str | int | None, float, float]]:
    """Yield each pair less alike than another pairing: its index, the better pairing, and both resemblances, 0 to 1.

    The better pairing is the index of another pristine image, a description such as 'mirrored', or None if no pairing
    resembles clearly.
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
    return detail > FLAT and noisy_detail > FLAT and detail > 2 * UNRELATED * noisy_detail


def _local_mean(image: Thumbnail) -> Thumbnail:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), SIGMA), np.float32)


def _features(image: Thumbnail) -> Features:
    detail = image - _local_mean(image)
    contrast = detail / (np.sqrt(_local_mean(detail * detail)) + FLAT)
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
