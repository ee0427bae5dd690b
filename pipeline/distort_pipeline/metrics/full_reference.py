"""Full-reference metrics: PSNR, SSIM and MS-SSIM, GMSD, the list computed for every sample, and checks of images.

SSIM: Wang et al., IEEE TIP 13(4) 2004. MS-SSIM: Wang, Simoncelli and Bovik, Asilomar 2003. GMSD: Xue, Zhang, Mou and
Bovik, "Gradient magnitude similarity deviation", IEEE TIP 23(2) 2014; as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, Images

if TYPE_CHECKING:
    pass

DATA_RANGE = 255.0


def psnr(reference: Image, distorted: Image) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; math.inf for identical images.

    Records hold None for identical images: JSON has no infinity.
    """
    require_same_shape(reference, distorted)
    squares = cv2.norm(reference, distorted, cv2.NORM_L2SQR)
    return math.inf if squares == 0 else 10 * math.log10(DATA_RANGE**2 * reference.size / squares)


def require_same_shape(reference: Image, distorted: Image) -> None:
    """Raise ValueError unless both images have the same shape."""
    if reference.shape != distorted.shape:
        raise ValueError(f"images must have the same shape, got {reference.shape} and {distorted.shape}")


WINDOW_PX = 11
MARGIN_PX = WINDOW_PX // 2
SIGMA_PX = 1.5
C1 = (0.01 * DATA_RANGE) ** 2
C2 = (0.03 * DATA_RANGE) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # their table 1: of contrast and structure at each scale
MS_SSIM_SMALLEST_PX = WINDOW_PX * 2 ** (len(SCALE_WEIGHTS) - 1)  # the window fits into the smallest scale: 176
MID_GREY = np.float32(128)  # subtracted before squaring: float32 squares of small numbers keep more digits
# rows are processed in blocks of so many centres, in cache; of so many rows at least, as each block reads 10 more
BLOCK_PX, BLOCK_ROWS = 8_192, 32

Planes: TypeAlias = NDArray[np.float32]  # (H, W, 3), 8-bit levels
Means: TypeAlias = NDArray[np.float64]  # (3,), by channel


def ssim(reference: Image, distorted: Image) -> float:
    """Return the structural similarity, the mean over the three channels: 1 for identical images, at least -1.

    Gaussian window, population covariance, no downsampling; windows lie wholly inside the image.
    Equal to scikit-image with gaussian_weights, sigma 1.5, use_sample_covariance off and data_range 255. ValueError
    for images smaller than the window.
    """
    _require_fit(reference, distorted)
    return _mean(_likeness(reference, distorted)[1])


def ms_ssim(reference: Image, distorted: Image) -> float | None:
    """Return the mean over the three channels, from 0 to 1 for identical images; None if a side is below 176 px.

    Window, constants and borders as in `ssim`. Each scale is the mean over 2 x 2 px of the scale before; an odd last
    row or column is replicated. Equal to TensorFlow's, and for sides divisible by 16 to piq's.
    """
    require_same_shape(reference, distorted)
    return None if _is_small(reference) else ssim_and_ms_ssim(reference, distorted)[1]


def ssim_and_ms_ssim(reference: Image, distorted: Image) -> tuple[float, float | None]:
    """Return `ssim` and `ms_ssim`, in the time of `ms_ssim` alone."""
    _require_fit(reference, distorted)
    contrast, full = _likeness(reference, distorted)
    single = _mean(full)
    if _is_small(reference):
        return single, None
    product = np.maximum(contrast, 0) ** SCALE_WEIGHTS[0]
    x, y = reference.astype(np.float32), distorted.astype(np.float32)
    for weight in SCALE_WEIGHTS[1:]:
        x, y = _downsample2x(x), _downsample2x(y)
        contrast, full = _likeness(x, y)
        last = weight == SCALE_WEIGHTS[-1]  # luminance counts at the coarsest scale alone
        product *= np.maximum(full if last else contrast, 0) ** weight
    return single, _mean(product)


def _require_fit(reference: Image, distorted: Image) -> None:
    require_same_shape(reference, distorted)
    if min(reference.shape[:2]) < WINDOW_PX:
        raise ValueError(f"SSIM needs sides of {WINDOW_PX} px or more, got the shape {reference.shape}")


def _mean(likeness: Means) -> float:
    return min(1.0, float(likeness.mean()))  # rounding can leave 1 + 1e-9


def _is_small(image: Image) -> bool:
    return min(image.shape[:2]) < MS_SSIM_SMALLEST_PX


def _likeness(x: Image | Planes, y: Image | Planes) -> tuple[Means, Means]:
    """Return the mean over the window's centres of contrast-structure, and of contrast-structure times luminance."""
    height, width = (side - WINDOW_PX + 1 for side in x.shape[:2])
    block_rows = max(BLOCK_PX // width, BLOCK_ROWS)
    contrast, full = np.zeros(3), np.zeros(3)
    for first in range(0, height, block_rows):
        rows = slice(first, min(first + block_rows, height) + WINDOW_PX - 1)
        likeness, luminance = _likeness_of_rows(
            *(np.subtract(image[rows], MID_GREY, dtype=np.float32) for image in (x, y))
        )
        contrast += _sum(likeness)
        luminance *= likeness
        full += _sum(luminance)
    return contrast / (height * width), full / (height * width)


def _likeness_of_rows(x: Planes, y: Planes) -> tuple[Planes, Planes]:
    """Return contrast-structure and luminance at each window centre; x and y are overwritten."""
    x_mean, y_mean = _windowed(x), _windowed(y)
    products = x_mean * y_mean
    squares = x_mean * x_mean
    squares += y_mean * y_mean
    contrast = _windowed(x * y)
    contrast -= products
    contrast *= 2
    contrast += C2
    x *= x
    y *= y
    x += y
    variances = _windowed(x)  # of x and y, added up
    variances -= squares
    variances += C2
    contrast /= variances
    x_mean += MID_GREY
    y_mean += MID_GREY
    luminance = np.asarray((2 * x_mean * y_mean + C1) / (x_mean * x_mean + y_mean * y_mean + C1), np.float32)
    return contrast, luminance


def _sum(planes: Planes) -> Means:
    """Return the sum by channel where the window fits; over rows first: NumPy adds long rows ten times as fast."""
    return np.asarray(planes.sum(axis=0, dtype=np.float64)[MARGIN_PX:-MARGIN_PX].sum(axis=0))


def _windowed(planes: Planes) -> Planes:
    """Return the Gaussian-weighted means in the rows where the window fits, (H - 10, W, 3): contiguous."""
    return cv2.GaussianBlur(planes, (WINDOW_PX, WINDOW_PX), SIGMA_PX)[MARGIN_PX:-MARGIN_PX]


def _downsample2x(planes: Planes) -> Planes:
    """Return the means over 2 x 2 px, (ceil(H / 2), ceil(W / 2), 3)."""
    height, width = planes.shape[:2]
    if height % 2 or width % 2:
        planes = cv2.copyMakeBorder(planes, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = (math.ceil(width / 2), math.ceil(height / 2))
    return np.asarray(cv2.resize(planes, half, interpolation=cv2.INTER_AREA), np.float32)


STABILISER = 170  # their T, for gradients on 0-255
RED, GREEN, BLUE = (np.float32(share) for share in (0.299, 0.587, 0.114))  # BT.601, kept as floats


def gmsd(reference: Image, distorted: Image) -> float:
    """Return the deviation on half-size luma: 0 for identical images, rarely above 0.4; lower is better.

    NumPy alone: the last bits of OpenCV's filters depend on memory alignment, and records are digested.
    """
    require_same_shape(reference, distorted)
    x, y = (_squared_gradient(_half_luma(image)) for image in (reference, distorted))
    likeness = 2 * np.sqrt(x * y)
    likeness += STABILISER
    likeness /= x + y + STABILISER
    return float(np.std(likeness, dtype=np.float64))


def _half_luma(image: Image) -> NDArray[np.float32]:
    """Return the means of luma over 2 x 2 px, (ceil(H / 2), ceil(W / 2)), with black beyond an odd side."""
    luma = image[..., 0] * RED + image[..., 1] * GREEN + image[..., 2] * BLUE
    height, width = luma.shape
    if height % 2 or width % 2:
        luma = np.pad(luma, ((0, height % 2), (0, width % 2)))
    rows = luma[::2] + luma[1::2]
    return np.asarray((rows[:, ::2] + rows[:, 1::2]) / 4, np.float32)


def _squared_gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared gradient magnitude by Prewitt's filters, divided by 3, with black around `luma`."""
    wide = np.pad(luma, 1)
    down = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    across = wide[:-2] + wide[1:-1] + wide[2:]
    vertical = (down[2:] - down[:-2]) / 3
    horizontal = (across[:, 2:] - across[:, :-2]) / 3
    return np.asarray(vertical * vertical + horizontal * horizontal, np.float32)


LOWER_IS_BETTER = {"psnr": False, "ssim": False, "ms_ssim": False, "gmsd": True}  # the metrics in a SampleRecord
COMPUTED = tuple(LOWER_IS_BETTER)


def label_column(name: str, *, lower_better: bool) -> str:
    """Return the column name of a label in tables: the metric and its better direction.

    >>> label_column("gmsd", lower_better=True), label_column("ssim", lower_better=False)
    ('gmsd_lower_better', 'ssim_higher_better')
    """
    return f"{name}_{'lower' if lower_better else 'higher'}_better"


MEASURES: Mapping[str, Callable[[Image, Image], float | None]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "gmsd": gmsd,
}
TOGETHER = ("ssim", "ms_ssim")  # share most of their work


def measured_labels(pristine: Image, distorted: Image, metrics: Collection[str]) -> dict[str, float | None]:
    """Return every computed metric by name; None where `metrics` lacks the name or the value is not finite."""
    values: dict[str, float | None] = dict.fromkeys(COMPUTED)
    alone = set(metrics)
    if alone.issuperset(TOGETHER):
        alone.difference_update(TOGETHER)
        values.update(zip(TOGETHER, ssim_and_ms_ssim(pristine, distorted), strict=True))
    for name in alone:
        values[name] = MEASURES[name](pristine, distorted)
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON knows no infinity


@dataclass(frozen=True)
class Quality:
    """PSNR and SSIM of a distorted image against the pristine image, or their means over images."""

    psnr: float | None  # dB; None for identical images
    ssim: float


def quality(pristine: Image, distorted: Image) -> Quality:
    """Return PSNR and SSIM of `distorted` against `pristine`."""
    return Quality(_finite(psnr(pristine, distorted)), ssim(pristine, distorted))


HIGHEST_PSNR_DB = 60.0  # of a tile in a mean: identical tiles have an infinite PSNR


def each_image(images: NDArray[np.uint8], least_px: int) -> Images:
    """Return (H, W, 3) or (N, H, W, 3) as (N, H, W, 3), checked as in `require_images`."""
    checked = require_images(images, least_px)
    return checked if checked.ndim == 4 else checked[None]


def require_images(image: NDArray[np.uint8], least_px: int, *, several: bool = True) -> NDArray[np.uint8]:
    """Return `image`, also of Pillow, as an array; PipelineError names what is not allowed about it, and a remedy.

    >>> require_images(np.zeros((3, 64, 64), np.uint8), 16)
    Traceback (most recent call last):
    distort_pipeline.errors.PipelineError: an image must be (H, W, 3) or (N, H, W, 3), got the shape (3, 64, 64), \
which looks like (C, H, W): np.moveaxis(image, -3, -1)
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        spread = (
            f", values from {pixels.min():g} to {pixels.max():g}" if pixels.size and pixels.dtype.kind in "fiu" else ""
        )
        unit = pixels.dtype.kind == "f" and pixels.size and pixels.max() <= 1
        scale = ("255 * image" if pixels.min() >= 0 else "127.5 * (image + 1)") if unit else "image"
        remedy = f"np.rint({scale}).clip(0, 255).astype(np.uint8)"
        raise PipelineError(f"an image must be uint8, 0 to 255, got {pixels.dtype}{spread}: {remedy}")
    shapes = "(H, W, 3) or (N, H, W, 3)" if several else "(H, W, 3)"
    if pixels.ndim not in ((3, 4) if several else (3,)) or pixels.shape[-1] != 3 or not pixels.size:
        hint = ""
        if pixels.ndim in (3, 4) and pixels.shape[-3] == 3:
            hint = ", which looks like (C, H, W): np.moveaxis(image, -3, -1)"
        elif pixels.ndim == 2:
            hint = ", which looks grey: np.stack([image] * 3, axis=-1)"
        elif pixels.ndim in (3, 4) and pixels.shape[-1] == 4:
            hint = ", which has an alpha channel: image[..., :3]"
        raise PipelineError(f"an image must be {shapes}, got the shape {pixels.shape}{hint}")
    if min(pixels.shape[-3:-1]) < least_px:
        raise PipelineError(f"an image must have sides of {least_px} px or more, got the shape {pixels.shape}")
    return pixels
