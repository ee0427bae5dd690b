"""Colour: a monotone curve for each channel, or a matrix of all three, for all images, drawn per image or by phase.

The curve is E[y | x] made monotone (isotonic regression), 256 values a channel. It is exact for gamma, contrast, casts
by channel, clipping and banding; values that an image lacks are taken from the curve of all images, moved to meet its
own. A curve of ranks, of levels between an image's own ends or about its mean is exact for equalised histograms,
stretched and raised contrast, which depend on all of the image. A curve for each phase of a pattern is exact for
ordered dithering, halftone screens, scan lines and colour filter arrays. The matrix, with an offset, is what
saturation, hue and another sensor's or screen's primaries do, on levels or on linear light: least squares over pixels
that are not clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy  # its optimisers load at their first use, in a fit
from numpy.typing import NDArray

from distort_pipeline.networks.filters import to_display, to_linear, to_rgb, to_ycc
from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition, value_ranks

MATRIX_PIXELS = 20_000  # of each patch, at most


@dataclass(frozen=True)
class ColourMatrix:
    """Matrices (images, 4, 3): rows for R, G, B in 8-bit levels, or in `linear` light, and for an offset."""

    matrices: NDArray[np.float32]
    linear: bool = False

    @property
    def sets(self) -> int:
        """The number of matrices to choose from."""
        return len(self.matrices)

    def distort(self, image: Levels, choice: int, _: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through matrix number `choice`."""
        matrix = self.matrices[choice % len(self.matrices)]
        values = (to_linear(image) if self.linear else image) @ matrix[:3] + matrix[3]
        return to_display(values) if self.linear else values


def fit_colour_matrix(
    patches: Sequence[PairPatch], bases: Sequence[Levels], *, per_image: bool, linear: bool
) -> ColourMatrix:
    """Return the matrices that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    images = sorted({patch.image for patch in patches}) if per_image else [-1]
    grams, targets = np.zeros((len(images), 4, 4)), np.zeros((len(images), 4, 3))
    for patch, base in zip(patches, bases, strict=True):
        row = images.index(patch.image) if per_image else 0
        step = -(-base.shape[0] * base.shape[1] // MATRIX_PIXELS)
        x, y = (pixels.reshape(-1, 3)[::step].astype(np.float32) for pixels in (base, patch.distorted))
        unclipped = ((y > 1) & (y < 254)).all(1)
        if linear:
            x, y = to_linear(x), to_linear(y)
        x, y = np.insert(x[unclipped], 3, 1.0, axis=1).astype(np.float64), y[unclipped]
        grams[row] += x.T @ x
        targets[row] += x.T @ y
    identity = np.eye(4)[:, :3]
    ridge = 1e-4 * np.trace(grams, axis1=1, axis2=2)[:, None, None] * np.diag([1.0, 1.0, 1.0, 1e-4]) + 1e-9 * np.eye(4)
    solved = np.linalg.solve(grams + ridge, targets + ridge @ identity)
    return ColourMatrix(solved.astype(np.float32), linear)


@dataclass(frozen=True)
class Integers:
    """Y, Cb and Cr rounded to 8 bits, as where a program or a video keeps them: R, G and B take fewer values."""

    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int = 0, __: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) of whole Y, Cb and Cr."""
        return to_rgb(np.rint(np.clip(to_ycc(image), 0, 255)))


VALUES = np.arange(256)
LEAST_SEEN = 12.0  # pixels of a value that weigh as much as the curve of all images, where the rest is noise


@dataclass(frozen=True)
class Tone:
    """Curves (images, 3, 256) in 8-bit levels: one for all images, or a training image's own, to be resampled.

    Of R, G and B, or with `ycc` of Y, Cb and Cr, the colour differences about 128.
    """

    curves: NDArray[np.float32]
    ycc: bool = False

    @property
    def sets(self) -> int:
        """The number of curves to choose from."""
        return len(self.curves)

    def distort(self, image: Levels, choice: int, _: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through curve number `choice`; levels between two values are interpolated."""
        curve = self.curves[choice % len(self.curves)]
        values = to_ycc(image) if self.ycc else image
        curved = np.stack([np.interp(values[..., c], VALUES, curve[c]) for c in range(3)], axis=-1).astype(np.float32)
        return to_rgb(curved) if self.ycc else curved


def fit_tone(patches: Sequence[PairPatch], bases: Sequence[Levels], *, per_image: bool, ycc: bool = False) -> Tone:
    """Return the curves that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    images = sorted({patch.image for patch in patches})
    seen = np.zeros((len(images), 3, 3, 256))
    for patch, base in zip(patches, bases, strict=True):
        x, y = (to_ycc(base), to_ycc(patch.distorted)) if ycc else (base, patch.distorted)
        seen[images.index(patch.image)] += _moments(x, y)
    pooled = np.stack([_monotone(rows, VALUES.astype(float)) for rows in seen.sum(0)])
    if not per_image:
        return Tone(pooled[None].astype(np.float32), ycc)
    curves = [[_monotone(rows[c], pooled[c]) for c in range(3)] for rows in seen]
    return Tone(np.array(curves, np.float32), ycc)


def _moments(base: Levels, distorted: NDArray[Any]) -> NDArray[np.float64]:
    """Return number, sum and sum of squares of `distorted` for each channel and value of `base`, (channels, 3, 256)."""
    values, targets = np.clip(np.rint(base), 0, 255).astype(np.intp), distorted.astype(np.float64)
    seen = [
        [np.bincount(values[..., c].ravel(), targets[..., c].ravel() ** power, minlength=256) for power in range(3)]
        for c in range(base.shape[-1])
    ]
    return np.array(seen)


@dataclass(frozen=True)
class PhaseTone:
    """Curves (period², 3, 256) in 8-bit levels, one for each phase of the image's rows and columns."""

    curves: NDArray[np.float32]
    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int, position: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through its phases' curves; without `position` it begins at phase 0."""
        values = np.empty_like(image, np.float32)
        for curve, place in zip(self.curves, _places(round(len(self.curves) ** 0.5), position), strict=True):
            for c in range(3):
                values[(*place, c)] = np.interp(image[(*place, c)], VALUES, curve[c])
        return values


def fit_phase_tone(patches: Sequence[PairPatch], bases: Sequence[Levels], *, period: int) -> PhaseTone:
    """Return the curves that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    seen = np.zeros((period**2, 3, 3, 256))
    for patch, base in zip(patches, bases, strict=True):
        for phase, place in enumerate(_places(period, patch.position)):
            seen[phase] += _moments(base[place], patch.distorted[place])
    curves = [[_monotone(rows[c], VALUES.astype(float)) for c in range(3)] for rows in seen]
    return PhaseTone(np.array(curves, np.float32))


ENDS = (0.005, 0.995)  # ranks of the levels between which contrast is stretched
ROWS = {"channels": (0, 1, 2), "luma": (3,), "all by luma": (3, 3, 3)}  # of an image's ranks
RANK_TONES = (  # form, and of which values
    ("ranks", "channels"),
    ("ranks", "luma"),
    ("stretched levels", "channels"),
    ("stretched levels", "luma"),
    ("stretched levels", "all by luma"),
    ("contrast", "channels"),
    ("contrast", "all by luma"),
)


@dataclass(frozen=True)
class RankTone:
    """Curves (3 or 1, 256) of what a value is in its image, on 0-255.

    Its rank; its place between the image's ends; or for "contrast" half of its distance from the mean, as are then the
    values that the curve gives. Of R, G and B, each by its own ranks or all by those of luma; or `of` luma only, whose
    change R, G and B share.
    """

    curves: NDArray[np.float32]
    form: str
    of: str  # of ROWS
    sets: ClassVar[int] = 1

    def distort(self, image: Levels, _: int, position: TilePosition | None = None) -> Levels:
        """Return `image` (H, W, 3) through the curves; without the ranks of `position` it is taken for all of it."""
        ranks = value_ranks([image]) if position is None or position.ranks is None else position.ranks
        values = to_ycc(image)[..., :1] if self.of == "luma" else image
        planes = []
        for c, row in enumerate(ROWS[self.of]):
            curved = np.interp(_placed(values[..., c], ranks[row], self.form), VALUES, self.curves[c])
            planes.append(2 * (curved - 128) + _mean(ranks[row]) if self.form == "contrast" else curved)
        changed = np.stack(planes, axis=-1).astype(np.float32)
        return image + (changed - values) if self.of == "luma" else changed


def fit_rank_tone(patches: Sequence[PairPatch], bases: Sequence[Levels], *, form: str, of: str) -> RankTone:
    """Return the curves that bring `bases` (H, W, 3), one a patch, nearest to the distorted patches."""
    rows = ROWS[of]
    seen = np.zeros((len(rows), 3, 256))
    for patch, base in zip(patches, bases, strict=True):
        x, y = base, patch.distorted.astype(np.float32)
        if of == "luma":
            x, y = to_ycc(x)[..., :1], to_ycc(y)[..., :1]
        ranks = value_ranks([base]) if patch.ranks is None else patch.ranks
        places = np.stack([_placed(x[..., c], ranks[row], form) for c, row in enumerate(rows)], axis=-1)
        if form == "contrast":
            y = np.stack([_placed(y[..., c], ranks[row], form) for c, row in enumerate(rows)], axis=-1)
        seen += _moments(places, y)
    curves = [_monotone(moments, VALUES.astype(float)) for moments in seen]
    return RankTone(np.array(curves, np.float32), form, of)


def _placed(values: Levels, ranks: NDArray[np.float32], form: str) -> Levels:
    """Return what `values` (H, W) are in their image, on 0-255."""
    if form == "ranks":
        return np.asarray(np.interp(values, VALUES, 255 * ranks), np.float32)
    if form == "contrast":
        return np.asarray((values - _mean(ranks)) / 2 + 128, np.float32)
    low, high = np.searchsorted(ranks, ENDS)
    return np.asarray(np.clip((values - low) / max(high - low, 1), 0, 1) * 255, np.float32)


def _mean(ranks: NDArray[np.float32]) -> float:
    """Return the mean of the values with these ranks (256,)."""
    return float((1 - ranks).sum())


def _places(period: int, position: TilePosition | None) -> list[tuple[slice, slice]]:
    """Return the rows and columns of each phase in a part of an image."""
    first = (position.y, position.x) if position else (0, 0)
    rows, columns = ([slice((n - start) % period, None, period) for n in range(period)] for start in first)
    return [(row, column) for row in rows for column in columns]


def _monotone(moments: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rising curve (256,) of values seen with these `moments` (3, 256), see `_moments`.

    Rare values follow `prior` plus a smooth offset, the more the more a value's targets scatter.
    """
    counts, sums, squares = moments
    seen = counts > 0
    if not seen.any():
        return prior
    scatter = (squares - np.square(sums) / np.maximum(counts, 1)).sum() / counts.sum()  # levels²
    leaning = LEAST_SEEN * min(scatter, 1.0)
    offset = np.where(seen, sums / np.maximum(counts, 1) - prior, 0)
    reach = np.exp(-np.abs(VALUES[:, None] - VALUES[None]) / 6.0) * np.minimum(counts, 1000)  # (256, 256)
    total = reach.sum(1)
    smooth = np.where(total > 1e-9, reach @ offset / np.maximum(total, 1e-12), 0)
    far = np.flatnonzero(total <= 1e-9)
    near = np.flatnonzero(seen)
    for value in far:  # nothing near: the offset of the nearest value that was seen
        smooth[value] = offset[near[np.abs(near - value).argmin()]]
    weight = counts / np.maximum(counts + leaning, 1e-9)
    curve = prior + weight * offset + (1 - weight) * smooth
    return np.asarray(scipy.optimize.isotonic_regression(np.clip(curve, 0, 255), weights=np.maximum(counts, 0.1)).x)
