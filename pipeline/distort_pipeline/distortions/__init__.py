"""True distortions: a file for each, found by name, images in and images out.

A distortion is a function `name(image, *, <parameters>)` returning a distorted copy of `image` of the same shape; a
random distortion also takes `rng` by keyword. A file using a codec reports its versions in a function `versions()`; a
file with a severity scale declares a constant `SEVERITY_SCALE`, see `severity_scale`; a codec with a limit of sides
declares it as `MAX_SIDE_PX`. Parameters are physical values, never a level: levels live in `presets`.

Another package adds a distortion by an entry point of the group `distort_pipeline.distortions`,
name = "module:function", and its levels by a constant `LEVELS` of that module: preset → parameters of level 1, 2, …
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import Image, Registry

Fact: TypeAlias = int | float | bool | str


@dataclass(frozen=True)
class Distorted:
    """A distorted image, and facts known only after the distortion: file size, flags."""

    image: Image
    facts: Mapping[str, Fact] = field(default_factory=dict)


Distortion: TypeAlias = Callable[..., Image | Distorted]

DISTORTIONS: Registry[Distortion] = Registry(
    "distortion", "distort_pipeline.distortions", group="distort_pipeline.distortions"
)


def apply(name: str, image: Image, parameters: Mapping[str, float], rng: np.random.Generator) -> Distorted:
    """Return `image` under the distortion `name`; `rng` is drawn from only if the distortion is random.

    PipelineError names an unknown distortion, an unknown or missing parameter, or a value that is not allowed.
    """
    distortion = DISTORTIONS.get(name)
    _check_names(name, distortion, parameters)
    randomness = {"rng": rng} if is_random(name) else {}
    result = distortion(image, **parameters, **randomness)
    distorted = result if isinstance(result, Distorted) else Distorted(result)
    output = distorted.image
    if output.shape != image.shape or output.dtype != image.dtype:
        raise TypeError(
            f"{name} turned {image.shape} {image.dtype} into {output.shape} {output.dtype}: it must change neither"
        )
    return distorted


def is_random(name: str) -> bool:
    """Return whether the distortion `name` draws at random: it declares `rng`."""
    return "rng" in inspect.signature(DISTORTIONS.get(name)).parameters


def unsuitable(name: str, height: int, width: int) -> str | None:
    """Return the reason against the distortion `name` of images of this size, or None."""
    limit = getattr(importlib.import_module(DISTORTIONS.get(name).__module__), "MAX_SIDE_PX", None)
    if limit is None or max(height, width) <= limit:
        return None
    return f"{name}: a side may be {limit} px at most, got {width} x {height} px"


def codec_versions(names: Iterable[str]) -> dict[str, str]:
    """Return library → version for the libraries behind the distortions `names`."""
    versions: dict[str, str] = {}
    for name in sorted(set(names)):
        module = importlib.import_module(DISTORTIONS.get(name).__module__)
        if hasattr(module, "versions"):
            versions.update(module.versions())
        versions.update(DISTORTIONS.package_of(name))
        if is_random(name):
            versions["numpy"] = np.__version__  # random streams may change between versions
    return dict(sorted(versions.items()))


def _check_names(name: str, distortion: Distortion, parameters: Mapping[str, float]) -> None:
    declared = {
        parameter: declaration
        for parameter, declaration in inspect.signature(distortion).parameters.items()
        if declaration.kind is declaration.KEYWORD_ONLY and parameter != "rng"
    }
    for parameter in parameters:
        if parameter not in declared:
            raise PipelineError(
                f"the distortion {name} has no parameter {parameter!r}{did_you_mean(parameter, declared)}"
            )
    for parameter, declaration in declared.items():
        if declaration.default is declaration.empty and parameter not in parameters:
            raise PipelineError(f"the distortion {name} needs its parameter {parameter!r}; got {sorted(parameters)}")
