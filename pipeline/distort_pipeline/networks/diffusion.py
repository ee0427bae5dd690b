"""Anisotropic diffusion with learned conductances: what smooths areas and spares edges, or the reverse.

y = x + Σ_k c_r(|d_k|) d_k over the neighbours k of a pixel, with d_k their difference from it, r their distance, and
the conductance c of each distance linear between knots. Bilateral filters, the diffusion of Perona and Malik
("Scale-space and edge detection using anisotropic diffusion", IEEE TPAMI 12(7), 1990), smears and skin smoothers are
such steps, or several of them; so is sharpening that stops at a limit. A step is linear in c: it is solved by least
squares over random pixels, and each takes what the ones before it leave, where Chen and Pock ("Trainable nonlinear
reaction diffusion", IEEE TPAMI 39(6), 2017) descend along the gradient through all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition, middle_of
from distort_pipeline.records import make_rng

RADIUS_PX = 3
KNOTS = np.array([0, 2, 4, 8, 14, 22, 34, 52, 80, 130, 255.0])  # levels, of differences
STEPS = 2
PIXELS = 60_000  # of all images together
FITTED_PX = 160  # of the middle of each patch
RIDGE = 1e-4  # of the mean power of a feature, towards no change
FINENESS = 8  # entries of a table for a level


def _neighbours() -> list[tuple[int, int, int]]:
    """Return row and column of one of each two opposite neighbours, and the number of its distance."""
    around = range(-RADIUS_PX, RADIUS_PX + 1)
    half = [(y, x) for y in around for x in around if (y, x) > (0, 0) and y * y + x * x <= RADIUS_PX**2 + 1]
    distances = sorted({y * y + x * x for y, x in half})
    return [(y, x, distances.index(y * y + x * x)) for y, x in half]


NEIGHBOURS = _neighbours()
DISTANCES = 1 + max(distance for _, _, distance in NEIGHBOURS)


@dataclass(frozen=True)
class Diffusion:
    """Conductances (steps, DISTANCES, KNOTS), of the channels' mean difference if `coupled`, else of each one's own."""

    conductances: NDArray[np.float32]
    coupled: bool
    sets: ClassVar[int] = 1

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel."""
        return RADIUS_PX * len(self.conductances)

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) after all steps; borders are reflected."""
        fine = np.arange(FINENESS * 255 + 1) / FINENESS
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)
        for step in self.conductances:
            tables = [np.interp(fine, KNOTS, conductance).astype(np.float32) for conductance in step]
            planes = _diffused(planes, tables, coupled=self.coupled)
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _diffused(planes: Levels, tables: Sequence[NDArray[np.float32]], *, coupled: bool) -> Levels:
    """Return `planes` (3, H, W) after a step; what flows from one pixel to another leaves it."""
    changed = np.pad(planes, ((0, 0), (RADIUS_PX, RADIUS_PX), (RADIUS_PX, RADIUS_PX)), "reflect")
    padded = changed.copy()
    height, width = padded.shape[1:]
    for y, x, distance in NEIGHBOURS:
        here = (slice(None), slice(0, height - y), slice(max(-x, 0), width - max(x, 0)))
        there = (slice(None), slice(y, None), slice(max(x, 0), width - max(-x, 0)))
        differences = padded[there] - padded[here]
        sizes = np.abs(differences)
        if coupled:
            sizes = sizes.mean(axis=0)
        entries = (FINENESS * np.minimum(sizes, 255) + 0.5).astype(np.int32)
        flow = tables[distance][entries] * differences
        changed[here] += flow
        changed[there] -= flow
    return changed[:, RADIUS_PX:-RADIUS_PX, RADIUS_PX:-RADIUS_PX]


def fit_diffusion(patches: Sequence[PairPatch], bases: Sequence[Levels], *, coupled: bool) -> Diffusion:
    """Return the diffusion that brings `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    middles = [middle_of(patch, base, FITTED_PX) for patch, base in zip(patches, bases, strict=True)]
    diffusion = Diffusion(np.zeros((0, DISTANCES, len(KNOTS)), np.float32), coupled)
    for _ in range(STEPS):
        gram, moments = np.zeros((DISTANCES * len(KNOTS),) * 2), np.zeros(DISTANCES * len(KNOTS))
        for patch, base in middles:
            features, changes = _sampled(patch, diffusion.distort(base), PIXELS // len(patches), coupled=coupled)
            gram += features.T @ features
            moments += features.T @ changes
        gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + 1e-9
        step = np.linalg.solve(gram, moments).reshape(1, DISTANCES, len(KNOTS))
        diffusion = Diffusion(np.concatenate([diffusion.conductances, step.astype(np.float32)]), coupled)
    return diffusion


def _sampled(patch: PairPatch, base: Levels, count: int, *, coupled: bool) -> tuple[NDArray[np.float32], Levels]:
    """Return the features (3 n, DISTANCES · KNOTS) of random pixels away from the borders, and their changes (3 n,)."""
    height, width = base.shape[:2]
    margin = RADIUS_PX * STEPS
    rng = make_rng(height * width)
    y = rng.integers(margin, height - margin, count)
    x = rng.integers(margin, width - margin, count)
    features = np.zeros((count, 3, DISTANCES * len(KNOTS)), np.float32)
    rows, channels = np.arange(count)[:, None], np.arange(3)[None]
    for dy, dx, distance in _both_ways():
        differences = base[y + dy, x + dx] - base[y, x]
        sizes = np.abs(differences)
        if coupled:
            sizes = np.broadcast_to(sizes.mean(axis=1, keepdims=True), sizes.shape)
        place = np.interp(sizes, KNOTS, np.arange(len(KNOTS)))
        below = np.minimum(place.astype(np.intp), len(KNOTS) - 2)
        share = place - below
        column = distance * len(KNOTS) + below
        features[rows, channels, column] += (1 - share) * differences
        features[rows, channels, column + 1] += share * differences
    changes = patch.distorted[y, x].astype(np.float32) - base[y, x]
    return features.reshape(3 * count, -1), changes.reshape(-1)


def _both_ways() -> Iterator[tuple[int, int, int]]:
    for y, x, distance in NEIGHBOURS:
        yield y, x, distance
        yield -y, -x, distance
