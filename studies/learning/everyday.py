"""Distortions that cameras, screens, printers, tapes and programs make, beside those of others.py and kadid.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image as PILImage

from distort_pipeline.records import Image, to_uint8

Draw = np.random.Generator


def _grid(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's column and row from the middle, in half diagonals."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    half = np.hypot(height, width) / 2
    return (columns - (width - 1) / 2) / half, (rows - (height - 1) / 2) / half


def _warped(image: Image, x: np.ndarray, y: np.ndarray) -> Image:
    """Return `image` read at the places `x`, `y` of `_grid`."""
    height, width = image.shape[:2]
    half = np.hypot(height, width) / 2
    columns, rows = x * half + (width - 1) / 2, y * half + (height - 1) / 2
    return cv2.remap(
        image, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def _barrel(image: Image, _: Draw) -> Image:
    x, y = _grid(image)
    bent = 1 - 0.012 * (1 - (x**2 + y**2))
    return _warped(image, x * bent, y * bent)


def _turned(image: Image, rng: Draw) -> Image:
    x, y = _grid(image)
    angle = np.deg2rad(rng.uniform(-0.4, 0.4))
    turned = _warped(image, np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y)
    return cv2.GaussianBlur(turned, (0, 0), 0.8)


def _tilt_shift(image: Image, _: Draw) -> Image:
    y = _grid(image)[1]
    out = image.astype(np.float32)
    for level, sigma in enumerate((1.0, 1.7, 2.6, 3.6)):
        share = np.clip(np.abs(y) / 0.12 - 0.6 - level, 0, 1)[..., None]
        out = (1 - share) * out + share * cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
    return to_uint8(out)


def _ghost(image: Image, _: Draw) -> Image:
    return to_uint8(0.72 * image + 0.28 * np.roll(image, (2, 7), (0, 1)))


def _interlaced(image: Image, rng: Draw) -> Image:
    out = image.copy()
    moved = int(rng.integers(1, 5))
    out[1::2] = np.roll(out[1::2], moved, 1)
    return out


def _halftone(image: Image, _: Draw) -> Image:
    """Return `image` as round dots, a screen of its own angle for each channel, softened as by paper."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    out = np.empty(image.shape, np.float32)
    for channel, degrees in enumerate((15, 75, 45)):
        angle = np.deg2rad(degrees)
        u, v = np.cos(angle) * columns + np.sin(angle) * rows, -np.sin(angle) * columns + np.cos(angle) * rows
        screen = (2 + np.cos(2 * np.pi * u / 5.5) + np.cos(2 * np.pi * v / 5.5)) / 4
        out[..., channel] = 255 * (image[..., channel] / 255 > screen)
    return to_uint8(cv2.GaussianBlur(out, (0, 0), 1.3))


def _few_colours(image: Image, _: Draw) -> Image:
    return np.asarray(PILImage.fromarray(image).quantize(20, dither=PILImage.Dither.NONE).convert("RGB"))


def _vignette(image: Image, rng: Draw) -> Image:
    x, y = _grid(image)
    fall = 1 - rng.uniform(0.3, 0.7) * (x**2 + y**2)
    return to_uint8(image * fall[..., None] * np.array([1, 0.97, 0.88]))


def _sensor(image: Image, rng: Draw) -> Image:
    """Return `image` from one bad sensor: the same hot pixels and gains of columns for every image, and noise."""
    own = np.random.default_rng(7)
    gains = 1 + 0.02 * own.standard_normal((1, 1024, 1))[:, : image.shape[1]]
    hot = (own.random((1024, 1024)) < 0.001)[: image.shape[0], : image.shape[1]]
    out = image * gains + 3 * rng.standard_normal(image.shape)
    out[hot] = 255
    return to_uint8(out)


def _watermark(image: Image, _: Draw) -> Image:
    layer = np.zeros(image.shape, np.uint8)
    for row in range(60, image.shape[0], 160):
        for column in range(20, image.shape[1], 240):
            cv2.putText(layer, "sample", (column, row), cv2.FONT_HERSHEY_DUPLEX, 1.5, (255, 255, 255), 3, cv2.LINE_AA)
    return to_uint8(image + (255.0 - image) * 0.35 * (layer / 255.0))


def _rain(image: Image, rng: Draw) -> Image:
    drops = (rng.random(image.shape[:2]) < 0.003).astype(np.float32)
    kernel = np.zeros((21, 21), np.float32)
    cv2.line(kernel, (7, 0), (13, 20), 1.0, 1)
    streaks = cv2.GaussianBlur(cv2.filter2D(drops, -1, kernel), (0, 0), 0.7)
    return to_uint8(image + (255.0 - image) * np.clip(0.45 * streaks, 0, 0.6)[..., None])


def _bloom(image: Image, _: Draw) -> Image:
    lights = np.clip(image.astype(np.float32) - 190, 0, None) * 3
    return to_uint8(255 - (255 - image) * (255 - np.clip(cv2.GaussianBlur(lights, (0, 0), 18), 0, 255)) / 255)


def _tone_mapped(image: Image, _: Draw) -> Image:
    light = np.log(image.astype(np.float32) + 8)
    grey = light.mean(axis=2)
    base = cv2.bilateralFilter(grey, 15, 0.5, 8)
    mapped = 0.55 * base + 0.45 * base.mean() + 1.3 * (grey - base)
    return to_uint8(np.exp(light + (mapped - grey)[..., None]) - 8)


def _clarity(image: Image, _: Draw) -> Image:
    detail = image - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 9)
    return to_uint8(image + np.clip(1.1 * detail, -38, 38))


def _painted(image: Image, _: Draw) -> Image:
    return cv2.pyrMeanShiftFiltering(image, 6, 22)


def _aliased(image: Image, _: Draw) -> Image:
    return cv2.resize(image[::2, ::2], image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _bayer(image: Image, _: Draw) -> Image:
    mosaic = np.empty(image.shape[:2], np.uint8)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = image[row::2, column::2, channel]
    return cv2.cvtColor(mosaic, cv2.COLOR_BayerRGGB2RGB)


def _screen(image: Image, rng: Draw) -> Image:
    """Return `image` as a photograph of a screen: its grid of pixels, slightly turned, seen by a soft lens."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    angle, phase = np.deg2rad(3.0), rng.uniform(0, 2 * np.pi, 2)
    u, v = np.cos(angle) * columns + np.sin(angle) * rows, -np.sin(angle) * columns + np.cos(angle) * rows
    grid = 1 + 0.22 * np.cos(2 * np.pi * u / 2.7 + phase[0]) + 0.12 * np.cos(2 * np.pi * v / 2.7 + phase[1])
    return to_uint8(cv2.GaussianBlur(image * grid[..., None], (0, 0), 0.7) + 2 * rng.standard_normal(image.shape))


def _diffused(image: Image, _: Draw) -> Image:
    out = image.astype(np.float32)
    for _step in range(12):
        change = np.zeros_like(out)
        for axis, by in ((0, 1), (0, -1), (1, 1), (1, -1)):
            slope = np.roll(out, by, axis) - out
            change += np.exp(-((slope / 14) ** 2)) * slope
        out += 0.2 * change
    return to_uint8(out)


def _flicker(image: Image, rng: Draw) -> Image:
    rows = np.arange(image.shape[0])
    wave = 1 + 0.13 * np.sin(2 * np.pi * rows / 190 + rng.uniform(0, 2 * np.pi))
    return to_uint8(image * wave[:, None, None])


def _old_film(image: Image, rng: Draw) -> Image:
    """Return `image` in brown, with scratches along the film and specks of dust."""
    layer = np.zeros(image.shape[:2], np.float32)
    for _scratch in range(int(rng.integers(3, 9))):
        column = float(rng.uniform(0, image.shape[1]))
        cv2.line(
            layer, (int(column), 0), (int(column + rng.uniform(-6, 6)), image.shape[0]), float(rng.uniform(40, 110)), 1
        )
    for _speck in range(int(rng.integers(60, 120))):
        place = (int(rng.uniform(0, image.shape[1])), int(rng.uniform(0, image.shape[0])))
        cv2.ellipse(layer, place, (int(rng.integers(1, 4)), 1), float(rng.uniform(0, 180)), 0, 360, 90.0, -1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] * np.array([1.05, 0.93, 0.74])
    return to_uint8(grey + cv2.GaussianBlur(layer, (0, 0), 0.6)[..., None] + 4 * rng.standard_normal((*layer.shape, 1)))


EVERYDAY: Mapping[str, Callable[[Image, Draw], Image]] = {
    "barrel": _barrel,
    "turned": _turned,
    "tilt_shift": _tilt_shift,
    "ghost": _ghost,
    "interlaced": _interlaced,
    "halftone": _halftone,
    "few_colours": _few_colours,
    "vignette": _vignette,
    "sensor": _sensor,
    "watermark": _watermark,
    "rain": _rain,
    "bloom": _bloom,
    "tone_mapped": _tone_mapped,
    "clarity": _clarity,
    "painted": _painted,
    "aliased": _aliased,
    "bayer": _bayer,
    "screen": _screen,
    "diffused": _diffused,
    "flicker": _flicker,
    "old_film": _old_film,
}
