"""Pink noise: additive, Gaussian, spectral amplitude falling as 1/f."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from distort_pipeline.distortions import DISTORTIONS, SeverityScale
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, to_uint8

SEVERITY_SCALE = SeverityScale(
    "sigma_8bit", half=25, strongest=255, amount=float, value=float, geometric=False
)  # 255: black to white


@DISTORTIONS.add("pink_noise")
def pink_noise(image: Image, *, sigma_8bit: float, rng: np.random.Generator) -> Image:
    """Return `image` with pink noise of exactly `sigma_8bit` 8-bit levels in each channel, rounded and clipped."""
    if not 0 <= sigma_8bit < math.inf:
        raise PipelineError(f"pink_noise: sigma_8bit must be 0 or more, got {sigma_8bit!r}")
    height, width, channels = image.shape
    noisy = np.empty_like(image)
    for channel in range(channels):
        noise = pink_field(height, width, rng)
        noise *= np.float32(sigma_8bit)
        noise += image[..., channel]
        noisy[..., channel] = to_uint8(noise)
    return noisy


def pink_field(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a (height, width) sample of pink noise with mean 0 and population standard deviation 1.

    White noise is shaped in the Fourier domain: amplitude ∝ 1/f (power ∝ 1/f²) over the radial frequency f.
    """
    if height * width < 2:
        raise PipelineError("pink_noise: an image of one pixel has no spatial frequency")
    spectrum = fft.rfft2(rng.standard_normal((height, width), dtype=np.float32), workers=1)
    spectrum *= _inverse_frequency(height, width)
    shaped: NDArray[np.float32] = fft.irfft2(spectrum, s=(height, width), workers=1)
    shaped /= shaped.std(dtype=np.float64)
    return shaped


def versions() -> dict[str, str]:
    """Return the version of SciPy, as rounding in its Fourier transform differs between versions."""
    return {"scipy": version("scipy")}


@lru_cache(maxsize=1)  # shared by the channels of an image
def _inverse_frequency(height: int, width: int) -> NDArray[np.float32]:
    """Return 1/f over the half-plane of a real Fourier transform, f in cycles per pixel; 0 at f = 0."""
    frequency = np.hypot(fft.fftfreq(height)[:, np.newaxis], fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    gain: NDArray[np.float32] = (1 / frequency).astype(np.float32)
    gain.setflags(write=False)
    return gain
