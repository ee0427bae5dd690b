"""Powers of residuals by octave, colour and luminance: what a generator's strength is held to, in expectation."""

from __future__ import annotations

from typing import Any

import numpy as np

from distort_pipeline.networks.backend import ops
from distort_pipeline.networks.signal_noise import TO_YCC

OCTAVES = 4
LUMA_BINS = 4
LEAST_POWER = 0.02  # levels²: a quarter of rounding; below nothing is held to anything


def power_mismatch(true: Any, generated: Any, pristine: Any) -> Any:
    """Return the mean squared log ratio of the powers of residuals `generated` and `true` (N, H, W, 3), in levels.

    A batch's powers are compared as a whole, never image by image: draws differ, and a loss on single ones would take
    their variance away. `pristine` (N, H, W, 3), in levels, says the luminance.
    """
    to_ycc = TO_YCC.T.astype(np.float32)
    luma = ops.matmul(pristine, to_ycc[:, :1])
    centres = np.linspace(0, 255, LUMA_BINS, dtype=np.float32)
    shares = ops.maximum(1.0 - ops.abs(luma - centres) / (centres[1] - centres[0]), 0.0)  # (N, H, W, bins)
    pair = ops.matmul(ops.concatenate([true, generated], axis=0), to_ycc)
    total = 0.0
    for octave in range(OCTAVES):
        last = octave == OCTAVES - 1
        coarse = pair if last else ops.average_pool(pair, 2, 2, padding="valid")
        detail = pair if last else pair - ops.repeat(ops.repeat(coarse, 2, axis=1), 2, axis=2)
        square = ops.reshape(ops.square(detail), (2, -1, 3))
        weights = ops.reshape(shares, (-1, LUMA_BINS))
        seen = ops.sum(weights, axis=0)  # (bins,)
        power = ops.einsum("spc,pb->sbc", square, weights) / (seen[None, :, None] + 1.0) + LEAST_POWER
        ratio = ops.square(ops.log(power[1] / power[0]))  # (bins, 3)
        observed = ops.cast(seen > 100.0 / 4**octave, "float32")[:, None]
        total = total + ops.sum(observed * ratio) / (3.0 * ops.maximum(ops.sum(observed), 1.0))
        pair, shares = coarse, shares if last else ops.average_pool(shares, 2, 2, padding="valid")
    return total / OCTAVES
