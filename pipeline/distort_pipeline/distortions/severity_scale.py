"""A distortion's scale: which parameter sets its strength, and the parameter at any severity. Registers no distortion.

Severity is a rank in [0, 1] among the levels that were learned, weakest first: level k of n lies at k/n, and 0 is the
untouched image. Between two levels the *amount* is interpolated: the parameter on a scale of its own on which 0 does
nothing and more is worse. A distortion declares its scale as `DIAL = SeverityScale(...)` in its own file; one without a dial has
the learned levels, and nothing between them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from distort_pipeline.distortions import DISTORTIONS
from distort_pipeline.errors import PipelineError

DECIMALS = 6  # of a parameter between levels: last digits of logarithms differ from machine to machine
EXACTLY = 1e-9  # severities nearer than this to a level's are that level's


@dataclass(frozen=True)
class SeverityScale:
    """The scale of one parameter."""

    parameter: str
    amount: Callable[[float], float]  # parameter → 0 where nothing is done, growing with severity
    value: Callable[[float], float]  # amount → the nearest parameter that the distortion takes
    geometric: bool  # between two levels: equal ratios of the amount, else equal differences


def has_severity_scale(distortion: str) -> bool:
    """Return whether `distortion` can be had between its levels; one that nobody registered, as of brought pairs, not.

    >>> has_dial("jpeg"), has_dial("camera")
    (True, False)
    """
    return declared_scale(distortion) is not None


def parameters_at(distortion: str, levels: Sequence[Mapping[str, float]], severity: float) -> dict[str, float]:
    """Return the parameters of `distortion` at a `severity` in [0, 1]; `levels` are those learned, weakest first.

    A parameter that is whole is the nearest one that there is: `severity_of` says where that lies. PipelineError for a
    severity out of range, levels that do not grow, and between levels for a distortion without a scale.

    >>> jpeg = [{"quality": 50}, {"quality": 24}, {"quality": 12}]
    >>> parameters_at("jpeg", jpeg, 2 / 3), parameters_at("jpeg", jpeg, 0.5), parameters_at("jpeg", jpeg, 0)
    ({'quality': 24}, {'quality': 35}, {'quality': 100})
    >>> parameters_at("white_noise", [{"sigma_grey": 10}, {"sigma_grey": 20}], 0.75)
    {'sigma_grey': 15.0}
    """
    if not 0 <= severity <= 1:
        raise PipelineError(f"a severity must be from 0 to 1, got {severity!r}")
    place = severity * len(levels)
    nearest = round(place)
    if nearest and abs(place - nearest) < EXACTLY * len(levels):
        return dict(levels[nearest - 1])
    scale = _scale_of(distortion, f"severity {severity:g}", len(levels))
    amounts = [0.0, *_amounts(distortion, scale, levels)]
    below = int(place)
    amount = _between(amounts[below], amounts[below + 1], place - below, geometric=scale.geometric)
    return {**levels[0], scale.parameter: round(scale.value(amount), DECIMALS)}


def severity_of(distortion: str, levels: Sequence[Mapping[str, float]], parameters: Mapping[str, float]) -> float:
    """Return the severity in [0, 1] at which `distortion` has these `parameters`; the inverse of `parameters_at`.

    PipelineError for parameters that are stronger than the last level, or differ from the levels in more than the scale.

    >>> severity_of("jpeg", [{"quality": 50}, {"quality": 25}], {"quality": 25})
    1.0
    >>> severity_of("white_noise", [{"sigma_grey": 10}, {"sigma_grey": 20}], {"sigma_grey": 5})
    0.25
    """
    for number, level in enumerate(levels, start=1):
        if dict(level) == dict(parameters):
            return number / len(levels)
    scale = _scale_of(distortion, str(dict(parameters)), len(levels))
    amounts = [0.0, *_amounts(distortion, scale, levels)]
    if {**parameters, scale.parameter: 0} != {**levels[0], scale.parameter: 0}:
        raise PipelineError(f"{distortion} with {dict(parameters)} is on no scale with {dict(levels[0])}")
    amount = scale.amount(parameters[scale.parameter])
    if not 0 <= amount <= amounts[-1]:
        raise PipelineError(
            f"{distortion} with {dict(parameters)} is off the scale of its levels, "
            f"which ends with {scale.parameter} {levels[-1][scale.parameter]:g}"
        )
    below = max(place for place, reached in enumerate(amounts[:-1]) if reached <= amount)
    share = _share(amounts[below], amounts[below + 1], amount, geometric=scale.geometric)
    return (below + share) / len(levels)


def declared_scale(distortion: str) -> SeverityScale | None:
    """Return the constant DIAL of the distortion's file, or None."""
    if distortion not in DISTORTIONS.names():
        return None
    module = importlib.import_module(DISTORTIONS.get(distortion).__module__)
    scale: SeverityScale | None = getattr(module, "SEVERITY_SCALE", None)
    return scale


def _scale_of(distortion: str, wanted: str, count: int) -> SeverityScale:
    scale = declared_scale(distortion)
    if scale is None:
        there = ", ".join(f"{number / count:g}" for number in range(1, count + 1))
        raise PipelineError(f"{distortion} has no scale, so there is no {wanted} of it; its levels lie at {there}")
    return scale


def _amounts(distortion: str, scale: SeverityScale, levels: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the amount of each level; PipelineError unless they grow, and nothing else changes."""
    amounts = [scale.amount(level[scale.parameter]) for level in levels]
    others = [{**level, scale.parameter: 0} for level in levels]
    if any(low >= high for low, high in pairwise([0.0, *amounts])) or any(other != others[0] for other in others):
        told = ", ".join(str(dict(level)) for level in levels)
        raise PipelineError(f"the levels of {distortion} have to grow in {scale.parameter} alone, got {told}")
    return amounts


def _between(low: float, high: float, share: float, *, geometric: bool) -> float:
    """Return the amount a `share` of the way from `low` to `high`; from 0 there is no ratio, so that part is linear."""
    return low * (high / low) ** share if geometric and low else low + (high - low) * share


def _share(low: float, high: float, amount: float, *, geometric: bool) -> float:
    """Return which share of the way from `low` to `high` the `amount` is: the inverse of `_between`."""
    return math.log(amount / low) / math.log(high / low) if geometric and low else (amount - low) / (high - low)
