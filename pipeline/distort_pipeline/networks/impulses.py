"""Impulses: single pixels replaced, as by salt and pepper, dead and hot pixels, or transmission errors.

Each pixel is struck with one probability, whatever is in the image, and takes values drawn from those that struck
pixels had; channels that were not struck keep theirs. Found where the pristine image is flat, and only the distorted
one has a pixel that stands out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition, white_field
from distort_pipeline.records import make_rng, to_uint8

STANDS_OUT = 30.0  # levels from the median of 3 × 3 px
DEVIATIONS = 7.0  # of the image's own such differences, by their median
FLAT = 6.0  # levels: the most that a pristine pixel stands out where impulses are counted
MIDDLE = (64, 192)  # levels: black and white both stand out there
LEAST_RATE, MOST_RATE = 2e-4, 0.25
MOST_SHOW = 0.8  # share of images that have at least a third of the median image's rate
KEPT_VALUES = 512
KEEP = -1.0  # of a channel that is not struck


@dataclass(frozen=True)
class Impulses:
    """The share of pixels that are struck, and values (N, 3) in 8-bit levels, KEEP where a channel is not."""

    values: NDArray[np.float32]
    rate: float

    def strike(
        self, image: NDArray[np.uint8], seed: int, position: TilePosition, *, share: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3), a part at `position` of its image, with a `share` of the impulses."""
        height, width = image.shape[:2]
        drawn = ndtr(white_field(seed, position.y, position.x, height, width, 2))
        values = self.values[(drawn[..., 1] * len(self.values)).astype(np.intp) % len(self.values)]
        struck = (drawn[..., :1] < share * self.rate) & (values != KEEP)
        return np.where(struck, values, image).astype(np.uint8)


def find_impulses(patches: Sequence[PairPatch]) -> Impulses | None:
    """Return the impulses that the distorted patches have and the pristine ones have not; None without any."""
    seen, struck = np.zeros(1 + max(patch.image for patch in patches)), np.zeros(1 + max(p.image for p in patches))
    values = []
    for patch in patches:
        out = _standing_out(patch)
        flat = np.abs(_detail(patch.pristine)).max(-1) < FLAT
        flat &= np.all((patch.pristine > MIDDLE[0]) & (patch.pristine < MIDDLE[1]), axis=-1)
        seen[patch.image] += np.count_nonzero(flat)
        hit = flat & out.any(-1)
        struck[patch.image] += np.count_nonzero(hit)
        values.append(np.where(out, patch.distorted, KEEP)[hit])
    rates = struck[seen > 0] / seen[seen > 0]
    rate = float(struck.sum() / max(seen.sum(), 1))
    if not LEAST_RATE < rate < MOST_RATE or np.mean(rates > np.median(rates) / 3) < MOST_SHOW:
        return None
    every = np.concatenate(values).astype(np.float32)
    return Impulses(make_rng(0).permutation(every)[:KEPT_VALUES], rate)


def without_impulses(patches: Sequence[PairPatch]) -> list[PairPatch]:
    """Return `patches` with pixels that stand out in the distorted image only as the pixels around them would be."""
    cleaned = []
    for patch in patches:
        around = np.clip(patch.pristine + _median(patch.distorted) - _median(patch.pristine), 0, 255)
        cleaned.append(
            dataclasses.replace(patch, distorted=to_uint8(np.where(_standing_out(patch), around, patch.distorted)))
        )
    return cleaned


def _standing_out(patch: PairPatch) -> NDArray[np.bool_]:
    """Return which values (H, W, 3) of the distorted patch stand out more than in the pristine one."""
    difference = np.abs(_detail(patch.distorted) - _detail(patch.pristine))
    usual = np.median(difference, axis=(0, 1)) / np.float32(0.6745)
    return np.asarray(difference > np.maximum(STANDS_OUT, DEVIATIONS * usual))


def _median(image: NDArray[np.uint8]) -> Levels:
    return np.asarray(cv2.medianBlur(image, 3), np.float32)


def _detail(image: NDArray[np.uint8]) -> Levels:
    return image.astype(np.float32) - _median(image)
