"""The compact discriminator: patch logits of (pristine, scaled residual, position), for paired losses.

It judges the difference between an image and its pristine one, scaled to about unit variance: the difference between
(x, y) and (x, G(x)) is then no small change of a large input. No normalisation: a batch's other images say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import ops

from distort_pipeline.networks.compact import POSITION_CHANNELS, Unshuffle, _blocks, _conv


@dataclass(frozen=True)
class CompactCriticSize:
    """Channels at a half, a quarter and an eighth of the resolution, and residual blocks at each."""

    widths: tuple[int, int, int] = (48, 96, 128)
    blocks: tuple[int, int, int] = (1, 1, 1)


def build_compact_discriminator(
    *, size: CompactCriticSize | None = None, precision: str = "mixed_bfloat16"
) -> keras.Model:
    """Return D: [pristine, scaled residual, position] → logits (N, H/8, W/8, 1), float32.

    `pristine` (N, H, W, 3) is in [-1, 1], the residual of about unit variance, `position` (N, H/2, W/2, 15).
    """
    size = size or CompactCriticSize()
    pristine = keras.Input((None, None, 3), name="pristine")
    residual = keras.Input((None, None, 3), name="scaled_residual")
    position = keras.Input((None, None, POSITION_CHANNELS), name="position")
    seen = ops.concatenate([Unshuffle(2)(ops.concatenate([pristine, residual], axis=-1)), position], axis=-1)
    features = _conv(seen, size.widths[0], 3, "stem", precision)
    features = _blocks(features, size.blocks[0], "fine", precision)
    features = _conv(features, size.widths[1], 4, "down_4", precision, strides=2)
    features = _blocks(features, size.blocks[1], "middle", precision)
    features = _conv(features, size.widths[2], 4, "down_8", precision, strides=2)
    features = _blocks(features, size.blocks[2], "coarse", precision)
    activated = keras.layers.LeakyReLU(0.2, dtype="float32")(features)
    logits = keras.layers.Conv2D(1, 1, name="logits", dtype="float32")(activated)
    return keras.Model([pristine, residual, position], logits, name="compact_discriminator")
