"""Shrinkage: fine detail times a gain that depends on how much detail there is around it. And the median of a window.

What denoisers, smears and a camera's chroma filters do: weak texture goes, strong edges stay. In (Y, Cb, Cr), in bands
between Gaussian blurs of doubling width: y - x = Σ_b (g_b(a_b) + h_b(l_b)) d_b, with d_b the detail of a band, a_b the
log of its local deviation, l_b that of luma's, and g, h linear between knots. It is linear in g and h: a linear
expansion of thresholds (Luisier, Blu, Unser, "A new SURE approach to image denoising", IEEE TIP 2007), solved by least
squares over random pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.patches import TO_RGB, TO_YCC, Levels, PairPatch, TilePosition
from distort_pipeline.records import make_rng

BLUR_SIGMAS_PX = (0.7, 1.4, 2.8, 5.6)  # between which the bands lie
BLUR_REACH_PX = 17
WINDOW_SIGMA_PX, WINDOW_REACH_PX = 2.0, 4  # of the local deviation
KNOT_QUANTILES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 0.995)  # of the local deviations that a band has
KNOTS = len(KNOT_QUANTILES)
BANDS = len(BLUR_SIGMAS_PX)
PIXELS = 4_000  # of each patch, drawn at random
RIDGE = 1e-4  # of the mean power of a feature, towards no change
LEAST_DEVIATION = 0.1  # levels, added before logarithms


@dataclass(frozen=True)
class Shrinkage:
    """Gains (3, BANDS, 2, KNOTS) of the detail of Y, Cb and Cr at `knots` (3, BANDS, KNOTS) of its log deviation.

    The first row of gains goes by the component's own deviation, the second by luma's.
    """

    gains: NDArray[np.float32]
    knots: NDArray[np.float32]
    reach_px: ClassVar[int] = BLUR_REACH_PX + WINDOW_REACH_PX
    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) with its detail scaled; borders are reflected."""
        details, deviations = bands_of(image)
        change = np.zeros_like(image, np.float32)
        for c in range(3):
            for b in range(BANDS):
                gain = sum(
                    np.interp(deviations[by, b], self.knots[by, b], self.gains[c, b, row])
                    for row, by in enumerate((c, 0))
                )
                change[..., c] += (gain * details[c, b]).astype(np.float32)
        return np.asarray(image + change @ TO_RGB.T.astype(np.float32), np.float32)


@dataclass(frozen=True)
class Median:
    """The median of the `side_px` × `side_px` pixels about each pixel and channel: 3 or 5."""

    side_px: int
    sets: ClassVar[int] = 1

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel."""
        return self.side_px // 2

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) filtered; borders are repeated."""
        return np.asarray(cv2.medianBlur(np.ascontiguousarray(image, np.float32), self.side_px), np.float32)


def bands_of(image: Levels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the detail (3, BANDS, H, W) of Y, Cb and Cr of `image` (H, W, 3), and the log of its local deviation."""
    ycc = image @ TO_YCC.T.astype(np.float32)
    border, reach = cv2.BORDER_REFLECT_101, 2 * WINDOW_REACH_PX + 1
    details = np.empty((3, BANDS, *image.shape[:2]), np.float32)
    deviations = np.empty_like(details)
    for c in range(3):
        finer = np.ascontiguousarray(ycc[..., c])
        for b, sigma in enumerate(BLUR_SIGMAS_PX):
            side = 2 * int(np.ceil(3 * sigma)) + 1
            coarser = cv2.GaussianBlur(np.ascontiguousarray(ycc[..., c]), (side, side), sigma, borderType=border)
            details[c, b], finer = finer - coarser, coarser
            power = cv2.GaussianBlur(np.square(details[c, b]), (reach, reach), WINDOW_SIGMA_PX, borderType=border)
            deviations[c, b] = np.log(np.sqrt(np.maximum(power, 0)) + LEAST_DEVIATION)
    return details, deviations


def fit_shrinkage(patches: Sequence[PairPatch], bases: Sequence[Levels]) -> Shrinkage:
    """Return the shrinkage that brings `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    sampled = [_sampled(patch, base) for patch, base in zip(patches, bases, strict=True)]
    details, deviations, changes = (np.concatenate(kind, axis=-1) for kind in zip(*sampled, strict=True))
    knots = np.quantile(deviations, KNOT_QUANTILES, axis=-1).transpose(1, 2, 0)  # (3, BANDS, KNOTS)
    knots = np.maximum.accumulate(knots + 1e-3 * np.arange(KNOTS), axis=-1)
    gains = np.zeros((3, BANDS, 2, KNOTS))
    for c in range(3):
        rows = (c, 0) if c else (0,)
        features = np.concatenate(
            [_hats(deviations[by, b], knots[by, b]) * details[c, b] for b in range(BANDS) for by in rows]
        )
        gram = features @ features.T
        gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
        solved = np.linalg.solve(gram, features @ changes[c])
        gains[c, :, : len(rows)] = solved.reshape(BANDS, len(rows), KNOTS)
    return Shrinkage(gains.astype(np.float32), knots.astype(np.float32))


def _sampled(patch: PairPatch, base: Levels) -> tuple[NDArray[np.float32], ...]:
    """Return details and deviations (3, BANDS, n) and changes (3, n) of random pixels of a patch."""
    details, deviations = bands_of(base)
    changes = (patch.distorted - base) @ TO_YCC.T.astype(np.float32)
    count = base.shape[0] * base.shape[1]
    chosen = make_rng(count).permutation(count)[:PIXELS]
    flat = (values.reshape(3, BANDS, -1)[..., chosen] for values in (details, deviations))
    return (*flat, changes.reshape(-1, 3)[chosen].T)


def _hats(values: NDArray[np.float32], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares (KNOTS, n) of the knots at `values`: linear between them, the outer ones' beyond."""
    position = np.interp(values, knots, np.arange(len(knots)))
    return np.maximum(1 - np.abs(position - np.arange(len(knots))[:, None]), 0)
