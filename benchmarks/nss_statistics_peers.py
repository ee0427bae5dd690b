"""The headline's histogram by the MSCN of `pyiqa` and of `piq`, in PyTorch on one thread: for comparison only.

Theirs is the MSCN; luma is the same 8-bit one, products are slices of tensors and the histogram is `torch.histc`, as a
user would go on from there. Images of one size go through together.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.statistics.histograms import BINS, LIMIT
from distort_pipeline.statistics.mscn import WINDOW_PX, WINDOW_SIGMA_PX, luma

NAMES = ("pyiqa", "piq")
Field = Callable[[Any], Any]  # luma tensor (N, 1, H, W) on 0-255 to MSCN coefficients of the same shape


def installed() -> list[str]:
    """Return which of the two there are."""
    return [name for name in NAMES if find_spec(name)]


def field_of(name: str) -> Field:
    """Return the function that makes MSCN coefficients with `name`."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    if name == "pyiqa":
        normalise = importlib.import_module("pyiqa.archs.func_util").normalize_img_with_gauss
        return lambda grey: normalise(grey, WINDOW_PX, WINDOW_SIGMA_PX, padding="replicate")
    gaussian = importlib.import_module("piq.functional").gaussian_filter
    kernel = gaussian(WINDOW_PX, WINDOW_SIGMA_PX, dtype=torch.float32)[None]
    conv: Any = torch.nn.functional.conv2d

    def field(grey: Any) -> Any:  # what its BRISQUE does first
        mean = conv(grey, kernel, padding=WINDOW_PX // 2)
        deviation = (conv(grey * grey, kernel, padding=WINDOW_PX // 2) - mean * mean).abs().sqrt()
        return (grey - mean) / (deviation + 1)

    return field


def histograms_by(field: Field, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    """Return the histogram of D1 products of each image, without the overflow bins."""
    torch: Any = importlib.import_module("torch")
    by_size: dict[tuple[int, ...], list[Image]] = {}
    for image in images:
        by_size.setdefault(image.shape, []).append(image)
    found = []
    with torch.inference_mode():
        for same in by_size.values():
            levels_8bit = torch.from_numpy(np.stack([luma(image) for image in same])).to(torch.float32)[:, None]
            made = field(levels_8bit)
            products = made[..., :-1, :-1] * made[..., 1:, 1:]
            found += [torch.histc(one, BINS, -LIMIT, LIMIT).numpy() for one in products]
    return found
