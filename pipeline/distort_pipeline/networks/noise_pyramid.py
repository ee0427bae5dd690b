"""A pyramid of noise: the second-order statistics of a random distortion, told in one colour matrix for each octave.

White, pink or coarse-grained noise is a sum of octaves. The noise maps that the decoder gets are drawn at seven
resolutions anyway; here each is coloured and carried up to the picture's resolution, and the sum is added to the
picture. Two slower octaves are thinned out of the coarsest map: a tile of pink noise is brighter or darker as a whole.
The matrices are read off pairs (`training/noise_fit.py`). Not in the paper, whose G is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.resampling import doubled
from distort_pipeline.networks.severity import fade, level_shares, shared

SLOWER = 2  # octaves below that of the coarsest map


@keras.saving.register_keras_serializable(package="distort_pipeline")
class NoisePyramid(keras.layers.Layer):  # type: ignore[misc]
    """Maps noise maps (N, h, w, c), coarsest first and each twice as large as the one before, to (N, H, W, 3).

    With several `levels` it is called with [severity, maps...], see `severity.py`. The matrices are fitted beforehand
    and not trained; at the start they are 0, and so is the sum.
    """

    def __init__(self, levels: int = 1, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.levels = levels

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Make a matrix from noise channels to colours for each level and each octave, slowest first."""
        maps = input_shape[1:] if self.levels > 1 else input_shape
        self.matrices = self.add_weight(
            name="matrices",
            shape=(self.levels, SLOWER + len(maps), maps[0][-1], 3),
            initializer="zeros",
            trainable=False,
        )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the coloured sum of the maps."""
        severity, maps = (inputs[0], inputs[1:]) if self.levels > 1 else (None, inputs)
        if severity is None:
            matrices = self.matrices
        else:
            matrices = shared(fade(severity, self.levels) * level_shares(severity, self.levels), self.matrices)
        octaves = list(maps)
        for _ in range(SLOWER):
            octaves.insert(0, thinned(octaves[0]))
        total = ops.matmul(octaves[0], matrices[:, None, 0])
        for octave, noise in enumerate(octaves[1:], start=1):
            _, height, width, _ = ops.shape(noise)
            total = doubled(total)[:, :height, :width] + ops.matmul(noise, matrices[:, None, octave])
        return total

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape of the picture."""
        return (*input_shape[-1][:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {"name": super().get_config()["name"], "levels": self.levels}


def thinned(noise: Any) -> Any:
    """Return every other value of noise (N, h, w, c) in both directions, each channel that of its neighbour.

    So an octave has other numbers than the next one has at the same place in the same channel.
    """
    return ops.roll(noise[:, ::2, ::2], 1, axis=-1)
