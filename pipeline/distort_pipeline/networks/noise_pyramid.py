"""A pyramid of noise: the second-order statistics of a random distortion, told in one colour matrix for each octave.

White, pink or coarse-grained noise is a sum of octaves. The noise maps that the decoder gets are drawn at seven
resolutions anyway; here each is coloured and carried up to the image's resolution, and the sum is added to the
image. Two slower octaves come of the same numbers: a tile of pink noise is brighter or darker as a whole. A kernel of
3 x 3 pixels on the sum takes out what octaves leave of their own: steps where 1/f is smooth, and too much along
diagonals, as they are squares and not rings.
Matrices and kernels are read off pairs (`training/noise_fit.py`). Not in the paper, whose G is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.resampling import upsample_bspline
from distort_pipeline.networks.severity import fade, interpolation_weights, shared

SLOWER = 2  # octaves below that of the coarsest map
BESIDE = 2  # cells that each octave has beyond each side of the image: as far as doubling looks
SLOW_SOURCE = 3  # the map whose numbers slower octaves have: large enough for them and their cells beside the image


@keras.saving.register_keras_serializable(package="distort_pipeline")
class NoisePyramid(keras.layers.Layer):  # type: ignore[misc]
    """Maps noise maps (N, h, w, c), coarsest first and each twice as large as the one before, to (N, H, W, 3).

    With several `levels` it is called with [severity, maps...], see `severity.py`. Matrices and kernels are fitted
    beforehand and not trained; at the start matrices are 0, and so is the sum.
    """

    def __init__(self, levels: int = 1, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.levels = levels

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """Make for each level a matrix from noise channels to colours for each octave, slowest first, and a kernel."""
        maps = input_shape[1:] if self.levels > 1 else input_shape
        self.octaves = self.add_weight(
            name="octaves",
            shape=(self.levels, SLOWER + len(maps), maps[0][-1], 3),
            initializer="zeros",
            trainable=False,
        )
        self.kernels = self.add_weight(
            name="kernels", shape=(self.levels, 2, 2), initializer=_leave_alone, trainable=False
        )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the coloured sum of the maps."""
        severity, maps = (inputs[0], inputs[1:]) if self.levels > 1 else (None, inputs)
        if severity is None:
            matrices, kernels = self.octaves, self.kernels
        else:
            shares = interpolation_weights(severity, self.levels)
            matrices = shared(fade(severity, self.levels) * shares, self.octaves)
            kernels = shared(shares, self.kernels)
        _, height, width, _ = ops.shape(maps[0])
        sides = [(height, width)]
        for _ in range(SLOWER):
            sides.insert(0, tuple((side + 1) // 2 for side in sides[0]))
        slow = slow_octaves(maps[SLOW_SOURCE], sides[:SLOWER])
        total = ops.matmul(slow[0], matrices[:, None, 0])
        for octave, noise in enumerate([*slow[1:], *map(with_cells_beside, maps)], start=1):
            # doubled, the cells beyond the image are twice as many; half of them are left
            _, height, width, _ = ops.shape(noise)
            total = upsample_bspline(total)[:, BESIDE : BESIDE + height, BESIDE : BESIDE + width]
            total = total + ops.matmul(noise, matrices[:, None, octave])
        return convolved(total, kernels)[:, BESIDE:-BESIDE, BESIDE:-BESIDE]

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape of the image."""
        return (*input_shape[-1][:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {"name": super().get_config()["name"], "levels": self.levels}


def convolved(values: Any, kernels: Any) -> Any:
    """Return `values` (N, H, W, c) under symmetric kernels of 3 x 3 pixels, given as (N or 1, 2, 2), borders mirrored.

    A kernel is [[centre, left and right], [above and below, corners]].
    """
    weights = ops.reshape(kernels, (-1, 2, 2, 1, 1))
    count, height, width, channels = ops.shape(values)
    padded = ops.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    flat = ops.reshape(padded, (count, height + 2, -1))  # three axes take two thirds of the time of four
    inner, before, after = slice(channels, -channels), slice(-2 * channels), slice(2 * channels, None)
    rows, around = flat[:, 1:-1], flat[:, :-2] + flat[:, 2:]
    middle = weights[:, 0, 0] * rows[:, :, inner] + weights[:, 1, 0] * around[:, :, inner]
    beside = weights[:, 0, 1] * rows + weights[:, 1, 1] * around
    return ops.reshape(middle + beside[:, :, before] + beside[:, :, after], (count, height, width, channels))


def slow_octaves(noise: Any, sides: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Return maps of these `sides` and `BESIDE` cells more around, with numbers of the finer map `noise` (N, h, w, c).

    Around, so that a small image has the slow waves of a window of a large one. Each channel's numbers are those of
    another, and of another corner, so that no octave has those that a finer one has at the same place.
    """
    maps = []
    for turn, (height, width) in enumerate(sides, start=1):
        corner = noise[:, :: (-1) ** turn, :: (-1) ** turn][:, : height + 2 * BESIDE, : width + 2 * BESIDE]
        maps.append(ops.roll(corner, turn, axis=-1))
    return maps


def with_cells_beside(noise: Any) -> Any:
    """Return the map `noise` (N, h, w, c) and `BESIDE` cells more all around, (N, h + 4, w + 4, c).

    They have the numbers that other channels have at the border: with those of their own, doubling would make the noise
    there stronger than inside.
    """
    for axis in (1, 2):
        for _ in range(BESIDE):
            first, last = (
                ops.roll(noise[:, end] if axis == 1 else noise[:, :, end], 1, axis=-1)
                for end in (slice(None, 1), slice(-1, None))
            )
            noise = ops.concatenate([first, noise, last], axis=axis)
    return noise


def _leave_alone(shape: Sequence[int], dtype: str | None = None) -> Any:
    """Return kernels (levels, 2, 2) that change nothing."""
    return ops.broadcast_to(ops.convert_to_tensor([[1.0, 0.0], [0.0, 0.0]], dtype), shape)
