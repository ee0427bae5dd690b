"""Posterisation: few values per channel, equally spaced. A package of its own, with levels and a severity scale."""

import numpy as np

from distort_pipeline.distortions import SeverityScale
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image

LEVELS = {
    "paper_like": ({"values": 8},),
    "five_levels": ({"values": 32}, {"values": 16}, {"values": 8}, {"values": 4}, {"values": 2}),
}
# the amount is the distance of two values beyond 1, so 0 for all 256
SEVERITY_SCALE = SeverityScale(
    "values",
    half=8,
    strongest=2,
    amount=lambda values: 255 / (values - 1) - 1,
    value=lambda amount: round(255 / (amount + 1)) + 1,
    geometric=True,
)


def posterize(image: Image, *, values: int) -> Image:
    """Return `image` with `values` (2 to 256) equally spaced values in each channel."""
    if values not in range(2, 257):
        raise PipelineError(f"posterize: values must be a whole number from 2 to 256, got {values!r}")
    spacing = 255 / (values - 1)
    return np.rint(np.rint(image / spacing) * spacing).astype(np.uint8)
