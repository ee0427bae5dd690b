"""Levels of distortion in published databases, as parameter values. Registers no distortion.

A level's number means a different severity in each database; records therefore keep the parameters.

- waterloo: K. Ma et al., "Waterloo Exploration Database", IEEE TIP 26(2), 2017.
- kadid: H. Lin, V. Hosu, D. Saupe, "KADID-10k: A large-scale artificially distorted IQA database", QoMEX 2019.
- dbcnn: W. Zhang et al., "Blind image quality assessment using a deep bilinear convolutional neural network", IEEE
  TCSVT 30(1), 2020; Waterloo's levels and pink noise.
- paper_like: our guess, as the implemented paper states no level. A single level of about equal severity in each
  distortion.
- five_levels: ours, for multi-level generators. Five levels about equally far apart to the eye, the third as in
  paper_like: from hardly visible to severe, 2.5 to 5 dB of PSNR a level.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence

from distort_pipeline.distortions import DISTORTIONS
from distort_pipeline.errors import PipelineError, did_you_mean

Levels = tuple[Mapping[str, float], ...]  # parameters of level 1, 2, …

RAW_BPP = 24  # bits per pixel of 8-bit RGB
WHITE = 255


def _levels(parameter: str, values: Iterable[float]) -> Levels:
    return tuple({parameter: value} for value in values)


def _ratios(rates_bpp: Iterable[float]) -> list[float]:
    return [RAW_BPP / rate_bpp for rate_bpp in rates_bpp]


def _sigmas(variances: Iterable[float]) -> list[float]:
    """Return standard deviations on 0-255 for `variances` on [0, 1]."""
    return [WHITE * math.sqrt(variance) for variance in variances]


_WATERLOO: Mapping[str, Levels] = {
    "jpeg": _levels("quality", [43, 12, 7, 4, 0]),
    "jp2k": _levels("ratio", _ratios([0.46, 0.16, 0.07, 0.04, 0.02])),
    "white_noise": _levels("sigma_8bit", _sigmas(2**power for power in [-10, -7.5, -5.5, -3.5, 0])),
}

PRESETS: Mapping[str, Mapping[str, Levels]] = {
    "waterloo": _WATERLOO,
    "kadid": {
        "jpeg": _levels("quality", [43, 36, 24, 7, 4]),
        "jp2k": _levels("ratio", [16, 32, 45, 120, 400]),
        "white_noise": _levels("sigma_8bit", _sigmas([0.001, 0.002, 0.003, 0.005, 0.01])),
    },
    "dbcnn": {**_WATERLOO, "pink_noise": _levels("sigma_8bit", [16, 37, 64, 107, 214])},
    "paper_like": {
        "jpeg": _levels("quality", [12]),
        "jp2k": _levels("ratio", [150]),
        "white_noise": _levels("sigma_8bit", [19]),
        "pink_noise": _levels("sigma_8bit", [25]),
    },
    "five_levels": {
        "jpeg": _levels("quality", [50, 24, 12, 7, 4]),
        "jp2k": _levels("ratio", [30, 70, 150, 300, 600]),
        "white_noise": _levels("sigma_8bit", [5, 10, 19, 36, 64]),
        "pink_noise": _levels("sigma_8bit", [8, 14, 25, 45, 80]),
    },
}


def levels_of(preset: str, distortion: str) -> Levels:
    """Return the levels of `distortion` in a preset, weakest first: ours, or those its own module declares; or none.

    >>> levels_of("waterloo", "pink_noise"), levels_of("paper_like", "jpeg")
    ((), ({'quality': 12},))
    """
    if distortion in PRESETS[preset] or distortion not in DISTORTIONS.names():
        return PRESETS[preset].get(distortion, ())
    declared = getattr(importlib.import_module(DISTORTIONS.get(distortion).__module__), "LEVELS", {})
    return tuple(declared.get(preset, ()))


def parameters(preset: str, distortion: str, level: int) -> dict[str, float]:
    """Return the parameters of `distortion` at `level` (from 1) of `preset`; PipelineError lists the alternatives.

    >>> parameters("waterloo", "jp2k", 2)
    {'ratio': 150.0}
    """
    if preset not in PRESETS:
        raise PipelineError(f"no preset is called {preset!r}{did_you_mean(preset, PRESETS)}")
    levels = levels_of(preset, distortion)
    if not levels:
        others = [name for name in PRESETS if levels_of(name, distortion)]
        hint = f"; presets that have it: {', '.join(others)}" if others else did_you_mean(distortion, PRESETS[preset])
        raise PipelineError(f"the preset {preset} has no levels of {distortion!r}{hint}")
    if not 1 <= level <= len(levels):
        allowed = f"1 to {len(levels)}" if len(levels) > 1 else "1 only"
        raise PipelineError(f"the preset {preset} has {distortion} at level {allowed}, got {level!r}")
    return dict(levels[level - 1])


def default_index(distortion: str, levels: Sequence[Mapping[str, float]]) -> int:
    """Return the index of the default level among `levels`, weakest first: paper_like's if present, else the middle.

    Of two middle levels the milder.

    >>> default_index("jpeg", [{"quality": 50}, {"quality": 24}, {"quality": 12}]), default_index("camera", [{}])
    (2, 0)
    """
    paper_levels = levels_of("paper_like", distortion)
    return next((index for index, level in enumerate(levels) if level in paper_levels), (len(levels) - 1) // 2)
