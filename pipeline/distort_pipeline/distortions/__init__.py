"""True distortions: a file for each, found by name, images in and images out.

A distortion is a function `name(image, *, <parameters>)` returning a distorted copy of `image` of the same shape; a
random distortion also takes `rng` by keyword. A file using a codec reports its versions in a function `versions()`; a
file with a severity scale declares a constant `SEVERITY_SCALE`, see below; a codec with a limit of sides declares it as
`MAX_SIDE_PX`. Parameters are physical values, never a level: levels live in `presets`.

Another package adds a distortion by an entry point of the group `distort_pipeline.distortions`,
name = "module:function", and its levels by a constant `LEVELS` of that module: preset → parameters of level 1, 2, …

Severity is a number in [0, 1] on the scale of a distortion, for every model and corpus. A distortion declares
`SEVERITY_SCALE = SeverityScale(...)` in its own file. The *amount* a is its parameter on a scale of its own, 0 for the
identity and growing with severity; half and strongest are two stated values of the parameter:

    severity = log(1 + (k - 2) a / a_half) / (2 log(k - 1)),  k = a_strongest / a_half

So 0 is the pristine image, 0.5 `half` and 1 `strongest`; severity is linear in the amount near the pristine image, and
in its logarithm beyond. The four of the paper have their level of the preset `paper_like` at 0.5, about equally severe
to the eye; their strongest parameter is that of the published databases, or beyond.

Without a declared scale, of external pairs above all, level k of the n learned levels lies at k/n: a scale of the
model.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
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


SEVERITY_DECIMALS = 4  # of a parameter's severity: as many as people type
DECIMALS = 6  # of a parameter between levels: last digits of logarithms differ from machine to machine
EXACTLY = 1e-9  # severities nearer than this to a level's count as the level's


@dataclass(frozen=True)
class SeverityScale:
    """The severity scale of a parameter, see above.

    >>> sigma = SeverityScale("sigma_8bit", half=19, strongest=255, amount=float, value=float, geometric=False)
    >>> sigma.severity_of(0), sigma.severity_of(10), sigma.severity_of(19), sigma.severity_of(255)
    (0.0, 0.3865, 0.5, 1.0)
    >>> round(sigma.amount_at(0.5), 6)
    19.0
    """

    parameter: str
    half: float  # the parameter at severity 0.5
    strongest: float  # the parameter at severity 1
    amount: Callable[[float], float]  # parameter → 0 for the identity, growing with severity
    value: Callable[[float], float]  # amount → the nearest valid parameter
    geometric: bool  # between two learned levels, models interpolate the amount in equal ratios, else differences

    def severity_of(self, parameter: float) -> float:
        """Return the severity of a parameter; PipelineError if it is beyond the end of the scale."""
        amount = self.amount(parameter)
        if not 0 <= amount <= self.amount(self.strongest):
            raise PipelineError(
                f"{self.parameter} {parameter:g} is off the severity scale, which ends with {self.strongest:g}"
            )
        severity = math.log1p((self._ratio - 2) * amount / self.amount(self.half)) / (2 * math.log(self._ratio - 1))
        return round(severity, SEVERITY_DECIMALS)

    def amount_at(self, severity: float) -> float:
        """Return the amount at a severity in [0, 1]."""
        return self.amount(self.half) / (self._ratio - 2) * math.expm1(2 * severity * math.log(self._ratio - 1))

    @property
    def _ratio(self) -> float:
        return self.amount(self.strongest) / self.amount(self.half)


def declared_scale(distortion: str) -> SeverityScale | None:
    """Return the constant SEVERITY_SCALE of the distortion's file, or None.

    >>> declared_scale("jpeg").parameter, declared_scale("camera")
    ('quality', None)
    """
    if distortion not in DISTORTIONS.names():
        return None
    module = importlib.import_module(DISTORTIONS.get(distortion).__module__)
    scale: SeverityScale | None = getattr(module, "SEVERITY_SCALE", None)
    return scale


@dataclass(frozen=True)
class LevelScale:
    """The learned levels of a model, weakest first, on the severity scale of the distortion.

    A network takes the *position* of a severity among its levels: k/n at level k of n, 0 for the pristine image.

    >>> jpeg = LevelScale("jpeg", ({"quality": 50}, {"quality": 12}), declared_scale("jpeg"))
    >>> jpeg.severities, jpeg.parameters_at(0.4), jpeg.position_at(0.5), round(jpeg.position_at(0.4), 3)
    ((0.2552, 0.5), {'quality': 21}, 1.0, 0.81)
    """

    distortion: str
    levels: tuple[Mapping[str, float], ...]  # parameters
    scale: SeverityScale | None  # None: level k of n lies at k/n

    @cached_property
    def severities(self) -> tuple[float, ...]:
        """The severity of each level."""
        if self.scale is None:
            return tuple(number / len(self.levels) for number in range(1, len(self.levels) + 1))
        return tuple(self.scale.severity_of(level[self.scale.parameter]) for level in self.levels)

    def position_at(self, severity: float) -> float:
        """Return the position of a severity among the levels; PipelineError if it is above the last level's."""
        self._require_in_range(severity)
        level = self.level_at(severity)
        if level is not None:
            return (level + 1) / len(self.levels)
        if severity > self.severities[-1]:
            strongest = " ".join(f"{name} {value:g}" for name, value in self.levels[-1].items()) or "its last level"
            raise PipelineError(
                f"{self.distortion} was learned up to severity {self.severities[-1]:g}, {strongest}; got {severity:g}"
            )
        if self.scale is None:
            return severity
        amounts, amount = [0.0, *self._amounts], self.scale.amount_at(severity)
        below = max(index for index, each in enumerate(amounts[:-1]) if each <= amount)
        share = _share(amounts[below], amounts[below + 1], amount, geometric=self.scale.geometric)
        return (below + share) / len(self.levels)

    def parameters_at(self, severity: float) -> dict[str, float]:
        """Return the parameters at a severity in [0, 1], an integer rounded to the nearest.

        PipelineError for a severity out of range, or between levels without a declared scale.
        """
        self._require_in_range(severity)
        level = self.level_at(severity)
        if level is not None:
            return dict(self.levels[level])
        scale = self._declared(f"severity {severity:g}")
        return {**self.levels[0], scale.parameter: round(scale.value(scale.amount_at(severity)), DECIMALS)}

    def severity_of(self, parameters: Mapping[str, float]) -> float:
        """Return the severity of these `parameters`.

        PipelineError for parameters off the scale, or different from the levels in more than the scale's parameter.
        """
        for level, severity in zip(self.levels, self.severities, strict=True):
            if dict(level) == dict(parameters):
                return severity
        scale = self._declared(str(dict(parameters)))
        if {**parameters, scale.parameter: 0} != {**self.levels[0], scale.parameter: 0}:
            raise PipelineError(
                f"{self.distortion} with {dict(parameters)} is not on the severity scale of {dict(self.levels[0])}"
            )
        return scale.severity_of(parameters[scale.parameter])

    def level_at(self, severity: float) -> int | None:
        """Return the index of the level at a severity, None between levels."""
        at = (index for index, level in enumerate(self.severities) if abs(level - severity) < EXACTLY)
        return next(at, None)

    @cached_property
    def _amounts(self) -> list[float]:
        """The amount of each level; PipelineError unless the amounts grow, and nothing else changes."""
        scale = self._declared("another severity")
        amounts = [scale.amount(level[scale.parameter]) for level in self.levels]
        others = [{**level, scale.parameter: 0} for level in self.levels]
        if any(low >= high for low, high in pairwise([0.0, *amounts])) or any(other != others[0] for other in others):
            listed = ", ".join(str(dict(level)) for level in self.levels)
            raise PipelineError(
                f"the levels of {self.distortion} have to grow in {scale.parameter} alone, got {listed}"
            )
        return amounts

    def _declared(self, request: str) -> SeverityScale:
        if self.scale is None:
            severities = ", ".join(f"{severity:g}" for severity in self.severities)
            raise PipelineError(
                f"{self.distortion} has no declared severity scale, so {request} is not possible; its levels lie at "
                f"{severities}"
            )
        return self.scale

    @staticmethod
    def _require_in_range(severity: float) -> None:
        if not 0 <= severity <= 1:
            raise PipelineError(f"a severity must be from 0 to 1, got {severity!r}")


def _share(low: float, high: float, amount: float, *, geometric: bool) -> float:
    """Return the share of the interval from `low` to `high` at `amount`; linear from 0, as 0 has no ratio."""
    return math.log(amount / low) / math.log(high / low) if geometric and low else (amount - low) / (high - low)
