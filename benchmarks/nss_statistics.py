"""NSS statistics: image → luma → MSCN → diagonal products → histogram, against the definition in SciPy, float64.

One thread each. The SciPy form follows the paper directly: the window applied along rows and columns, each
step on the full image in float64, `np.histogram`. A two-dimensional window is timed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, correlate1d

from benchmarks.harness import Figure, Options, Result, cut_tiles, interleaved, ratios, read_images, spread
from benchmarks.nss_statistics_peers import NAMES, field_of, histograms_by, installed
from distort_pipeline.distortions import apply
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.records import Image, make_rng, package_versions

BAR = 4.0
PEER_BAR = 2.0
JSD_BAR_BITS = 2e-5
SIGMA_PX = 7 / 6


def measure(options: Options) -> Result:
    """Return the speed on photographs and on tiles, and how far the divergences are from float64's."""
    cv2.setNumThreads(1)
    images = read_images(options.images, 2 if options.quick else 20)
    tiles = list(cut_tiles(images, 8 if options.quick else 64))
    rounds = 3 if options.quick else 15
    figures = []
    for name, group in (("photographs", images), ("tiles of 256²", tiles)):
        forms: dict[str, Callable[[], object]] = {
            "scipy": partial(_each, plain_histogram, group),
            "ours": partial(_each, product_histogram, group),
        }
        seconds = interleaved(forms, rounds)
        sizes = f"{len(group)} of {sum(i.shape[0] * i.shape[1] for i in group) / len(group) / 1e6:.2g} MP on average"
        ratio = ratios(seconds["scipy"], seconds["ours"])
        figures.append(
            Figure(f"speed on {name}", "SciPy float64, window along rows and columns", ratio, bar=BAR, note=sizes)
        )
        figures += _against_peers(name, group, 2 if options.quick else 7)
    squares = interleaved(
        {
            "scipy": lambda: [plain_histogram(t, square=True) for t in tiles],
            "ours": lambda: list(map(product_histogram, tiles)),
        },
        2 if options.quick else 5,
    )
    figures.append(
        Figure(
            "speed on tiles of 256²", "SciPy float64, two-dimensional window", ratios(squares["scipy"], squares["ours"])
        )
    )
    figures.append(_accuracy(images[: 1 if options.quick else 10]))
    return Result(
        "image → luma → MSCN → diagonal products → histogram, one thread",
        figures,
        [
            "Luma is OpenCV's 8-bit one in all, as the definition of JSD_NSS here has it.",
            "The MSCN of the others goes on into slices of tensors and `torch.histc`, images of one size together. "
            "It is float32 throughout, which shows in flat regions; ours takes E[I²] - mean² in float64.",
            "SciPy's form makes and drops large arrays; where the memory for them comes from decides a third of its "
            "time. Here PyTorch is loaded, which helps it: without, ours was 7 times as fast on tiles (2026-11-24).",
            "Tried (2026-11-24, processor time of a tile of 256², 555 µs before): products, scaling and rounding to "
            "8-bit steps in one `cv2.multiply`, 45 µs less; mean² - E[I²] in place by `cv2.accumulateSquare`, 25 µs "
            "less. What is left: the two windows in float64, which OpenCV does not vectorise, 200 µs (in float32 half "
            "of it, but wrong in flat regions), other arithmetic of MSCN 140, luma 20, `cv2.calcHist` 40 (twice as "
            "fast as `np.bincount`). Blocks of fewer rows gained nothing.",
        ],
        [f"MSCN of {name}: not installed (`pip install .[bench]`)" for name in NAMES if name not in installed()],
        package_versions(["numpy", "scipy", "opencv-python-headless", "torch", *NAMES]),
    )


def plain_histogram(image: NDArray[np.uint8], *, square: bool = False) -> NDArray[np.int64]:
    """Return the histogram of the D1 products, computed by definition; `square` with the window in two dimensions."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    window /= window.sum()

    def local_mean(values: NDArray[Any]) -> NDArray[Any]:
        if square:
            return correlate(values, np.outer(window, window), mode="nearest")
        return correlate1d(correlate1d(values, window, axis=0, mode="nearest"), window, axis=1, mode="nearest")

    mean = local_mean(luma)
    deviation = np.sqrt(np.maximum(local_mean(luma**2) - mean**2, 0))
    field = (luma - mean) / (deviation + 1)
    products = field[:-1, :-1] * field[1:, 1:]
    inner, _ = np.histogram(products, bins=101, range=(-2, 2))
    return np.concatenate([[np.sum(products < -2)], inner, [np.sum(products > 2)]])


def _accuracy(images: list[NDArray[np.uint8]]) -> Figure:
    """Return the error of JSD_NSS between pristine and distorted against the plain form, over all distortions."""
    errors = []
    for image in images:
        clean, plain_clean = product_histogram(image), plain_histogram(image)
        for name, levels in PRESETS["paper_like"].items():
            distorted = apply(name, image, levels[0], make_rng(0)).image
            exact = jsd_bits(plain_clean, plain_histogram(distorted))
            errors.append(abs(jsd_bits(clean, product_histogram(distorted)) - exact))
    return Figure(
        "JSD_NSS of pristine and distorted, difference", "SciPy float64", spread(errors), "bits", JSD_BAR_BITS,
        at_least=False, every=True,
    )  # fmt: skip


def _each(histogram: Callable[[NDArray[np.uint8]], Any], group: Sequence[NDArray[np.uint8]]) -> None:
    for item in group:
        histogram(item)


def _against_peers(name: str, group: Sequence[Image], rounds: int) -> list[Figure]:
    """Return our speed over that of histograms with the MSCN of other packages."""
    forms: dict[str, Callable[[], object]] = {
        peer: partial(histograms_by, field_of(peer), group) for peer in installed()
    }
    if not forms:
        return []
    seconds = interleaved({**forms, "ours": partial(_each, product_histogram, group)}, rounds)
    return [
        Figure(f"speed on {name}", f"the MSCN of {peer}, PyTorch", ratios(seconds[peer], seconds["ours"]), bar=PEER_BAR)
        for peer in forms
    ]
