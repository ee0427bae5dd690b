"""Overlays: what lay over training images, snow, frost, splashes, worn film, laid over others.

Such layers are no Gaussian noise, and a few dozen pairs teach no network to draw them. So they are recorded: the
distorted patch less what the parts make of the pristine one, of patches of which little is clipped. A new image is
covered with windows of the layers of one training image, at places drawn anew, which overlap by FADE_PX. Where they are
the better model, what is generated is as various as the pairs, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.patches import Levels, PairPatch, TilePosition
from distort_pipeline.records import make_rng

MOST_LAYERS = 16
LEAST_SIDE_PX, MOST_SIDE_PX = 128, 384
WINDOW_SHARE = 5 / 6  # of a layer's side, of the windows cut from it
FADE_PX = 16
LEAST_CLIPPED = 0.5  # of the patches, those of which least is clipped, become layers
ENDS = (4, 251)  # levels beyond which a pixel counts as clipped
FIELD = 2**42  # added to a seed: overlays are independent of the noise


@dataclass(frozen=True)
class Overlays:
    """Layers (N, S, S, 3) in levels, and the number of the training image of each, (N,)."""

    layers: NDArray[np.int16]
    images: NDArray[np.int32]

    def draw(self, seed: int, choice: int, position: TilePosition, height: int, width: int) -> Levels:
        """Return the part (height, width, 3) at `position` of an image's layer, of those of training image `choice`.

        Where that has none, of another one: windows of two images, of two strengths or colours, would show.
        """
        known = np.unique(self.images)
        own = np.flatnonzero(self.images == (choice if choice in known else known[choice % len(known)]))
        window = int(WINDOW_SHARE * self.layers.shape[1])
        pitch = window - FADE_PX
        rows_from, columns_from = make_rng(FIELD + seed).integers(pitch, size=2)
        y, x = position.y + int(rows_from), position.x + int(columns_from)
        ramp = (np.arange(FADE_PX, dtype=np.float32) + 0.5) / FADE_PX
        weight = np.concatenate([ramp, np.ones(pitch - FADE_PX, np.float32), ramp[::-1]])
        out = np.zeros((height, width, 3), np.float32)
        for row in range((y - FADE_PX) // pitch, (y + height - 1) // pitch + 1):
            for column in range((x - FADE_PX) // pitch, (x + width - 1) // pitch + 1):
                rng = np.random.Generator(np.random.PCG64([FIELD + seed, row + 1, column + 1]))
                layer = self.layers[own[rng.integers(len(own))]]
                top, left = rng.integers(layer.shape[0] - window + 1, size=2)
                first_row, first_column = row * pitch - y, column * pitch - x
                rows, columns = (
                    slice(max(first, 0), min(first + window, side))
                    for first, side in ((first_row, height), (first_column, width))
                )
                of_rows, of_columns = (
                    slice(s.start - first, s.stop - first) for s, first in ((rows, first_row), (columns, first_column))
                )
                weights = weight[of_rows, None, None] * weight[of_columns, None]
                part = layer[top : top + window, left : left + window][of_rows, of_columns]
                out[rows, columns] += weights * part
        return out


def record_overlays(patches: Sequence[PairPatch], bases: Sequence[Levels]) -> Overlays | None:
    """Return the layers that the distorted `patches` have over their `bases`; None where all patches are small.

    Images are numbered by their order among those of `patches`.
    """
    numbers = {image: n for n, image in enumerate(sorted({patch.image for patch in patches}))}
    side = min(MOST_SIDE_PX, max(min(patch.pristine.shape[:2]) for patch in patches))
    large = [n for n, patch in enumerate(patches) if min(patch.pristine.shape[:2]) >= side]
    if side < LEAST_SIDE_PX:
        return None
    ends = {n: (patches[n].distorted < ENDS[0]) | (patches[n].distorted > ENDS[1]) for n in large}
    clipped = {n: ends[n].any(-1).mean() for n in large}
    kept = sorted(large, key=lambda n: clipped[n])[: min(max(int(LEAST_CLIPPED * len(large)), 1), MOST_LAYERS)]
    layers = np.stack([patches[n].distorted[:side, :side] - bases[n][:side, :side] for n in kept])
    images = np.array([numbers[patches[n].image] for n in kept], np.int32)
    means = layers.mean((1, 2))
    for image in np.unique(images):  # its windows lie side by side
        own = images == image
        layers[own] += (means[own].mean(0) - means[own])[:, None, None]
    return Overlays(np.rint(layers).astype(np.int16), images)
