"""What images are called here, and the changes of range that the makers share."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3), sRGB
Floats: TypeAlias = NDArray[np.floating[Any]]  # (H, W, 3); 8-bit levels, or linear light from 0 to 1
Rng: TypeAlias = np.random.Generator


def to_linear(image: Image) -> Floats:
    """Return the linear light, 0 to 1, of 8-bit sRGB `image` (IEC 61966-2-1)."""
    coded = np.arange(256) / 255
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)[image]


def to_levels(light: Floats) -> Floats:
    """Return sRGB 8-bit levels, not rounded, of `light`, which is clipped to 0 to 1."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def to_uint8(levels: Floats) -> Image:
    """Return 8-bit `levels` rounded and clipped."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def blur(levels: Floats, sigma_px: float) -> Floats:
    """Return `levels` under a Gaussian of `sigma_px`, borders mirrored."""
    blurred = cv2.GaussianBlur(np.asarray(levels, np.float32), (0, 0), sigma_px)
    return np.asarray(blurred).reshape(levels.shape)  # OpenCV drops a single channel


def sharpen(levels: Floats, *, amount: float, sigma_px: float) -> Floats:
    """Return `levels` plus `amount` times what a Gaussian of `sigma_px` takes from them (an unsharp mask)."""
    return levels + amount * (levels - blur(levels, sigma_px))


def jpeg_bytes(image: Image, quality: int) -> bytes:
    """Return `image` as a JPEG file of libjpeg's `quality`, chroma 4:2:0."""
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError(f"no JPEG can be written of the shape {image.shape}")
    return data.tobytes()


def decode(data: bytes) -> Image:
    """Return the 8-bit RGB image in the bytes of an image file."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("these bytes are no image file")
    return np.ascontiguousarray(image[..., ::-1])


def jpeg(image: Image, quality: int) -> Image:
    """Return `image` after a JPEG of `quality`, decoded again."""
    return decode(jpeg_bytes(image, quality))
