"""The 25 kinds of distortion of KADID-10k, at a middle to strong level, in NumPy and OpenCV.

Kinds and most parameters follow the description of Lin, Hosu and Saupe, "KADID-10k: A Large-scale Artificially
Distorted IQA Database" (QoMEX 2019), table II; the code is ours, so values differ from the database's.
Images are uint8 RGB, H×W×3.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image as PILImage

from distort_pipeline.records import Image, to_uint8

Draw = np.random.Generator
EDGE = cv2.BORDER_REFLECT_101


def stored(image: Image, name: str, **options: object) -> Image:
    """Return `image` (H, W, 3) as it comes back from a file of Pillow's format `name`."""
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, name, **options)
    return np.asarray(PILImage.open(buffer).convert("RGB"))


def _filtered(image: Image, kernel: np.ndarray) -> Image:
    return to_uint8(cv2.filter2D(image.astype(np.float32), -1, kernel / kernel.sum(), borderType=EDGE))


def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (np.hypot(y, x) <= radius + 0.3).astype(np.float32)


def _in_lab(image: Image, change: Callable[[np.ndarray], None]) -> Image:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    change(lab)
    return to_uint8(255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def _colour_diffusion(image: Image, _: Draw) -> Image:
    def change(lab: np.ndarray) -> None:
        lab[..., 1:] = cv2.GaussianBlur(lab[..., 1:], (0, 0), 6)

    return _in_lab(image, change)


def _colour_shift(image: Image, rng: Draw) -> Image:
    """Displace green by 4 px towards a direction drawn per image, at edges."""
    angle = rng.uniform(0, 2 * np.pi)
    moved = np.roll(image[..., 1], np.rint(4 * np.array([np.sin(angle), np.cos(angle)])).astype(int), (0, 1))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    weight = np.clip(cv2.GaussianBlur(edges, (0, 0), 4) / 60, 0, 1)
    out = image.astype(np.float32)
    out[..., 1] += weight * (moved - out[..., 1])
    return to_uint8(out)


def _colour_quantised(image: Image, _: Draw) -> Image:
    return np.asarray(PILImage.fromarray(image).quantize(16, dither=PILImage.Dither.NONE).convert("RGB"))


def _saturation_hsv(image: Image, _: Draw) -> Image:
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 1] *= 0.2
    return to_uint8(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def _saturation_lab(image: Image, _: Draw) -> Image:
    def change(lab: np.ndarray) -> None:
        lab[..., 1:] *= 2

    return _in_lab(image, change)


def _noise_ycc(image: Image, rng: Draw) -> Image:
    ycc = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    ycc += 255 * np.sqrt(0.0052) * rng.standard_normal(ycc.shape).astype(np.float32)
    return to_uint8(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB))


def _impulses(image: Image, rng: Draw) -> Image:
    struck = rng.random(image.shape) < 0.02  # each channel on its own
    return np.where(struck, 255 * rng.integers(0, 2, image.shape), image).astype(np.uint8)


def _denoised(image: Image, rng: Draw) -> Image:
    noisy = to_uint8(image + 18 * rng.standard_normal(image.shape))
    return cv2.fastNlMeansDenoisingColored(noisy, None, 9, 9, 5, 15)


def _curve(image: Image, points: tuple[float, ...]) -> Image:
    grey = np.arange(256) / 255
    curve = np.interp(grey, np.linspace(0, 1, len(points)), points)
    return to_uint8(255 * cv2.GaussianBlur(curve[None], (0, 0), 12, borderType=cv2.BORDER_REPLICATE)[0])[image]


def _brightened(image: Image, _: Draw) -> Image:
    def change(lab: np.ndarray) -> None:
        lab[..., 0] = 100 * (lab[..., 0] / 100) ** 0.6

    return _in_lab(image, change)


def _darkened(image: Image, _: Draw) -> Image:
    def change(lab: np.ndarray) -> None:
        lab[..., 0] = 100 * (lab[..., 0] / 100) ** 1.6

    return _in_lab(image, change)


def _jitter(image: Image, rng: Draw) -> Image:
    """Take every pixel from a place up to 1.5 px away, drawn per pixel."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    by, bx = rng.uniform(-1.5, 1.5, (2, height, width)).astype(np.float32)
    return cv2.remap(image, x + bx, y + by, cv2.INTER_LINEAR, borderMode=EDGE)


def _patches_moved(image: Image, rng: Draw) -> Image:
    """Replace 16 px squares by squares from up to 16 px away, about one in 100 × 100 px."""
    out = image.copy()
    height, width = image.shape[:2]
    for _ in range(height * width // 10_000):
        y, x = rng.integers(16, [height - 32, width - 32])
        dy, dx = rng.integers(-16, 17, 2)
        out[y : y + 16, x : x + 16] = image[y + dy : y + dy + 16, x + dx : x + dx + 16]
    return out


def _pixelated(image: Image, _: Draw) -> Image:
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 5, height // 5), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def _quantised(image: Image, _: Draw) -> Image:
    """Give each channel ten values, at quantiles of the image."""
    out = np.empty_like(image)
    for channel in range(3):
        values = image[..., channel]
        edges = np.quantile(values, np.linspace(0, 1, 11))
        bins = np.clip(np.searchsorted(edges, values, "right") - 1, 0, 9)
        out[..., channel] = to_uint8((edges[:-1] + edges[1:]) / 2)[bins]
    return out


def _colour_blocks(image: Image, rng: Draw) -> Image:
    """Lay squares of 32 px and any colour on the image, about one in 250 × 250 px."""
    out = image.copy()
    for _ in range(max(image.shape[0] * image.shape[1] // 62_500, 1)):
        y, x = rng.integers(0, [image.shape[0] - 32, image.shape[1] - 32])
        out[y : y + 32, x : x + 32] = rng.integers(0, 256, 3)
    return out


def _sharpened(image: Image, _: Draw) -> Image:
    def change(lab: np.ndarray) -> None:
        lab[..., 0] += 3 * (lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 3))
        np.clip(lab[..., 0], 0, 100, out=lab[..., 0])

    return _in_lab(image, change)


MOTION = np.zeros((9, 9), np.float32)
MOTION[:, 4] = 1

KADID = {
    "gaussian_blur": lambda x, _: to_uint8(cv2.GaussianBlur(x.astype(np.float32), (0, 0), 2)),
    "lens_blur": lambda x, _: _filtered(x, _disk(4)),
    "motion_blur": lambda x, _: _filtered(x, MOTION),
    "colour_diffusion": _colour_diffusion,
    "colour_shift": _colour_shift,
    "colour_quantised": _colour_quantised,
    "saturation_hsv": _saturation_hsv,
    "saturation_lab": _saturation_lab,
    "jp2k": lambda x, _: stored(x, "JPEG2000", quality_mode="rates", quality_layers=[120], irreversible=True),
    "jpeg": lambda x, _: stored(x, "JPEG", quality=7),
    "white_noise": lambda x, rng: to_uint8(x + 255 * np.sqrt(0.005) * rng.standard_normal(x.shape)),
    "noise_ycc": _noise_ycc,
    "impulses": _impulses,
    "multiplicative": lambda x, rng: to_uint8(x * (1 + np.sqrt(0.02) * rng.standard_normal(x.shape))),
    "denoised": _denoised,
    "brightened": _brightened,
    "darkened": _darkened,
    "mean_shift": lambda x, _: to_uint8(x + 38.0),
    "jitter": _jitter,
    "patches_moved": _patches_moved,
    "pixelated": _pixelated,
    "quantised": _quantised,
    "colour_blocks": _colour_blocks,
    "sharpened": _sharpened,
    "contrast": lambda x, _: _curve(x, (0, 0.15, 0.5, 0.85, 1)),
}
