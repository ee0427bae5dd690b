"""White noise, approximated as additive and Gaussian."""

from __future__ import annotations

import math

import numpy as np

from distort_pipeline.distortions import DISTORTIONS, SeverityScale
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, to_uint8

SEVERITY_SCALE = SeverityScale(
    "sigma_8bit", half=19, strongest=255, amount=float, value=float, geometric=False
)  # 255: black to white


@DISTORTIONS.add("white_noise")
def white_noise(image: Image, *, sigma_8bit: float, rng: np.random.Generator) -> Image:
    """Return `image` with independent Gaussian noise of `sigma_8bit` 8-bit levels per channel, rounded and clipped."""
    if not 0 <= sigma_8bit < math.inf:
        raise PipelineError(f"white_noise: sigma_8bit must be 0 or more, got {sigma_8bit!r}")
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(sigma_8bit)  # in place: new memory costs more than the arithmetic
    noise += image
    return to_uint8(noise)
