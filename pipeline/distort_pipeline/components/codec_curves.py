"""Coefficient curves of a block codec, fitted to pairs, as one of the small models: x → x + T(x).

What an unknown codec makes of each transform coefficient, on average, by least squares: see `networks/coefficient_curves.py`.
Blocks lie on the 8 px grid, so tiles whose offsets are multiples of it are parts of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.patches import Levels, PairPatch
from distort_pipeline.pixels import LEVELS_PER_UNIT

MULTIPLE_PX = 128  # of the sides of what is fitted to; images are padded to it
FIT_PX, MOST_TILES = 256, 96
TRANSFORMS_TRIED = ("integer_blocks",)


@dataclass(frozen=True)
class CodecCurves:
    """The name of a transform, and the weights of its curves by name."""

    transform: str
    weights: Mapping[str, NDArray[Any]]
    _layers: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def distort(self, image: Levels, choice: int) -> Levels:  # noqa: ARG002 - the same for every training image
        """Return `image` (H, W, 3) as the codec would leave it, on average."""
        height, width = image.shape[:2]
        pixels = np.clip(np.rint(image), 0, 255)
        padded = np.pad(pixels, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)), "symmetric")
        gained = np.asarray(self._layer()(padded[None] / np.float32(LEVELS_PER_UNIT) - np.float32(1)))
        return (pixels + gained[0, :height, :width] * LEVELS_PER_UNIT).astype(np.float32)

    def _layer(self) -> Any:
        if "layer" not in self._layers:
            from distort_pipeline.networks.coefficient_curves import CoefficientCurves

            layer = CoefficientCurves(self.transform, 1)
            layer.build((None, None, None, 3))
            for variable in layer.variables:
                variable.assign(self.weights[variable.name])
            self._layers["layer"] = layer
        return self._layers["layer"]


def fit_codec_curves(patches: Sequence[PairPatch], transform: str = TRANSFORMS_TRIED[0]) -> CodecCurves:
    """Return the curves of `transform` that bring pristine patches nearest to the distorted ones, as bold as fits."""
    from distort_pipeline.training.fit_codec import fit_best

    usable = [patch for patch in patches if min(patch.pristine.shape[:2]) >= FIT_PX]
    few = [usable[n] for n in np.unique(np.linspace(0, len(usable) - 1, min(MOST_TILES, len(usable))).astype(int))]
    inside = slice(FIT_PX)
    pristine = np.stack([patch.pristine[inside, inside] for patch in few])
    distorted = np.stack([patch.distorted[inside, inside] for patch in few])
    fitted = fit_best(pristine, [distorted], [str(patch.image) for patch in few], transform)
    return CodecCurves(transform, fitted.weights)
