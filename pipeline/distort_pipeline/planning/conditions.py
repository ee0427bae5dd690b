"""The conditions of a corpus: one distortion, or one mix of them, at one level. A conditions has arrays and batches of its own.

What is asked of its samples is a severity, or the value that a quality measure shall have; one for all of them, or each
sample its own out of a range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.labels import LOWER_IS_BETTER
from distort_pipeline.seeds import make_rng

SEVERITY = "severity"
COMPOSITE_SEPARATOR = "+"  # between the names of a mix, in the order of application


@dataclass(frozen=True)
class ModelCapabilities:
    """What a model can be asked for: `multi-level` ones for any severity, others for the level that they have learned."""

    level: int  # the learned one that it makes where nothing is asked
    severity: float  # of that level
    multi_level: bool
    random: bool


@dataclass(frozen=True)
class SeverityRequest:
    """What is asked of the samples of a conditions: from `first` to `last` of SEVERITY or of a measure."""

    of: str
    first: float
    last: float

    @property
    def varies(self) -> bool:
        """Whether each sample has a value of its own."""
        return self.first != self.last


@dataclass(frozen=True)
class Condition:
    """All samples of one distortion, or one mix, at one level."""

    distortion: str
    models: tuple[str, ...]  # one, or those of a mix in the order of application
    level: int  # from 1, the weakest; where no levels are asked for, the number of the learned one
    levels: int  # how many there are of this distortion in the corpus
    request: SeverityRequest
    random: bool  # whether one of its models draws anew for every seed

    @property
    def name(self) -> str:
        """Its name among arrays, record files and reports."""
        return self.distortion if self.levels == 1 else f"{self.distortion}-{self.level}"

    @property
    def varies_per_draw(self) -> bool:
        """Whether a second sample of one tile is another image than the first."""
        return self.random or self.request.varies

    @property
    def fixed_severity(self) -> bool:
        """Whether all its samples are of one distortion with the same parameters."""
        return len(self.models) == 1 and self.request.of == SEVERITY and not self.request.varies


def build_conditions(
    models: Mapping[str, ModelCapabilities],
    distortions: Sequence[str],
    *,
    levels: int | None = None,
    severity: Sequence[float] = (),
    composites: Sequence[str] = (),
    target: Mapping[str, Sequence[float]] | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions of a corpus, by name and level: of each of `distortions` (names of models) and of each mix.

    PipelineError names the models that cannot be asked for what is asked.

    >>> jpeg = Ability(level=2, severity=0.4, multi-level=True, random=False)
    >>> [(one.name, one.request.first) for one in plan_series({"jpeg": jpeg}, ["jpeg"], levels=3, severity=[0.2, 0.8])]
    [('jpeg-1', 0.2), ('jpeg-2', 0.5), ('jpeg-3', 0.8)]
    """
    used = {name: tuple(name.split(COMPOSITE_SEPARATOR)) for name in (*distortions, *composites)}
    wanted = _wanted(levels, severity, target or {})
    if wanted:
        _require_multi_level({one for own in used.values() for one in own}, models)
    found = []
    for name, own in sorted(used.items()):
        condition_levels = wanted or [_default_request(name, [models[one] for one in own])]
        alone = models[own[0]].level if len(own) == 1 and levels is None and not wanted else 1
        found += [
            Condition(name, own, alone + place, len(condition_levels), request, any(models[one].random for one in own))
            for place, request in enumerate(condition_levels)
        ]
    return tuple(found)


def same_level(one: Condition, conditions: Sequence[Condition]) -> dict[str, str]:
    """Return name → distortion of the plain conditions to hold `one` against: at the same level, where there are several.

    >>> jpeg, noise = (Series(name, (name,), 1, 1, Asked(SEVERITY, 1, 1), False) for name in ("jpeg", "noise"))
    >>> peers_of(jpeg, [jpeg, noise])
    {'jpeg': 'jpeg', 'noise': 'noise'}
    """
    return {
        other.name: other.distortion
        for other in conditions
        if other.fixed_severity and other.levels == one.levels and (one.levels == 1 or other.level == one.level)
    }


def levels_of(one: Condition, conditions: Sequence[Condition]) -> dict[str, int]:
    """Return name → level of all plain conditions of the distortion of `one`, if there are several."""
    own = [other for other in conditions if other.distortion == one.distortion and other.fixed_severity]
    return {other.name: other.level for other in own} if len(own) > 1 else {}


def spread(request: SeverityRequest, count: int, seed: int) -> list[float]:
    """Return a value for each of `count` samples: one out of each of as many equal parts of the range, in any order.

    >>> spread(Asked("severity", 0.5, 0.5), 2, seed=0)
    [0.5, 0.5]
    >>> [int(value * 3) for value in sorted(spread(Asked("severity", 0, 1), 3, seed=0))]
    [0, 1, 2]
    """
    if not request.varies:
        return [request.first] * count
    rng = make_rng(seed)
    places = (rng.permutation(count) + rng.random(count)) / count
    return [float(value) for value in np.round(request.first + (request.last - request.first) * places, 6)]


def _wanted(
    levels: int | None, severity: Sequence[float], target: Mapping[str, Sequence[float]]
) -> list[SeverityRequest]:
    """Return what is asked for at each level, the weakest first; nothing if that is left to the models."""
    if not (levels or severity or target):
        return []
    of, ends = next(iter(target.items()), (SEVERITY, tuple(severity)))
    first, last = (ends[0], ends[-1]) if ends else (1 / (levels or 1), 1.0)  # of one level: its end alone
    if of != SEVERITY and not LOWER_IS_BETTER[of]:
        first, last = max(first, last), min(first, last)
    if levels is None:
        return [SeverityRequest(of, first, last)]
    if levels == 1 and first != last:
        raise PipelineError(
            f"one level has one strength, and {of} from {first:g} to {last:g} was asked for: ask for one value, for "
            "more levels, or leave --levels away for a strength of its own for each sample"
        )
    return [
        SeverityRequest(of, value, value) for value in (round(float(at), 12) for at in np.linspace(first, last, levels))
    ]


def _default_request(name: str, own: Sequence[ModelCapabilities]) -> SeverityRequest:
    """Return the severity of the models' own levels."""
    severities = {one.severity for one in own}
    if len(severities) > 1:
        raise PipelineError(
            f"the models of the mix {name} have learned their levels at the severities "
            f"{', '.join(f'{value:g}' for value in sorted(severities))}: say with --severity how strong it shall be"
        )
    return SeverityRequest(SEVERITY, *severities, *severities)


def _require_multi_level(names: set[str], models: Mapping[str, ModelCapabilities]) -> None:
    single = sorted(name for name in names if not models[name].multi_level)
    if single:
        raise PipelineError(
            f"{', '.join(single)} {'has' if len(single) == 1 else 'have'} learned one level only, so that no other "
            "level, severity or quality can be asked for: train with --levels, or choose others with --distortions"
        )
