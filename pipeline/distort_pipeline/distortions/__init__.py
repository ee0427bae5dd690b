"""True distortions: one file each, found by name, images in and images out.

A distortion is a function `name(image, *, <parameters>)` that leaves `image` alone and returns one of the same
shape; one that draws at random also takes `rng` by keyword. A file that depends on a codec tells its versions in a
function `versions()`; one that can be had at any strength names its scale in a constant `DIAL`, see `dial`. Its values
are the parameters themselves, never a level: levels live in `presets`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.pixels import Image
from distort_pipeline.registry import Registry

Fact: TypeAlias = int | float | bool | str


@dataclass(frozen=True)
class Distorted:
    """A distorted image, and what only the doing could tell: bytes reached, flags."""

    image: Image
    facts: Mapping[str, Fact] = field(default_factory=dict)


Distortion: TypeAlias = Callable[..., Image | Distorted]

DISTORTIONS: Registry[Distortion] = Registry("distortion", "distort_pipeline.distortions")


def apply(name: str, image: Image, parameters: Mapping[str, float], rng: np.random.Generator) -> Distorted:
    """Return `image` under the distortion `name`; `rng` is drawn from only if the distortion is random.

    PipelineError names an unknown distortion, an unknown or missing parameter, or a value that is not allowed.
    """
    distortion = DISTORTIONS.get(name)
    _check_names(name, distortion, parameters)
    drawn = {"rng": rng} if is_random(name) else {}
    result = distortion(image, **parameters, **drawn)
    distorted = result if isinstance(result, Distorted) else Distorted(result)
    came, went = distorted.image, image
    if came.shape != went.shape or came.dtype != went.dtype:
        raise TypeError(
            f"{name} turned {went.shape} {went.dtype} into {came.shape} {came.dtype}: it must change neither"
        )
    return distorted


def is_random(name: str) -> bool:
    """Return whether the distortion `name` draws at random: it declares `rng`."""
    return "rng" in inspect.signature(DISTORTIONS.get(name)).parameters


def codec_versions(names: Iterable[str]) -> dict[str, str]:
    """Return library → version for those libraries that decide the bytes of the distortions `names`."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        module = importlib.import_module(DISTORTIONS.get(name).__module__)
        if hasattr(module, "versions"):
            found.update(module.versions())
        if is_random(name):
            found["numpy"] = np.__version__  # its generators may draw otherwise in another version
    return dict(sorted(found.items()))


def _check_names(name: str, distortion: Distortion, parameters: Mapping[str, float]) -> None:
    declared = {
        word: part
        for word, part in inspect.signature(distortion).parameters.items()
        if part.kind is part.KEYWORD_ONLY and word != "rng"
    }
    for word in parameters:
        if word not in declared:
            raise PipelineError(f"the distortion {name} has no parameter {word!r}{did_you_mean(word, declared)}")
    for word, part in declared.items():
        if part.default is part.empty and word not in parameters:
            raise PipelineError(f"the distortion {name} needs its parameter {word!r}; got {sorted(parameters)}")
