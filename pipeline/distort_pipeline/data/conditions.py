"""The conditions of a corpus: a distortion or composite at one level, with arrays and batches of its own.

A condition has a request for its samples: one severity, a range of severities, or a quality.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Images, make_rng

if TYPE_CHECKING:
    from distort_pipeline.networks.wavelets import Significances


SEVERITY = "severity"
DECIMALS = 6  # of a severity, and of a requested quality


class Generator(Protocol):
    """A generator that distorts images batch by batch, each with its seed and severity."""

    @property
    def calibration(self) -> Mapping[str, Sequence[float]]:
        """The mean quality by severity up to the highest, see `metrics/severity_sweep.py`."""

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted; `significances` (N, 18) are of the whole images of these tiles."""


@dataclass(frozen=True)
class Tiles:
    """Some pristine tiles of a batch (N, H, W, 3), or one whole image, with the seeds and requests of their samples."""

    pristine: Images
    seeds: Sequence[int]
    requested: Sequence[float]
    significances: Significances | None = None

    def distorted(self, generator: Generator, severities: Mapping[int, float]) -> Images:
        """Return the tiles at the indices in `severities`, distorted."""
        indices = list(severities)
        chosen = None if self.significances is None else self.significances[indices]
        seeds = [self.seeds[index] for index in indices]
        return np.concatenate(
            list(generator.distort_batches(self.pristine[indices], seeds, list(severities.values()), chosen))
        )


@dataclass(frozen=True)
class Distorted:
    """Tiles before and after a generator, (N, H, W, 3), with their severities and requested qualities."""

    pristine: Images
    distorted: Images
    severities: Sequence[float]
    targets: Sequence[float | None]  # None where a severity was requested
    resampled: Sequence[bool]  # whether a target was drawn again because the tile could not reach the first


@dataclass(frozen=True)
class Request:
    """The request for the samples of a condition: from `first` to `last`, in units of SEVERITY or of a metric."""

    of: str
    first: float
    last: float

    @property
    def varies(self) -> bool:
        """Whether samples have different values."""
        return self.first != self.last

    def values(self, count: int, seed: int) -> list[float]:
        """Return a value for each of `count` samples, from `count` equal strata of the range in random order.

        >>> Request("severity", 0.5, 0.5).values(2, seed=0)
        [0.5, 0.5]
        >>> [int(value * 3) for value in sorted(Request("severity", 0, 1).values(3, seed=0))]
        [0, 1, 2]
        """
        if not self.varies:
            return [self.first] * count
        rng = make_rng(seed)
        fractions = (rng.permutation(count) + rng.random(count)) / count
        return [float(value) for value in np.round(self.first + (self.last - self.first) * fractions, DECIMALS)]

    def distort(self, generator: Generator, batch: Iterable[Tiles], *, seed: int) -> Iterator[Distorted]:  # noqa: ARG002
        """Yield the tiles of a batch at their requested severities, inference batch by inference batch."""
        for tiles in batch:
            first = 0
            for distorted in generator.distort_batches(
                tiles.pristine, tiles.seeds, tiles.requested, tiles.significances
            ):
                rows = slice(first, first + len(distorted))
                count = len(distorted)
                yield Distorted(tiles.pristine[rows], distorted, tiles.requested[rows], [None] * count, [False] * count)
                first = rows.stop


class FixedSeverity(Request):
    """One severity for all samples: the true distortions of their tiles are shared by all batches."""


class SeverityRange(Request):
    """A severity for each sample, from a range."""


class QualityTarget(Request):
    """A value of a metric for each sample, one for all or from a range."""

    def distort(self, generator: Generator, batch: Iterable[Tiles], *, seed: int) -> Iterator[Distorted]:
        """Yield the tiles of a batch near their requested quality; a range is assigned by what the tiles can reach."""
        # a reader of a corpus needs neither SciPy nor OpenCV
        from distort_pipeline.data.severity_search import assign_targets, distort_to_targets, lowest_quality

        lowest: list[float] | None = None
        targets = [value for tiles in batch for value in tiles.requested]
        resampled = [False] * len(targets)
        if self.varies:
            lowest = [value for tiles in batch for value in lowest_quality(generator, tiles, measure=self.of)]
            targets, resampled = assign_targets(targets, lowest, measure=self.of, mildest=self.first, seed=seed)
        first = 0
        for tiles in batch:
            rows = slice(first, first + len(tiles.seeds))
            images, severities = distort_to_targets(
                generator, tiles, targets[rows], measure=self.of, lowest=None if lowest is None else lowest[rows]
            )
            yield Distorted(tiles.pristine, images, severities, targets[rows], resampled[rows])
            first = rows.stop


def request_for(of: str, first: float, last: float) -> Request:
    """Return the request of the kind for `of`, SEVERITY or a metric, and its range."""
    if of != SEVERITY:
        return QualityTarget(of, first, last)
    return FixedSeverity(of, first, last) if first == last else SeverityRange(of, first, last)


COMPOSITE_SEPARATOR = "+"  # between the names of a composite, in the order of application


@dataclass(frozen=True)
class ModelCapabilities:
    """The requests possible for a model: any severity, or only its learned level."""

    level: int  # the default level
    severity: float  # of that level
    any_severity: bool
    random: bool
    severities: tuple[float, ...]  # of all learned levels, mildest first; any_severity ends with the last


@dataclass(frozen=True)
class Condition:
    """All samples of a distortion or composite at one level."""

    distortion: str
    models: tuple[str, ...]  # a single model, or the models of a composite in the order of application
    level: int  # from 1, the mildest; without requested levels, the number of the learned level
    levels: int  # number of levels of this distortion in the corpus
    request: Request
    random: bool  # whether a model's output depends on the seed

    @property
    def name(self) -> str:
        """The name of its arrays, record files and reports."""
        return self.distortion if self.levels == 1 else f"{self.distortion}-{self.level}"

    @property
    def varies_per_draw(self) -> bool:
        """Whether samples of the same tile differ."""
        return self.random or self.request.varies

    @property
    def fixed_severity(self) -> bool:
        """Whether all samples have the same distortion and parameters."""
        return len(self.models) == 1 and isinstance(self.request, FixedSeverity)


def build_conditions(
    models: Mapping[str, ModelCapabilities],
    distortions: Sequence[str],
    *,
    levels: int | None = None,
    severity: Sequence[float] = (),
    composites: Sequence[str] = (),
    target: Mapping[str, Sequence[float]] | None = None,
    every_level: bool = True,
) -> tuple[Condition, ...]:
    """Return the conditions of `distortions` (names of models) and `composites`, sorted by name and level.

    Without a request, a model has a condition for every level, or at its default level alone. PipelineError names the
    models unable to fulfil the request.

    >>> jpeg = ModelCapabilities(level=2, severity=0.4, any_severity=True, random=False, severities=(0.2, 0.4, 0.8))
    >>> conditions = build_conditions({"jpeg": jpeg}, ["jpeg"], levels=3, severity=[0.2, 0.8])
    >>> [(condition.name, condition.request.first) for condition in conditions]
    [('jpeg-1', 0.2), ('jpeg-2', 0.5), ('jpeg-3', 0.8)]
    """
    used = {name: tuple(name.split(COMPOSITE_SEPARATOR)) for name in (*distortions, *composites)}
    asks = bool(levels or severity or target)
    if asks:
        fixed = [names for names in used.values() if not any(models[name].any_severity for name in names)]
        _require_any_severity({name for names in fixed for name in names}, models)
    conditions = []
    for name, names in sorted(used.items()):
        capabilities = [models[model] for model in names]
        if asks:
            highest = _highest_severity(capabilities)
            _require_learned(name, highest, severity)
            requests = _explicit_requests(levels, severity, target or {}, highest=highest)
        else:
            requests = _default_requests(name, capabilities, every_level=every_level)
        first_level = 1 if len(requests) > 1 or asks or len(names) > 1 else capabilities[0].level
        is_random = any(model.random for model in capabilities)
        conditions += [
            Condition(name, names, level, len(requests), request, is_random)
            for level, request in enumerate(requests, start=first_level)
        ]
    return tuple(conditions)


def same_level(condition: Condition, conditions: Sequence[Condition]) -> dict[str, str]:
    """Return name → distortion of the fixed-severity conditions at the level of `condition` (any single level).

    >>> request = FixedSeverity("severity", 1, 1)
    >>> jpeg, noise = (Condition(name, (name,), 1, 1, request, False) for name in ("jpeg", "noise"))
    >>> same_level(jpeg, [jpeg, noise])
    {'jpeg': 'jpeg', 'noise': 'noise'}
    """
    return {
        other.name: other.distortion
        for other in conditions
        if other.fixed_severity
        and other.levels == condition.levels
        and (condition.levels == 1 or other.level == condition.level)
    }


def levels_of(condition: Condition, conditions: Sequence[Condition]) -> dict[str, int]:
    """Return name → level of all fixed-severity conditions of the distortion of `condition`, if several."""
    levels = {
        other.name: other.level
        for other in conditions
        if other.distortion == condition.distortion and other.fixed_severity
    }
    return levels if len(levels) > 1 else {}


def _explicit_requests(
    levels: int | None, severity: Sequence[float], target: Mapping[str, Sequence[float]], *, highest: float
) -> list[Request]:
    """Return the request for each level, mildest first, without severity and target up to the `highest` severity."""
    from distort_pipeline.metrics.full_reference import LOWER_IS_BETTER  # OpenCV is for those who ask for a quality

    of, ends = next(iter(target.items()), (SEVERITY, tuple(severity)))
    first, last = (ends[0], ends[-1]) if ends else (highest / (levels or 1), highest)  # one level: the last
    if of != SEVERITY and not LOWER_IS_BETTER[of]:
        first, last = max(first, last), min(first, last)
    if levels is None:
        return [request_for(of, first, last)]
    if levels == 1 and first != last:
        raise PipelineError(
            f"--num-levels 1 needs a single value, and {of} from {first:g} to {last:g} was requested: give one value "
            "or more levels, or omit --num-levels for varying values"
        )
    values = (round(float(at), 12) for at in np.linspace(first, last, levels))
    return [request_for(of, value, value) for value in values]


def _default_requests(name: str, capabilities: Sequence[ModelCapabilities], *, every_level: bool) -> list[Request]:
    """Return a request for each level of a model; for a composite, for the common default severity of its models.

    In a composite, a model of one level keeps it at any severity.
    """
    if len(capabilities) == 1:
        (model,) = capabilities
        levels = model.severities if every_level and model.any_severity else (model.severity,)
        return [FixedSeverity(SEVERITY, severity, severity) for severity in levels]
    several = {model.severity for model in capabilities if len(model.severities) > 1}
    severities = several or {_highest_severity(capabilities)}
    if len(severities) > 1:
        raise PipelineError(
            f"the models of the composite {name} have learned levels of different severities, "
            f"{', '.join(f'{value:g}' for value in sorted(severities))}: give the severity with --severity"
        )
    return [FixedSeverity(SEVERITY, *severities, *severities)]


def _highest_severity(capabilities: Sequence[ModelCapabilities]) -> float:
    """Return the highest severity that all these models have learned; a model of one level keeps its own in others."""
    several = [model.severities[-1] for model in capabilities if len(model.severities) > 1]
    return min(several or [model.severities[-1] for model in capabilities])


def _require_learned(name: str, highest: float, severity: Sequence[float]) -> None:
    if severity and max(severity) > highest:
        raise PipelineError(
            f"{name} was learned up to severity {highest:g}, and {max(severity):g} was requested: lower --severity, or "
            "choose others with --distortions"
        )


def _require_any_severity(names: set[str], models: Mapping[str, ModelCapabilities]) -> None:
    single = sorted(name for name in names if not models[name].any_severity)
    if single:
        raise PipelineError(
            f"{', '.join(single)} {'has' if len(single) == 1 else 'have'} learned one level only, so no other "
            "level, severity or quality can be requested: train with --levels, or choose others with --distortions"
        )
