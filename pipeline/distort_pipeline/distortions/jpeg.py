"""JPEG compression by OpenCV's libjpeg-turbo, chroma at half size both ways (4:2:0)."""

from __future__ import annotations

import re

import cv2
import numpy as np

from distort_pipeline.distortions import DISTORTIONS, Distorted, SeverityScale, unsuitable
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image

MAX_SIDE_PX = 65_500  # JPEG_MAX_DIMENSION of libjpeg


@DISTORTIONS.add("jpeg")
def jpeg(image: Image, *, quality: int) -> Distorted:
    """Return `image` after JPEG at libjpeg's `quality` 0-100 (0 equals 1); the fact `bytes` is the file's size."""
    stream = encode(image, quality=quality)
    decoded = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_COLOR)
    return Distorted(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), {"bytes": len(stream)})


def encode(image: Image, *, quality: int) -> bytes:
    """Return `image` as a baseline JPEG stream, 4:2:0."""
    if quality not in range(101):
        raise PipelineError(f"jpeg: quality must be a whole number from 0 to 100, got {quality!r}")
    if reason := unsuitable("jpeg", *image.shape[:2]):
        raise PipelineError(reason)
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, int(quality)),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    success, stream = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not success:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape} at quality {quality}")
    return bytes(stream)


def coarseness(quality: float) -> float:
    """Return libjpeg's scale in per cent of its tables at `quality`: 0 at 100, 5000 at 1 (jpeg_quality_scaling).

    >>> [coarseness(quality) for quality in (100, 50, 25, 1, 0)]
    [0, 100, 200.0, 5000.0, 5000.0]
    """
    return 200 - 2 * quality if quality >= 50 else 5000 / max(quality, 1)


def quality_of(coarseness_percent: float) -> int:
    """Return the whole quality nearest to a coarseness; the inverse of `coarseness`.

    >>> [quality_of(percent) for percent in (0, 100, 200, 5000, 51)]
    [100, 50, 25, 1, 74]
    """
    return round(5000 / coarseness_percent if coarseness_percent > 100 else 100 - coarseness_percent / 2)


SEVERITY_SCALE = SeverityScale(
    "quality", half=12, strongest=1, amount=coarseness, value=quality_of, geometric=True
)  # libjpeg's coarsest tables at 1


def versions() -> dict[str, str]:
    """Return the versions of OpenCV and of its libjpeg."""
    built_with = re.search(r"^\s*JPEG:\s*(\S.*?)\s*\(ver ([^)]+)\)", cv2.getBuildInformation(), re.MULTILINE)
    libjpeg = f"{built_with[1].removeprefix('build-')} {built_with[2]}" if built_with else "unknown"
    return {"opencv": cv2.__version__, "libjpeg": libjpeg}
