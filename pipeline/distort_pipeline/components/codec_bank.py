"""Codecs at hand, as a place to start: the one whose decoded images come nearest to the distorted ones.

Where the unknown distortion *is* one of these codecs, this is it; where it is a relative (VP9 of WebP and AVIF, any
video codec's still frames), it is a start with the right kind of blocks, which the network changes into the other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from distort_pipeline.components.patches import PairPatch

COARSE, FINE = (5, 15, 30, 50, 75), (-8, -5, -3, -2, -1, 1, 2, 3, 5, 8)
TRIED_PATCHES = 2
WORTH = 0.6  # share of the identity's squared error that makes a closer look worth its time


@dataclass(frozen=True)
class Codec:
    """A codec of Pillow's and its quality."""

    name: str  # WEBP, AVIF or JPEG
    quality: int

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3) after the encoder and the decoder."""
        buffer = io.BytesIO()
        options = {"max_threads": 1} if self.name == "AVIF" else {}
        Image.fromarray(image).save(buffer, self.name, quality=self.quality, **options)
        return np.asarray(Image.open(buffer).convert("RGB"))


def available() -> list[str]:
    """Return the codecs that this Pillow has."""
    return [name for name in ("WEBP", "AVIF", "JPEG") if name == "JPEG" or features.check(name.lower())]


def nearest_codec(patches: Sequence[PairPatch]) -> Codec | None:
    """Return the codec and quality with the least squared error on some whole images, coarse qualities first.

    None if at no coarse quality a codec comes clearly nearer than the pristine images are.
    """
    few = [patches[n] for n in np.unique(np.linspace(0, len(patches) - 1, TRIED_PATCHES).astype(int))]
    known: dict[Codec, float] = {}

    def error(codec: Codec) -> float:
        if codec not in known:
            differences = [codec.encode(p.pristine).astype(np.float32) - p.distorted for p in few]
            known[codec] = float(np.mean([np.square(d).mean() for d in differences]))
        return known[codec]

    identity = float(np.mean([np.square(p.pristine.astype(np.float32) - p.distorted).mean() for p in few]))
    for name in available():
        best = min((Codec(name, q) for q in COARSE), key=error)
        if error(best) < WORTH * identity:
            for change in FINE:
                error(Codec(name, min(max(best.quality + change, 0), 100)))
    best = min(known, key=lambda codec: known[codec])
    return best if known[best] < WORTH * identity else None
