"""A multi-level generator tried out on whole validation images: its learned levels, what lies between, the way along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.distortions import DISTORTIONS, apply, is_random
from distort_pipeline.distortions.presets import default_place
from distort_pipeline.distortions.severity_scale import has_severity_scale, parameters_at, severity_of
from distort_pipeline.pixels import Image
from distort_pipeline.records import PairRecord
from distort_pipeline.seeds import derive_seed, make_rng, sample_seed
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.severity_sweep import (
    STEPS,
    SeverityPoint,
    SweepImage,
    capped,
    level_result,
    midpoint_result,
    tile_errors,
)
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.trained import LearnedLevel, learned_levels

if TYPE_CHECKING:
    from distort_pipeline.networks.predictor import Predictor


@dataclass(frozen=True)
class SharedLevel:
    """A learned level that the pair store holds too."""

    step: SeverityPoint
    stored: int  # its level number there


@dataclass(frozen=True)
class Midpoint:
    """A place between two learned levels, about half-way: where the distortion's parameter is one that there is."""

    step: SeverityPoint
    below: float  # severity of the learned level below
    above: float


@dataclass(frozen=True)
class SweepPoint:
    """One validation image, truly distorted at each held level and generated at any severity."""

    pristine: Image
    true: tuple[Image, ...]  # at the plan's held levels, weakest first
    made: Callable[[float], Image]  # by severity; each is made once


@dataclass(frozen=True)
class SweepPlan:
    """Where the dial of one generator is tried."""

    distortion: str
    shared_levels: tuple[SharedLevel, ...]  # weakest first
    midpoints: tuple[Midpoint, ...]
    sweep_parameters: tuple[
        Mapping[str, float], ...
    ]  # parameters of true distortions all along; none where they cannot be made
    redrawn: bool  # whether another draw of the true distortion can be made
    lacking: int  # levels that the generator has learned and the pair store does not hold
    images: Mapping[str, Mapping[int, PairRecord]]  # image id → level number of the store → record


def shared_levels(card: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> tuple[SharedLevel, ...]:
    """Return those learned levels whose very parameters one of the `recipes` has; level numbers mean different things.

    >>> card = {"levels": [{"level": 1, "parameters": {"quality": 12}, "severity": 1.0}]}
    >>> held_levels(card, [{"level": 3, "parameters": {"quality": 12}}])
    (Held(step=SeverityPoint(severity=1.0, parameters={'quality': 12}), stored=3),)
    """
    return tuple(
        SharedLevel(SeverityPoint(learned.severity, learned.parameters), int(recipe["level"]))
        for learned in learned_levels(card)
        for recipe in recipes
        if recipe["parameters"] == learned.parameters
    )


def default_of(distortion: str, held: Sequence[SharedLevel]) -> SharedLevel:
    """Return the level that stands for the generator where one has to: the usual one, or else the middle one."""
    return held[default_place(distortion, [one.step.parameters for one in held])]


def plan_sweep(
    card: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[int, PairRecord]]
) -> SweepPlan:
    """Return where to try the dial of the multi-level generator of this `card`, on pairs made by these `recipes`.

    `records` are those of its distortion, by image and level number; an image without all levels is left out.
    """
    distortion = str(card["distortion"])
    known = distortion in DISTORTIONS.names() and not any(recipe["external"] for recipe in recipes)
    held, learned = shared_levels(card, recipes), learned_levels(card)
    stored = {one.stored for one in held}
    sweep_image = known and has_severity_scale(distortion)
    return SweepPlan(
        distortion,
        held,
        midpoints=_midpoints(distortion, learned) if sweep_image else (),
        sweep_parameters=_sweep_parameters(distortion, learned) if sweep_image else (),
        redrawn=known and is_random(distortion),
        lacking=len(learned) - len(held),
        images={image: by_level for image, by_level in records.items() if stored <= set(by_level)},
    )


def sweep_image(
    plan: SweepPlan, pairs: PairStore, records: Mapping[int, PairRecord], predictor: Predictor, *, draw: int
) -> SweepPoint:
    """Return a validation image at all severities; `records` are its own, by level number of the store.

    The generator's noise comes from `draw`, the same at every severity.
    """
    image = next(iter(records.values())).image
    pristine = pairs.val_image(image)
    return SweepPoint(
        pristine,
        tuple(pairs.val_image(image, plan.distortion, one.stored) for one in plan.shared_levels),
        cache(lambda severity: predictor.distort_image(pristine, draw, severity)),
    )


def run_sweep(
    plan: SweepPlan, pairs: PairStore, records: Mapping[int, PairRecord], own: SweepPoint, *, seed: int
) -> SweepImage:
    """Return how the dial does on one validation image; noise of true distortions comes from `seed`."""
    record = next(iter(records.values()))
    pristine, made = own.pristine, own.made
    untouched = psnr(pristine, made(0.0))
    return SweepImage(
        levels=tuple(
            level_result(
                pristine,
                true,
                _true_again(plan, pairs, pristine, records[one.stored], one) if plan.redrawn else None,
                made(one.step.severity),
                seed=derive_seed(seed, "halves", plan.distortion, one.stored, record.image),
            )
            for one, true in zip(plan.shared_levels, own.true, strict=True)
        ),
        midpoints=tuple(
            _midpoint_result(plan, pristine, one, made, record.image_digest, seed) for one in plan.midpoints
        ),
        level_errors=_errors(pristine, (made(0.0), *(made(one.step.severity) for one in plan.shared_levels))),
        true_level_errors=_errors(pristine, (pristine, *own.true)),
        errors=_errors(pristine, (made(step / STEPS) for step in range(STEPS + 1))),
        true_errors=_true_errors(plan, pristine, record.image_digest, seed) if plan.sweep_parameters else None,
        untouched_db=capped(untouched),
    )


def _midpoints(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Midpoint, ...]:
    """Return a place between each two neighbours of the `learned` levels; none where no parameter lies between."""
    levels = [one.parameters for one in learned]
    found = []
    for below, above in pairwise(learned):
        parameters = parameters_at(distortion, levels, (below.severity + above.severity) / 2)
        severity = severity_of(distortion, levels, parameters)  # a whole parameter is not quite half-way
        if below.severity < severity < above.severity:
            found.append(Midpoint(SeverityPoint(severity, parameters), below.severity, above.severity))
    return tuple(found)


def _sweep_parameters(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Mapping[str, float], ...]:
    """Return the true parameters at each step along the dial; of the way to the weakest level only that level's."""
    levels = [one.parameters for one in learned]
    steps = [step / STEPS for step in range(1, STEPS + 1)]
    return tuple(parameters_at(distortion, levels, step) for step in steps if step >= learned[0].severity)


def _true_errors(plan: SweepPlan, pristine: Image, identity: str, seed: int) -> NDArray[np.float64]:
    """Return the mean squared errors of true distortions (severities, tiles), the untouched image first.

    Random ones are the same draw all along, as the generator's are.
    """
    own = derive_seed(seed, "way", plan.distortion, identity)
    made = [apply(plan.distortion, pristine, parameters, make_rng(own)).image for parameters in plan.sweep_parameters]
    return _errors(pristine, (pristine, *made))


def _errors(pristine: Image, distorted: Iterable[Image]) -> NDArray[np.float64]:
    return np.stack([tile_errors(pristine, one) for one in distorted])


def _true_again(plan: SweepPlan, pairs: PairStore, pristine: Image, record: PairRecord, held: SharedLevel) -> Image:
    """Return another draw of the true distortion at a level, as the table of all models takes it."""
    own = sample_seed(pairs.metadata["settings"]["pairs"]["seed"], record.image_digest, plan.distortion, held.stored, 1)
    return apply(plan.distortion, pristine, held.step.parameters, make_rng(own)).image


def _midpoint_result(
    plan: SweepPlan, pristine: Image, between: Midpoint, made: Callable[[float], Image], identity: str, seed: int
) -> Any:
    own = derive_seed(seed, "between", plan.distortion, identity, between.step.severity)
    true = apply(plan.distortion, pristine, between.step.parameters, make_rng(own)).image
    return midpoint_result(pristine, true, made(between.step.severity), made(between.below), made(between.above))
