"""JPEG 2000 compression to a given fraction of the raw size, by Glymur and OpenJPEG."""

from __future__ import annotations

import math

from distort_pipeline.distortions import DISTORTIONS, Distorted, openjpeg
from distort_pipeline.distortions.severity_scale import SeverityScale
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image

SIZE_TOLERANCE = 0.03  # of the target size: OpenJPEG cuts the stream only between coding passes
SIZE_TOLERANCE_BYTES = 150  # about the headers of a .jp2, dominant at ratios of hundreds


@DISTORTIONS.add("jp2k")
def jp2k(image: Image, *, ratio: float) -> Distorted:
    """Return `image` after JPEG 2000 at a compression ratio of `ratio` (1 or more; 24 over the bits per pixel).

    Facts: `bytes`, the file's size, and `reached`: whether the size is within 3 % or 150 bytes of raw size over ratio.
    A plain image needs fewer bytes, and headers alone can exceed the target.
    """
    if not 1 <= ratio < math.inf:
        raise PipelineError(f"jp2k: ratio must be 1 or more, got {ratio!r}")
    distorted, size = openjpeg.round_trip(image, ratio=ratio)
    return Distorted(distorted, {"bytes": size, "reached": is_near(size, image.size / ratio)})


def is_near(size: int, target: float) -> bool:
    """Return whether `size` bytes meet the `target` within the codec's precision.

    >>> is_near(1030, 1000), is_near(10_301, 10_000), is_near(255, 100)
    (True, False, False)
    """
    return abs(size - target) <= max(SIZE_TOLERANCE * target, SIZE_TOLERANCE_BYTES)


# no compression at a ratio of 1; 2400 leaves 0.01 bits per pixel, half of Waterloo's last level
SEVERITY_SCALE = SeverityScale(
    "ratio", half=150, strongest=2400, amount=lambda ratio: ratio - 1, value=lambda amount: amount + 1, geometric=True
)


def versions() -> dict[str, str]:
    """Return the versions of Glymur and OpenJPEG."""
    return {"glymur": openjpeg.load_glymur().__version__, "openjpeg": openjpeg.openjpeg_status()[0]}
