"""The fourteen unknown distortions: their names and makers, what is random in each, and what files hide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from benchmarks.unknown import camera, codecs, optics
from benchmarks.unknown.pixels import Floats, Image, Rng, blur, jpeg, sharpen, to_levels, to_linear, to_uint8

BANDS = 12  # values that a channel may take
GRAIN_SIGMA = 11.0  # 8-bit levels at mid-grey
GRAIN_SIGMA_PX = 0.9  # of the Gaussian that correlates grain over 2 to 3 px
GRAIN_SHARED = 0.75  # of the grain's variance, alike in the three dye layers
SMEARED_NOISE_SIGMA, SMEARED_STRENGTH = 12.0, 10.0  # 8-bit levels: of the noise, and of the denoiser
HIDDEN_QUALITY = 85  # of a JPEG that a PNG hides
SHIFT_PX = (0.3, 0.7)  # of a rescaled image, in each direction
EXPOSURE_STOPS, CAST_STOPS, CONTRAST = (0.1, 0.9), 0.25, (0.8, 2.2)


@dataclass(frozen=True)
class Unknown:
    """One unknown distortion. `make` returns the pixels that go into a file of `suffix`."""

    name: str
    make: Callable[[Image, Rng], Image]
    randomness: Literal["deterministic", "random", "per image"]  # nothing drawn; each pixel; parameters of an image
    suffix: Literal[".png", ".jpg"] = ".png"  # a JPEG of the camera's quality; PNG tells nothing

    @property
    def has_redraw(self) -> bool:
        """Whether another seed gives another true version of the same image."""
        return self.randomness != "deterministic"


def film_grain(image: Image, rng: Rng) -> Image:
    """Return `image` with grain of deviation GRAIN_SIGMA·2·sqrt(u(1 − u)) where it is u of white, correlated.

    The variance u(1 − u) under a Gaussian is that of Newson et al., "A stochastic film grain model for
    resolution-independent rendering", Computer Graphics Forum 36(8) 2017, whose many grains a pixel are here Gaussian.
    """
    height, width = image.shape[:2]
    luma_noise, channel_noise = rng.standard_normal((height, width, 1)), rng.standard_normal(image.shape)
    grain = blur(np.sqrt(GRAIN_SHARED) * luma_noise + np.sqrt(1 - GRAIN_SHARED) * channel_noise, GRAIN_SIGMA_PX)
    grain *= 2 * np.sqrt(np.pi) * GRAIN_SIGMA_PX  # the blur leaves 1 / (4πσ²) of the variance
    share = image / np.float32(255)
    return to_uint8(image + GRAIN_SIGMA * 2 * np.sqrt(share * (1 - share)) * grain)


def banding(image: Image, rng: Rng) -> Image:  # noqa: ARG001 - each maker takes both
    """Return `image` with each channel rounded to BANDS values from 0 to 255."""
    step = 255 / (BANDS - 1)
    return to_uint8(np.rint(image / step) * step)


def denoised(image: Image, rng: Rng) -> Image:
    """Return `image` with white noise, then non-local means that smear it, then a JPEG."""
    noisy = to_uint8(image + SMEARED_NOISE_SIGMA * rng.standard_normal(image.shape))
    smeared = cv2.fastNlMeansDenoisingColored(noisy, None, SMEARED_STRENGTH, SMEARED_STRENGTH, 5, 15)
    return jpeg(smeared, HIDDEN_QUALITY)


def rescaled(image: Image, rng: Rng) -> Image:
    """Return `image` at half its size and back by Lanczos, shifted by 0.3 to 0.7 px, over-sharpened, then a JPEG."""
    height, width = image.shape[:2]
    half = cv2.resize(image.astype(np.float32), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    shift = rng.uniform(*SHIFT_PX, size=2) * rng.choice([-1, 1], size=2)
    # the centre of pixel x of the half lies at 2x + 0.5 of the whole
    back = np.array([[2, 0, 0.5 + shift[0]], [0, 2, 0.5 + shift[1]]])
    full_size = cv2.warpAffine(half, back, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    return jpeg(to_uint8(sharpen(full_size, amount=1.5, sigma_px=1.2)), HIDDEN_QUALITY)


def tone(image: Image, rng: Rng) -> Image:
    """Return `image` overexposed until it clips, with more contrast and a colour cast, all drawn for the image."""
    stops = rng.uniform(*EXPOSURE_STOPS) + CAST_STOPS * rng.uniform(-1, 1, size=3)
    levels: Floats = to_levels(to_linear(image) * 2**stops)
    share, slope = levels / 255, rng.uniform(*CONTRAST)
    curved = np.tanh(slope * (share - 0.5)) / np.tanh(slope / 2)  # an S-curve from -1 to 1
    return to_uint8(255 * (0.5 + 0.54 * curved))  # a little beyond both ends: black clips too


UNKNOWN: dict[str, Unknown] = {
    distortion.name: distortion
    for distortion in (
        Unknown("camera", camera.one_iso, "random", ".jpg"),
        Unknown("motion_blur", optics.motion_blur, "per image"),
        Unknown("film_grain", film_grain, "random"),
        Unknown("webp", codecs.webp, "deterministic"),
        Unknown("banding", banding, "deterministic"),
        Unknown("tone", tone, "per image"),
        Unknown("lens", optics.lens, "deterministic"),
        Unknown("denoised", denoised, "random"),
        Unknown("rescaled", rescaled, "per image"),
        Unknown("camera_iso", camera.drawn_iso, "per image", ".jpg"),
        Unknown("h264", codecs.h264, "per image"),
        Unknown("avif", codecs.avif, "deterministic"),
        Unknown("hevc", codecs.hevc, "per image"),
        Unknown("mpeg2", codecs.mpeg2, "per image"),
    )
}
