"""A camera: linear light, Bayer mosaic, measured noise, demosaicing, denoising, sharpening. Its JPEG comes after."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.unknown.pixels import Floats, Image, Rng, blur, sharpen, to_levels, to_linear, to_uint8

# Panasonic DMC-TZ71 (1/2.3" sensor): variance of the linear, white-balanced value x in [0, 1] is a·x + b, by channel
# R, G, B. From data/noiseprofiles.json of darktable 4.2.1 (Debian 4.2.1-4), measured by users of darktable and fitted
# by its tool; "dmc-tz71 contributed by chris". Figures rounded to four digits.
NOISE_BY_ISO: dict[int, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    200: ((4.302e-05, 3.139e-05, 1.142e-04), (1.462e-07, 1.211e-07, 1.549e-07)),
    400: ((8.740e-05, 6.396e-05, 2.276e-04), (3.402e-07, 2.727e-07, 3.139e-07)),
    800: ((1.860e-04, 1.386e-04, 4.643e-04), (7.764e-07, 6.325e-07, 5.590e-07)),
    1600: ((4.208e-04, 3.289e-04, 9.311e-04), (1.830e-06, 1.347e-06, 1.013e-06)),
    3200: ((9.825e-04, 8.300e-04, 1.845e-03), (4.907e-06, 3.075e-06, 2.247e-06)),
    6400: ((2.249e-03, 2.047e-03, 3.567e-03), (1.360e-05, 7.384e-06, 5.910e-06)),
}
ISO = 3200  # of the camera with one ISO
BLACK, WHITE = 256, 4095  # of a 12-bit raw file: noise below black is kept until the image is developed
MID_GREY = 0.18  # linear: the denoiser's strength follows the noise there, as a camera's follows its ISO
LUMA_GAIN, CHROMA_GAIN = 1.5, 4.0  # range of the bilateral filters, in standard deviations of the noise at mid-grey
SHARPEN_AMOUNT, SHARPEN_SIGMA_PX = 0.8, 1.0
QUALITY = 90  # of the camera's JPEG


def one_iso(image: Image, rng: Rng) -> Image:
    """Return `image` as the camera at ISO 3200 develops it, before its JPEG."""
    return _photograph(image, ISO, rng)


def drawn_iso(image: Image, rng: Rng) -> Image:
    """Return `image` as the camera at an ISO drawn from 200 to 6400 develops it, before its JPEG."""
    return _photograph(image, int(rng.choice(list(NOISE_BY_ISO))), rng)


def _photograph(image: Image, iso: int, rng: Rng) -> Image:
    return _develop(_mosaic(to_linear(image), iso, rng), iso)


def _mosaic(light: Floats, iso: int, rng: Rng) -> np.ndarray:
    """Return the raw mosaic (H, W), 12 bits, R at the origin, of linear `light` with the noise of `iso`."""
    slopes, offsets = (np.array(values, np.float32) for values in NOISE_BY_ISO[iso])
    channel = np.ones(light.shape[:2], np.intp)
    channel[0::2, 0::2], channel[1::2, 1::2] = 0, 2
    values = np.take_along_axis(light, channel[..., None], axis=2)[..., 0]
    sigma = np.sqrt(slopes[channel] * values + offsets[channel])
    noisy = values + sigma * rng.standard_normal(values.shape, dtype=np.float32)
    return np.clip(np.rint(BLACK + noisy * (WHITE - BLACK)), 0, WHITE).astype(np.uint16)


def _develop(raw: np.ndarray, iso: int) -> Image:
    """Return the image of a `raw` mosaic: edge-aware demosaicing, sRGB curve, denoised more in chroma, sharpened."""
    # OpenCV names the pattern by the second row and column: R at the origin is its "BG"
    demosaiced = cv2.demosaicing(raw, cv2.COLOR_BayerBG2RGB_EA)
    levels = to_levels((demosaiced.astype(np.float32) - BLACK) / (WHITE - BLACK)).astype(np.float32)
    luma, red, blue = cv2.split(cv2.cvtColor(levels, cv2.COLOR_RGB2YCrCb))
    sigma = _noise_at_mid_grey(iso)
    luma = cv2.bilateralFilter(luma, 5, LUMA_GAIN * sigma, 1.2)
    red, blue = (cv2.bilateralFilter(blur(plane, 1.0), 7, CHROMA_GAIN * sigma, 2.5) for plane in (red, blue))
    luma = np.asarray(sharpen(luma, amount=SHARPEN_AMOUNT, sigma_px=SHARPEN_SIGMA_PX), np.float32)
    return to_uint8(cv2.cvtColor(cv2.merge([luma, red, blue]), cv2.COLOR_YCrCb2RGB))


def _noise_at_mid_grey(iso: int) -> float:
    """Return the standard deviation of green at MID_GREY, in 8-bit sRGB levels."""
    slopes, offsets = NOISE_BY_ISO[iso]
    sigma = np.sqrt(slopes[1] * MID_GREY + offsets[1])
    ends = to_levels(np.array([MID_GREY - sigma, MID_GREY + sigma]))
    return float(ends[1] - ends[0]) / 2
