"""Displacement: every pixel comes from a place nearby, drawn for it, for its row, or for a neighbourhood.

Jitter, spread and frosted glass; lines of a tape that are late; hot air and water. The strength is the one at which the
mean PSNR is the true one; which kind it is says the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition, white_field
from distort_pipeline.networks.signal_noise import spline_weights

KINDS = ("pixels", "pixels, nearest", "rows", "waves of 8 px", "waves of 32 px")
SPACINGS_PX = {"waves of 8 px": 8, "waves of 32 px": 32}  # of the lattice of a smooth field
MOST_PX = 8.0
STEPS = 32  # of a pixel: older OpenCVs round to them, which in another place may be another step
HALVINGS = 8
EXPLAINED = 0.05  # correlation of squared residuals with squared slopes, from which kinds are tried
FIELD = 2**41  # added to a seed: displacement is independent of the noise


@dataclass(frozen=True)
class Displacement:
    """How far pixels come from, at most, and how it is drawn: one of KINDS."""

    kind: str
    most_px: float
    reach_px: ClassVar[int] = int(MOST_PX) + 1

    def move(self, values: Levels, seed: int, position: TilePosition) -> Levels:
        """Return `values` (H, W, 3), a part at `position` of its image, with pixels from elsewhere in it."""
        height, width = values.shape[:2]
        down, across = np.moveaxis(self.most_px * self._field(seed, position, height, width), -1, 0)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        nearest = self.kind.endswith("nearest")
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        steps = np.float32(1 if nearest else STEPS)
        down, across = np.rint(steps * down) / steps, np.rint(steps * across) / steps
        moved = cv2.remap(values, columns + across, rows + down, how, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.float32)

    def _field(self, seed: int, position: TilePosition, height: int, width: int) -> NDArray[np.float32]:
        """Return offsets (H, W, 2) from -1 to 1 in rows and columns, even in distribution."""
        y, x, own = position.y, position.x, FIELD + seed
        if self.kind == "rows":
            field = np.broadcast_to(
                white_field(own, y, 0, height, 1, 2) * np.array([0, 1], np.float32), (height, width, 2)
            )
        elif self.kind in SPACINGS_PX:
            sides = (spline_weights(*side, SPACINGS_PX[self.kind]) for side in ((y, height), (x, width)))
            (row, vertical), (column, horizontal) = sides
            lattice = white_field(own, row, column, vertical.shape[1], horizontal.shape[1], 2)
            field = np.stack([vertical @ lattice[..., c] @ horizontal.T for c in range(2)], axis=-1)
        else:
            field = white_field(own, y, x, height, width, 2)
        return np.asarray(2 * ndtr(field) - 1, np.float32)


def displacements(patches: Sequence[PairPatch], ended: Callable[[Levels], Levels]) -> Iterator[Displacement]:
    """Yield each kind at the strength of the true mean PSNR of `patches`, if what the pristine ones leave is at slopes.

    `ended` is the last stage, of levels (H, W, 3).
    """
    samples = [(patch, patch.pristine.astype(np.float32)) for patch in patches]
    if np.mean([_at_slopes(base, patch.distorted - ended(base)) for patch, base in samples]) < EXPLAINED:
        return
    true = np.mean([_log_power(patch.distorted, patch.pristine) for patch, _ in samples])
    for kind in KINDS:
        low, high = 0.0, MOST_PX
        for _ in range(HALVINGS):
            tried = Displacement(kind, (low + high) / 2)
            powers = [_log_power(ended(tried.move(base, p.image, p.position)), p.pristine) for p, base in samples]
            low, high = (tried.most_px, high) if np.mean(powers) < true else (low, tried.most_px)
        yield replace(tried, most_px=round((low + high) / 2, 3))


def _at_slopes(base: Levels, residual: Levels) -> float:
    """Return the correlation of squared residuals of luma with its squared slopes."""
    luma, left = base.mean(-1), np.square(residual.mean(-1))
    slopes = np.square(np.gradient(luma, axis=0)) + np.square(np.gradient(luma, axis=1))
    return float(np.corrcoef(slopes.ravel(), left.ravel())[0, 1]) if slopes.std() > 0 and left.std() > 0 else 0.0


def _log_power(image: NDArray[np.float32] | NDArray[np.uint8], pristine: NDArray[np.uint8]) -> float:
    return float(np.log(np.square(image - pristine.astype(np.float32)).mean() + 0.1))
