"""Regions: places where the image is replaced, marked or moved, and all else is left alone.

Dust, scratches, drops, stamps, lost and misplaced blocks. Regions of training pairs are kept with their masks, and laid
on a new image at places drawn anew: their own pixels, what they added to the image below, or the image itself from as
far away as theirs came from, whichever explains the training regions best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition
from distort_pipeline.records import make_rng

LEAST_UNCHANGED = 0.5  # of an image's pixels
MOST_LIKE = 0.8  # share of the images that have so many
LEAST_CHANGE = 4.0  # levels; less may be rounding
LEAST_AREA_PX, MOST_SIDE_PX = 24, 192
LEAST_FILLED = 0.5  # share of a region's pixels that changed; scattered ones are impulses
LEAST_COVERED = 0.9  # of the squared error that regions have to hold
CLOSED_PX = 5  # gaps inside a region, where replaced and pristine pixels are alike by chance
MOST_PIXELS = 300_000  # of all kept regions' boxes
MOVE_PX = 24  # that a region may come from
EXPLAINED = 0.1  # of the squared error that is left where a move explains it


@dataclass(frozen=True)
class Regions:
    """Regions by their boxes (N, 2), height and width, how they act, and how many there are in a million pixels.

    `masks` (P) and `values` (P, 3) are of the boxes' pixels, one after another; `moves` (N, 2) are rows and columns.
    """

    boxes: NDArray[np.int32]
    masks: NDArray[np.bool_]
    values: NDArray[np.float32]
    moves: NDArray[np.int32]
    kind: str  # "replaced", "added" or "moved"
    density: float

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel."""
        return MOVE_PX if self.kind == "moved" else 0

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.boxes.astype(np.int64).prod(axis=1))

    def lay(
        self, image: NDArray[np.uint8], seed: int, position: TilePosition, *, share: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3), a part at `position` of its image, with a `share` of the regions on it."""
        rng = make_rng(seed)
        count = rng.poisson(self.density * position.height * position.width / 1e6)
        chosen = rng.integers(len(self.boxes), size=count)
        places = rng.random((count, 2))
        out = image.copy()
        for number, place in zip(chosen[: round(share * count)], places, strict=False):
            box = self.boxes[number]
            y, x = (
                int(p * (side - b + 1))
                for p, side, b in zip(place, (position.height, position.width), box, strict=True)
            )
            first, last = (y - position.y, x - position.x), (y - position.y + box[0], x - position.x + box[1])
            rows, columns = (
                slice(max(a, 0), min(b, side)) for a, b, side in zip(first, last, image.shape, strict=False)
            )
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            inside = tuple(slice(s.start - a, s.stop - a) for s, a in zip((rows, columns), first, strict=True))
            mask, values = self._region(int(number))
            target = out[rows, columns]
            laid = self._laid(image, values[inside], rows, columns, self.moves[number])
            target[mask[inside]] = laid[mask[inside]]
        return out

    def _region(self, number: int) -> tuple[NDArray[np.bool_], Levels]:
        """Return mask and values of a region, (h, w) and (h, w, 3)."""
        height, width = (int(side) for side in self.boxes[number])
        pixels = slice(int(self._ends[number]) - height * width, int(self._ends[number]))
        return self.masks[pixels].reshape(height, width), self.values[pixels].reshape(height, width, 3)

    def _laid(
        self, image: NDArray[np.uint8], values: Levels, rows: slice, columns: slice, move: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Return what the region makes of these rows and columns of `image`."""
        if self.kind == "moved":
            from_rows, from_columns = (
                np.abs(np.arange(s.start, s.stop) + step) for s, step in zip((rows, columns), move, strict=True)
            )
            height, width = image.shape[:2]  # borders are reflected
            from_rows, from_columns = (
                np.minimum(at, 2 * (side - 1) - at) for at, side in ((from_rows, height), (from_columns, width))
            )
            return image[np.ix_(from_rows, from_columns)]
        changed = values + image[rows, columns] if self.kind == "added" else values
        return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def find_regions(patches: Sequence[PairPatch]) -> Regions | None:
    """Return the regions in which the distorted patches differ from the pristine ones; None if they do elsewhere."""
    unchanged: dict[int, list[float]] = {}
    for patch in patches:
        unchanged.setdefault(patch.image, []).append(float((_change(patch) < LEAST_CHANGE).mean()))
    if np.mean([np.mean(shares) > LEAST_UNCHANGED for shares in unchanged.values()]) < MOST_LIKE:
        return None
    found, counted, covered, total = [], 0.0, 0.0, 1e-9
    for patch in patches:
        squares = np.square(patch.distorted.astype(np.float32) - patch.pristine).sum(-1)
        total += squares.sum()
        for rows, columns, mask in _components(patch):
            covered += squares[rows, columns][mask].sum()
            at_border = rows.start == 0 or columns.start == 0
            counted += 1.0
            at_border |= rows.stop == squares.shape[0] or columns.stop == squares.shape[1]
            counted -= 0.5 * at_border  # the other half is counted by the patch beside
            if not at_border:
                found.append((patch, rows, columns, mask))
    if covered < LEAST_COVERED * total or not found:
        return None
    found = [found[n] for n in make_rng(0).permutation(len(found))]
    sizes = np.cumsum([mask.size for *_, mask in found])
    found = found[: max(int(np.searchsorted(sizes, MOST_PIXELS)), 1)]
    pixels = sum(patch.pristine.shape[0] * patch.pristine.shape[1] for patch in patches)
    return _of_kind(found, 1e6 * counted / pixels)


Found = tuple[PairPatch, slice, slice, NDArray[np.bool_]]


def _of_kind(found: Sequence[Found], density: float) -> Regions:
    """Return the regions in the kind that explains them best."""
    moves, left, of = [], 0.0, 1e-9
    own, added = 0.0, 0.0  # squared deviations inside regions, of their pixels and of what they add
    values: dict[str, list[Levels]] = {"replaced": [], "added": []}
    for patch, rows, columns, mask in found:
        pixels = patch.distorted[rows, columns].astype(np.float32)
        change = pixels - patch.pristine[rows, columns]
        move, error = _move(patch, rows, columns, mask)
        moves.append(move)
        left += error
        of += float(np.square(change[mask]).sum())
        own += float(np.square(pixels[mask] - pixels[mask].mean(0)).sum())
        added += float(np.square(change[mask] - change[mask].mean(0)).sum())
        values["replaced"].append(pixels.reshape(-1, 3))
        values["added"].append(change.reshape(-1, 3))
    kind = "moved" if left < EXPLAINED * of and own > EXPLAINED * of else "replaced" if own < added else "added"
    return Regions(
        boxes=np.array([mask.shape for *_, mask in found], np.int32),
        masks=np.concatenate([mask.ravel() for *_, mask in found]),
        values=np.concatenate(values["added" if kind == "added" else "replaced"]),
        moves=np.array(moves, np.int32),
        kind=kind,
        density=density,
    )


def _change(patch: PairPatch) -> NDArray[np.int16]:
    return np.abs(patch.distorted.astype(np.int16) - patch.pristine).max(axis=-1)


def _components(patch: PairPatch) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """Yield rows, columns and mask of each region of a patch."""
    changed = (_change(patch) >= LEAST_CHANGE).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((CLOSED_PX, CLOSED_PX), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    for label, (x, y, width, height, area) in enumerate(stats):
        if label and area >= LEAST_AREA_PX and max(width, height) <= MOST_SIDE_PX:
            rows, columns = slice(y, y + height), slice(x, x + width)
            mask = labels[rows, columns] == label
            if changed[rows, columns][mask].mean() > LEAST_FILLED:
                yield rows, columns, mask


def _move(patch: PairPatch, rows: slice, columns: slice, mask: NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """Return from where in the pristine patch a region may come, and the squared error of that."""
    top, left = max(rows.start - MOVE_PX, 0), max(columns.start - MOVE_PX, 0)
    around = patch.pristine[top : rows.stop + MOVE_PX, left : columns.stop + MOVE_PX]
    template, weight = patch.distorted[rows, columns], np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8)
    squares = cv2.matchTemplate(around, template, cv2.TM_SQDIFF, mask=weight)
    y, x = np.unravel_index(int(squares.argmin()), squares.shape)
    return (int(y) + top - rows.start, int(x) + left - columns.start), float(squares.min())
