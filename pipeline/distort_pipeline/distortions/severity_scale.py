"""A distortion's severity scale: its severity parameter, and the parameter at any severity. Registers no distortion.

Severity is a rank in [0, 1] among the learned levels, weakest first: level k of n lies at k/n, and 0 is the pristine
image. Between two levels the *amount* is interpolated: the parameter on a scale of its own with 0 for the identity,
rising with severity. A distortion declares `SEVERITY_SCALE = SeverityScale(...)` in its own file; a distortion without
has its learned levels, and nothing between.
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
EXACTLY = 1e-9  # severities nearer than this to a level's count as the level's


@dataclass(frozen=True)
class SeverityScale:
    """The severity scale of a parameter."""

    parameter: str
    amount: Callable[[float], float]  # parameter → 0 for the identity, growing with severity
    value: Callable[[float], float]  # amount → the nearest valid parameter
    geometric: bool  # between two levels: equal ratios of the amount, else equal differences


def has_severity_scale(distortion: str) -> bool:
    """Return whether `distortion` has severities between its levels: never for names of external pairs.

    >>> has_severity_scale("jpeg"), has_severity_scale("camera")
    (True, False)
    """
    return declared_scale(distortion) is not None


def parameters_at(distortion: str, levels: Sequence[Mapping[str, float]], severity: float) -> dict[str, float]:
    """Return the parameters of `distortion` at a `severity` in [0, 1]; `levels` are the learned levels, weakest first.

    An integer parameter is rounded to the nearest: `severity_of` returns its exact severity. PipelineError for a
    severity out of range, for levels not growing, and for a severity between levels without a severity scale.

    >>> jpeg = [{"quality": 50}, {"quality": 24}, {"quality": 12}]
    >>> parameters_at("jpeg", jpeg, 2 / 3), parameters_at("jpeg", jpeg, 0.5), parameters_at("jpeg", jpeg, 0)
    ({'quality': 24}, {'quality': 35}, {'quality': 100})
    >>> parameters_at("white_noise", [{"sigma_8bit": 10}, {"sigma_8bit": 20}], 0.75)
    {'sigma_8bit': 15.0}
    """
    if not 0 <= severity <= 1:
        raise PipelineError(f"a severity must be from 0 to 1, got {severity!r}")
    position = severity * len(levels)
    nearest = round(position)
    if nearest and abs(position - nearest) < EXACTLY * len(levels):
        return dict(levels[nearest - 1])
    scale = _scale_of(distortion, f"severity {severity:g}", len(levels))
    amounts = [0.0, *_amounts(distortion, scale, levels)]
    below = int(position)
    amount = _interpolated(amounts[below], amounts[below + 1], position - below, geometric=scale.geometric)
    return {**levels[0], scale.parameter: round(scale.value(amount), DECIMALS)}


def severity_of(distortion: str, levels: Sequence[Mapping[str, float]], parameters: Mapping[str, float]) -> float:
    """Return the severity in [0, 1] of `distortion` with these `parameters`; the inverse of `parameters_at`.

    PipelineError for parameters above the last level, or different from the levels in more than the scale's parameter.

    >>> severity_of("jpeg", [{"quality": 50}, {"quality": 25}], {"quality": 25})
    1.0
    >>> severity_of("white_noise", [{"sigma_8bit": 10}, {"sigma_8bit": 20}], {"sigma_8bit": 5})
    0.25
    """
    for number, level in enumerate(levels, start=1):
        if dict(level) == dict(parameters):
            return number / len(levels)
    scale = _scale_of(distortion, str(dict(parameters)), len(levels))
    amounts = [0.0, *_amounts(distortion, scale, levels)]
    if {**parameters, scale.parameter: 0} != {**levels[0], scale.parameter: 0}:
        raise PipelineError(f"{distortion} with {dict(parameters)} is not on the severity scale of {dict(levels[0])}")
    amount = scale.amount(parameters[scale.parameter])
    if not 0 <= amount <= amounts[-1]:
        raise PipelineError(
            f"{distortion} with {dict(parameters)} is off its severity scale, "
            f"which ends with {scale.parameter} {levels[-1][scale.parameter]:g}"
        )
    below = max(index for index, level_amount in enumerate(amounts[:-1]) if level_amount <= amount)
    share = _share(amounts[below], amounts[below + 1], amount, geometric=scale.geometric)
    return (below + share) / len(levels)


def declared_scale(distortion: str) -> SeverityScale | None:
    """Return the constant SEVERITY_SCALE of the distortion's file, or None."""
    if distortion not in DISTORTIONS.names():
        return None
    module = importlib.import_module(DISTORTIONS.get(distortion).__module__)
    scale: SeverityScale | None = getattr(module, "SEVERITY_SCALE", None)
    return scale


def _scale_of(distortion: str, request: str, count: int) -> SeverityScale:
    scale = declared_scale(distortion)
    if scale is None:
        severities = ", ".join(f"{number / count:g}" for number in range(1, count + 1))
        raise PipelineError(
            f"{distortion} has no severity scale, so {request} is not possible; its levels lie at {severities}"
        )
    return scale


def _amounts(distortion: str, scale: SeverityScale, levels: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the amount of each level; PipelineError unless the amounts grow, and nothing else changes."""
    amounts = [scale.amount(level[scale.parameter]) for level in levels]
    others = [{**level, scale.parameter: 0} for level in levels]
    if any(low >= high for low, high in pairwise([0.0, *amounts])) or any(other != others[0] for other in others):
        listed = ", ".join(str(dict(level)) for level in levels)
        raise PipelineError(f"the levels of {distortion} have to grow in {scale.parameter} alone, got {listed}")
    return amounts


def _interpolated(low: float, high: float, share: float, *, geometric: bool) -> float:
    """Return the amount at a `share` of the interval from `low` to `high`; linear from 0, as 0 has no ratio."""
    return low * (high / low) ** share if geometric and low else low + (high - low) * share


def _share(low: float, high: float, amount: float, *, geometric: bool) -> float:
    """Return the share of the interval from `low` to `high` at `amount`: the inverse of `_interpolated`."""
    return math.log(amount / low) / math.log(high / low) if geometric and low else (amount - low) / (high - low)
