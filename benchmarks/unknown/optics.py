"""Blurs of the light itself: a shaken camera, and a lens out of focus with measured colour fringes and dark corners."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.unknown.pixels import Floats, Image, Rng, to_levels, to_linear, to_uint8

# Lumix G Vario 45-200 mm f/4.0-5.6 Mega OIS at 200 mm, f/5.6: lensfun's database (Debian liblensfun-data-v1 0.3.3-1,
# mil-panasonic.xml; CC BY-SA 3.0). A colour's radius is r·(v + c·r + b·r²), r = 1 at half the shorter side; light falls
# by 1 + k1·r² + k2·r⁴ + k3·r⁶, r = 1 in the corner.
RED_VCB = (0.9981137, 0.0006505, -0.0001336)
BLUE_VCB = (0.9992274, -0.0003193, 0.0002790)
VIGNETTING_K = (-1.2431, 1.1225, -0.4634)
FOCUS_RADII_PX = (0.8, 1.4, 2.0, 2.6)  # of the disc of defocus, from the centre to the corner
SHAKE_STEPS = 64  # positions of the camera during one exposure
SHAKE_LENGTH_PX = (5.0, 16.0)  # of the path
SHAKE_TURN = 0.12  # standard deviation of the change of direction at each step, radians
SUPERSAMPLING = 8  # of the disc's edge


def motion_blur(image: Image, rng: Rng) -> Image:
    """Return `image` blurred in linear light along a path of 5 to 16 px that is drawn from `rng`."""
    blurred = cv2.filter2D(to_linear(image), -1, shake_kernel(rng), borderType=cv2.BORDER_REFLECT_101)
    return to_uint8(to_levels(blurred))


def shake_kernel(rng: Rng) -> NDArray[np.float32]:
    """Return a kernel (25, 25) of sum 1: a path whose direction changes at random, centred on its mean position.

    After Boracchi and Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP 21(8) 2012.
    """
    length = rng.uniform(*SHAKE_LENGTH_PX)
    directions = rng.uniform(0, 2 * np.pi) + np.cumsum(SHAKE_TURN * rng.standard_normal(SHAKE_STEPS))
    speeds = np.abs(1 + 0.3 * rng.standard_normal(SHAKE_STEPS))
    steps = speeds[:, None] * np.stack([np.sin(directions), np.cos(directions)], axis=1)
    path = np.cumsum(steps * length / speeds.sum(), axis=0)
    path += 12 - path.mean(axis=0)
    kernel = np.zeros((25, 25))
    for y, x in np.clip(path, 0, 23):
        top, left = int(y), int(x)
        down, right = y - top, x - left
        kernel[top : top + 2, left : left + 2] += np.outer([1 - down, down], [1 - right, right])
    return (kernel / kernel.sum()).astype(np.float32)


def lens(image: Image, rng: Rng) -> Image:  # noqa: ARG001 - each maker takes both
    """Return `image` through the lens above, out of focus, and more so towards the corners."""
    light = to_linear(image)
    shorter, corner = _radii(light.shape[:2])
    red, blue = _fringed(light[..., 0], shorter, RED_VCB), _fringed(light[..., 2], shorter, BLUE_VCB)
    light = _defocused(np.stack([red, light[..., 1], blue], axis=-1), corner)
    falloff = np.polynomial.polynomial.polyval(corner**2, (1.0, *VIGNETTING_K))
    return to_uint8(to_levels(light * falloff[..., None]))


def _radii(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each pixel's distance (H, W) from the centre, in halves of the shorter side and of the diagonal."""
    height, width = shape
    rows, columns = np.ogrid[:height, :width]
    radius = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2).astype(np.float32)
    return radius / (min(shape) / 2), radius / (np.hypot(height, width) / 2)


def _fringed(plane: Floats, radius: NDArray[np.float32], vcb: tuple[float, float, float]) -> Floats:
    """Return `plane` (H, W) magnified about the centre by v + c·r + b·r²."""
    v, c, b = vcb
    height, width = plane.shape
    magnified = v + c * radius + b * radius**2
    rows, columns = np.ogrid[:height, :width]
    y = ((rows - (height - 1) / 2) / magnified + (height - 1) / 2).astype(np.float32)
    x = ((columns - (width - 1) / 2) / magnified + (width - 1) / 2).astype(np.float32)
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def _defocused(light: Floats, corner: NDArray[np.float32]) -> Floats:
    """Return `light` under discs of FOCUS_RADII_PX, blended by the distance from the centre `corner` (0 to 1)."""
    blurred = [cv2.filter2D(light, -1, _disc(radius), borderType=cv2.BORDER_REFLECT_101) for radius in FOCUS_RADII_PX]
    position = corner * (len(blurred) - 1)
    weights = [np.clip(1 - np.abs(position - index), 0, 1)[..., None] for index in range(len(blurred))]
    return np.asarray(sum(weight * layer for weight, layer in zip(weights, blurred, strict=True)))


def _disc(radius_px: float) -> NDArray[np.float32]:
    """Return the kernel of a disc, (N, N) of sum 1, its edge averaged over SUPERSAMPLING² points a pixel."""
    half = int(np.ceil(radius_px))
    side = (2 * half + 1) * SUPERSAMPLING
    offsets = (np.arange(side) + 0.5) / SUPERSAMPLING - half - 0.5
    inside = np.hypot(offsets[:, None], offsets) <= radius_px
    kernel = inside.reshape(2 * half + 1, SUPERSAMPLING, 2 * half + 1, SUPERSAMPLING).mean(axis=(1, 3))
    return (kernel / kernel.sum()).astype(np.float32)
