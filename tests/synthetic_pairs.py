"""Pairs of synthetic photographs and what is done to them, for fits that finish in seconds."""

from __future__ import annotations

import cv2
import numpy as np

from distort_pipeline.networks.patches import PairPatch, cut_patches

IMAGES, SIDE = 4, 256


def photographs(seed: int = 0, finest: int = 6) -> list[np.ndarray]:
    """Return images (256, 256, 3) of octaves down to cells of 2^(8 - finest) px, and some noise."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(IMAGES):
        image = np.zeros((SIDE, SIDE, 3))
        for octave in range(1, finest + 1):
            coarse = rng.standard_normal((2**octave, 2**octave, 3))
            image += 60 / octave * cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        images.append(np.clip(128 + image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
    return images


def corners() -> list[np.ndarray]:
    """Return the corners (128, 128, 3) of the images: all codecs are tried on them."""
    return [image[:128, :128] for image in photographs()]


def pairs_of(distort, finest: int = 6) -> list[PairPatch]:
    images = photographs(finest=finest)
    return cut_patches([(x, distort(x, n)) for n, x in enumerate(images)], SIDE)


def bases_of(patches: list[PairPatch]) -> list[np.ndarray]:
    return [patch.pristine.astype(np.float32) for patch in patches]


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a.astype(float) - b).mean()))


def moved_squares(image: np.ndarray, rng: np.random.Generator, squares: int = 12) -> np.ndarray:
    """Return `image` with squares of 14 px from up to 16 px away."""
    moved = image.copy()
    for _ in range(squares):
        (y, x), (down, right) = rng.integers(20, SIDE - 40, 2), rng.integers(4, 17, 2)
        moved[y : y + 14, x : x + 14] = image[y + down : y + down + 14, x + right : x + right + 14]
    return moved
