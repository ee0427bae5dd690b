"""Random distortions to prepare a network on: blurs, resampling, noise, tone curves, block transforms, composed.

None of the fourteen of benchmarks/unknown is among them: no demosaicing, no denoiser, no video or image codec.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from distort_pipeline.networks.patches import TO_RGB, TO_YCC

Levels = NDArray[np.float32]  # (H, W, 3), 0 to 255
Stage = Callable[[Levels, np.random.Generator], Levels]
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def draw_distortion(rng: np.random.Generator) -> Stage:
    """Return a distortion of one to four stages in random order; noise is drawn anew with every image."""
    kinds = [_blur, _resampling, _noise, _tone, _block_transform, _sharpening]
    chosen = rng.choice(len(kinds), rng.integers(1, 5), replace=False)
    stages = [kinds[index](rng) for index in chosen]

    def distort(levels: Levels, draw: np.random.Generator) -> Levels:
        for stage in stages:
            levels = stage(levels, draw)
        return np.clip(np.rint(levels), 0, 255).astype(np.float32)

    return distort


def _blur(rng: np.random.Generator) -> Stage:
    """Return an anisotropic Gaussian blur at any angle."""
    sigmas, angle = rng.uniform(0.3, 2.0, 2), rng.uniform(0, np.pi)
    y, x = np.mgrid[-6:7, -6:7]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    return lambda levels, _: cv2.filter2D(levels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def _sharpening(rng: np.random.Generator) -> Stage:
    """Return an unsharp mask, in part above a threshold alone."""
    amount, sigma, threshold = rng.uniform(0.2, 1.5), rng.uniform(0.6, 2.0), rng.uniform(0, 4)

    def sharpen(levels: Levels, _: np.random.Generator) -> Levels:
        detail = levels - cv2.GaussianBlur(levels, (0, 0), sigma)
        return levels + amount * np.sign(detail) * np.maximum(np.abs(detail) - threshold, 0)

    return sharpen


def _resampling(rng: np.random.Generator) -> Stage:
    """Return a reduction by 1.2 to 4 and back, by two interpolations."""
    factor, (down, up) = rng.uniform(1.2, 4), rng.choice(INTERPOLATIONS, 2)

    def resample(levels: Levels, _: np.random.Generator) -> Levels:
        height, width = levels.shape[:2]
        small = cv2.resize(levels, (round(width / factor), round(height / factor)), interpolation=int(down))
        return cv2.resize(small, (width, height), interpolation=int(up))

    return resample


def _noise(rng: np.random.Generator) -> Stage:
    """Return Gaussian noise of any slope of spectrum, correlation of channels and dependence on luminance."""
    slope, sigma, brighter, shared = rng.uniform(0, 2), np.exp(rng.uniform(0, 2.7)), rng.uniform(-1, 1), rng.uniform()

    def add(levels: Levels, draw: np.random.Generator) -> Levels:
        height, width = levels.shape[:2]
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        gain = np.maximum(frequency, 1 / max(height, width)) ** (-slope / 2)
        white = draw.standard_normal((height, width, 4))
        field = np.fft.irfft2(np.fft.rfft2(white, axes=(0, 1)) * gain[..., None], (height, width), axes=(0, 1))
        field /= field.std()
        drawn = np.sqrt(1 - shared) * field[..., :3] + np.sqrt(shared) * field[..., 3:]
        local = sigma * np.exp(brighter * (levels / 255 - 0.5))
        return levels + (local * drawn).astype(np.float32)

    return add


def _tone(rng: np.random.Generator) -> Stage:
    """Return a rising curve of each channel, or the same for all."""
    knots = np.linspace(0, 255, 6)
    steps = rng.dirichlet(np.full(5, rng.uniform(4, 40)), 3 if rng.uniform() < 0.5 else 1)
    low, high = rng.uniform(0, 25), rng.uniform(230, 255)
    curves = [low + (high - low) * np.concatenate([[0], np.cumsum(row)]) for row in steps]

    def apply(levels: Levels, _: np.random.Generator) -> Levels:
        planes = [np.interp(levels[..., c], knots, curves[c % len(curves)]) for c in range(3)]
        return np.stack(planes, axis=-1).astype(np.float32)

    return apply


def _block_transform(rng: np.random.Generator) -> Stage:
    """Return cosine transforms of blocks with steps that rise with frequency, chroma coarser, dead zones."""
    side = int(rng.choice([4, 8, 16]))
    ramp = np.add.outer(np.arange(side), np.arange(side)) / (2 * side - 2)
    first, slope, chroma = np.exp(rng.uniform(0.7, 3.7)), rng.uniform(0, 8), rng.uniform(1, 3)
    steps = (first * (1 + slope * ramp))[..., None] * np.array([1, chroma, chroma])
    rounding = rng.uniform(0.2, 0.5)

    def code(levels: Levels, _: np.random.Generator) -> Levels:
        height, width = (length // side * side for length in levels.shape[:2])
        out = levels.copy()
        ycc = (levels[:height, :width] @ TO_YCC.T).reshape(height // side, side, width // side, side, 3)
        spectrum = dctn(ycc, axes=(1, 3), norm="ortho")
        scaled = steps[None, :, None, :, :]
        quantised = np.sign(spectrum) * np.floor(np.abs(spectrum) / scaled + rounding) * scaled
        decoded = idctn(quantised, axes=(1, 3), norm="ortho").reshape(height, width, 3)
        out[:height, :width] = decoded @ TO_RGB.T
        return out

    return code
