"""The compact network at work on one image: padding, units, positions, and the way back to levels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.composed import FREE_CHANNELS, GRID_PX, LATENTS
from distort_pipeline.components.patches import Levels, TilePosition
from distort_pipeline.networks.compact import (
    REACH_PX,
    CompactSize,
    build_compact_generator,
    position_maps,
)
from distort_pipeline.pixels import LEVELS_PER_UNIT

NOISE_CHANNELS = 3 + FREE_CHANNELS


def new_body(size: CompactSize | None = None, precision: str = "float32") -> keras.Model:
    """Return a network whose residual is 0, with the channels of a composed generator."""
    return build_compact_generator(
        noise_channels=NOISE_CHANNELS, latents=LATENTS, size=size or CompactSize(), precision=precision
    )


def network_inputs(
    pristine: Any, base: Any, noise: Any, free: Any, latent: Any, offsets: Any, sizes: Any, noise_scale: float
) -> list[Any]:
    """Return what the network is called with, of images, bases and noise in levels; their sides are known."""
    from keras import ops

    pristine, base, noise, free, latent = map(ops.convert_to_tensor, (pristine, base, noise, free, latent))
    height, width = pristine.shape[1:3]
    return [
        base / LEVELS_PER_UNIT - 1.0,
        pristine / LEVELS_PER_UNIT - 1.0,
        ops.concatenate([noise / noise_scale, free], axis=-1),
        latent,
        position_maps(ops.convert_to_tensor(offsets), ops.convert_to_tensor(sizes), height, width),
    ]


class CompactBody:
    """The `body` of a composed generator: residual in levels (H, W, 3)."""

    reach_px = REACH_PX

    def __init__(self, network: keras.Model, *, noise_scale: float, stochastic: bool) -> None:
        self.network, self.noise_scale, self.stochastic = network, noise_scale, stochastic

    def __call__(
        self,
        *,
        image: NDArray[np.uint8],
        position: TilePosition,
        base: Levels,
        noise: Levels,
        free: Levels,
        latent: Levels,
    ) -> Levels:
        """Return what is added to `base`; a network that is not `stochastic` sees neither noise nor latents."""
        height, width = image.shape[:2]
        pad = ((0, -height % GRID_PX), (0, -width % GRID_PX), (0, 0))
        padded = [np.pad(values, pad, "symmetric")[None].astype(np.float32) for values in (image, base, noise, free)]
        if not self.stochastic:
            padded[2:] = [np.zeros_like(values) for values in padded[2:]]
            latent = np.zeros_like(latent)
        offsets, sizes = (
            np.array([[position.y, position.x]], np.float32),
            np.array([[position.height, position.width]], np.float32),
        )
        pristine, first, drawn, white = padded
        inputs = network_inputs(pristine, first, drawn, white, latent[None], offsets, sizes, self.noise_scale)
        residual = np.asarray(self.network(inputs))[0, :height, :width]
        return residual * np.float32(LEVELS_PER_UNIT)
