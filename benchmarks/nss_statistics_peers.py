"""The histogram of JSD_NSS by the MSCN of `pyiqa` and of `piq`, in PyTorch on one thread: for comparison only.

The MSCN coefficients are those packages'; luma is the same 8-bit luma, products are slices of tensors and the
histogram is `torch.histc`. Images of equal size are processed together.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics import jsd_nss
from distort_pipeline.metrics.jsd_nss import BINS, LIMIT, WINDOW_PX, WINDOW_SIGMA_PX
from distort_pipeline.records import Image

NAMES = ("pyiqa", "piq")
Field = Callable[[Any], Any]  # luma tensor (N, 1, H, W) on 0-255 to MSCN coefficients of the same shape


def installed() -> list[str]:
    """Return the installed packages."""
    return [name for name in NAMES if find_spec(name)]


def field_of(name: str) -> Field:
    """Return the function that makes MSCN coefficients with `name`."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    if name == "pyiqa":
        normalise = importlib.import_module("pyiqa.archs.func_util").normalize_img_with_gauss
        return lambda luma: normalise(luma, WINDOW_PX, WINDOW_SIGMA_PX, padding="replicate")
    gaussian = importlib.import_module("piq.functional").gaussian_filter
    kernel = gaussian(WINDOW_PX, WINDOW_SIGMA_PX, dtype=torch.float32)[None]
    conv: Any = torch.nn.functional.conv2d

    def field(values: Any) -> Any:  # the first step of its BRISQUE
        mean = conv(values, kernel, padding=WINDOW_PX // 2)
        deviation = (conv(values * values, kernel, padding=WINDOW_PX // 2) - mean * mean).abs().sqrt()
        return (values - mean) / (deviation + 1)

    return field


def histograms_by(field: Field, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    """Return the histogram of D1 products of each image, without the overflow bins."""
    torch: Any = importlib.import_module("torch")
    by_size: dict[tuple[int, ...], list[Image]] = {}
    for image in images:
        by_size.setdefault(image.shape, []).append(image)
    histograms = []
    with torch.inference_mode():
        for group in by_size.values():
            levels_8bit = torch.from_numpy(np.stack([jsd_nss.luma(image) for image in group])).to(torch.float32)[
                :, None
            ]
            coefficients = field(levels_8bit)
            products = coefficients[..., :-1, :-1] * coefficients[..., 1:, 1:]
            histograms += [torch.histc(image, BINS, -LIMIT, LIMIT).numpy() for image in products]
    return histograms
