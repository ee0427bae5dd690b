"""Four distortions outside the package, as by an unknown camera, codec or screen.

The pipeline gets the distorted images only. All four are deterministic.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PILImage
from PIL import features

from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, to_uint8

AV1_QUALITY = 30  # of Pillow's 0 to 100; PSNR about 32 dB on the sample
VP8_QUALITY = 5  # about 30 dB
FARTHEST_SIGMA_PX = 4  # of the blur at the upper and the lower edge
CHANNEL_LEVELS = 12  # values a channel
SCREEN_QUALITY = 50


def av1(image: Image) -> Image:
    """Return `image` after an intra frame of AV1 (AVIF)."""
    if not features.check("avif"):
        raise PipelineError("this Pillow writes no AVIF; install pillow 11.3 or later, or choose another source")
    return _through(image, "AVIF", quality=AV1_QUALITY, max_threads=1)


def vp8(image: Image) -> Image:
    """Return `image` after an intra frame of VP8 (lossy WebP)."""
    return _through(image, "WEBP", quality=VP8_QUALITY)


def defocus(image: Image) -> Image:
    """Return `image` sharp in the middle row and increasingly blurred towards both edges, as by a tilted lens."""
    layers = [image.astype(np.float32)]
    layers += [cv2.GaussianBlur(layers[0], (0, 0), sigma) for sigma in range(1, FARTHEST_SIGMA_PX + 1)]
    depth = FARTHEST_SIGMA_PX * np.abs(np.linspace(-1, 1, len(image)))
    below = np.minimum(depth.astype(int), FARTHEST_SIGMA_PX - 1)
    share = (depth - below)[:, None, None]
    rows = np.arange(len(image))
    stack = np.stack(layers)
    return to_uint8((1 - share) * stack[below, rows] + share * stack[below + 1, rows])


def banding(image: Image) -> Image:
    """Return `image` with few values a channel, encoded again: banding in skies."""
    step = 255 / (CHANNEL_LEVELS - 1)
    return _through(to_uint8(np.round(image / step) * step), "WEBP", quality=SCREEN_QUALITY)


SOURCES: Mapping[str, Callable[[Image], Image]] = {
    "av1": av1,
    "vp8": vp8,
    "defocus": defocus,
    "banding": banding,
}


def write_partners(source: str, pristine: Path, out: Path) -> int:
    """Write the distorted partner of every PNG file of the folder `pristine` into `out` and return the number of files.

    File names are kept; a second run writes equal files.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(pristine.glob("*.png"))
    for path in paths:
        image, _ = decode(path.read_bytes())
        (out / path.name).write_bytes(encode_png(SOURCES[source](image)))
    return len(paths)


def _through(image: Image, container: str, **options: Any) -> Image:
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, container, **options)
    return np.asarray(PILImage.open(file).convert("RGB"))
