"""A graded generator tried out on whole validation images: its learned levels, what lies between, the way along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.distortions import DISTORTIONS, apply, is_random
from distort_pipeline.distortions.dial import has_dial, parameters_at, severity_of
from distort_pipeline.distortions.presets import default_place
from distort_pipeline.ranges import Image
from distort_pipeline.records import PairRecord
from distort_pipeline.seeds import derive_seed, generator, sample_seed
from distort_pipeline.statistics.dials import STEPS, DialImage, Step, at_between, at_level, capped, tile_errors
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.trained import LearnedLevel, learned_levels

if TYPE_CHECKING:
    from distort_pipeline.networks.forward import Forward


@dataclass(frozen=True)
class Held:
    """A learned level that the pair store holds too."""

    step: Step
    stored: int  # its level number there


@dataclass(frozen=True)
class Between:
    """A place between two learned levels, about half-way: where the distortion's parameter is one that there is."""

    step: Step
    below: float  # severity of the learned level below
    above: float


@dataclass(frozen=True)
class Dialled:
    """One validation image, truly distorted at each held level and generated at any severity."""

    pristine: Image
    true: tuple[Image, ...]  # at the plan's held levels, weakest first
    made: Callable[[float], Image]  # by severity; each is made once


@dataclass(frozen=True)
class DialPlan:
    """Where the dial of one generator is tried."""

    distortion: str
    held: tuple[Held, ...]  # weakest first
    betweens: tuple[Between, ...]
    way: tuple[Mapping[str, float], ...]  # parameters of true distortions all along; none where they cannot be made
    redrawn: bool  # whether another draw of the true distortion can be made
    lacking: int  # levels that the generator has learned and the pair store does not hold
    images: Mapping[str, Mapping[int, PairRecord]]  # image id → level number of the store → record


def held_levels(card: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> tuple[Held, ...]:
    """Return those learned levels whose very parameters one of the `recipes` has; level numbers mean different things.

    >>> card = {"levels": [{"level": 1, "parameters": {"quality": 12}, "severity": 1.0}]}
    >>> held_levels(card, [{"level": 3, "parameters": {"quality": 12}}])
    (Held(step=Step(severity=1.0, parameters={'quality': 12}), stored=3),)
    """
    return tuple(
        Held(Step(learned.severity, learned.parameters), int(recipe["level"]))
        for learned in learned_levels(card)
        for recipe in recipes
        if recipe["parameters"] == learned.parameters
    )


def default_of(distortion: str, held: Sequence[Held]) -> Held:
    """Return the level that stands for the generator where one has to: the usual one, or else the middle one."""
    return held[default_place(distortion, [one.step.parameters for one in held])]


def plan_dial(
    card: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[int, PairRecord]]
) -> DialPlan:
    """Return where to try the dial of the graded generator of this `card`, on pairs made by these `recipes`.

    `records` are those of its distortion, by image and level number; an image without all levels is left out.
    """
    distortion = str(card["distortion"])
    known = distortion in DISTORTIONS.names() and not any(recipe["brought"] for recipe in recipes)
    held, learned = held_levels(card, recipes), learned_levels(card)
    stored = {one.stored for one in held}
    dialled = known and has_dial(distortion)
    return DialPlan(
        distortion,
        held,
        betweens=_betweens(distortion, learned) if dialled else (),
        way=_way(distortion, learned) if dialled else (),
        redrawn=known and is_random(distortion),
        lacking=len(learned) - len(held),
        images={image: by_level for image, by_level in records.items() if stored <= set(by_level)},
    )


def dialled(
    plan: DialPlan, pairs: PairStore, records: Mapping[int, PairRecord], forward: Forward, *, draw: int
) -> Dialled:
    """Return a validation image at all severities; `records` are its own, by level number of the store.

    The generator's noise comes from `draw`, the same at every severity.
    """
    image = next(iter(records.values())).image
    pristine = pairs.val_image(image)
    return Dialled(
        pristine,
        tuple(pairs.val_image(image, plan.distortion, one.stored) for one in plan.held),
        cache(lambda severity: forward.distort_image(pristine, draw, severity)),
    )


def try_dial(
    plan: DialPlan, pairs: PairStore, records: Mapping[int, PairRecord], own: Dialled, *, seed: int
) -> DialImage:
    """Return how the dial does on one validation image; noise of true distortions comes from `seed`."""
    record = next(iter(records.values()))
    pristine, made = own.pristine, own.made
    untouched = psnr(pristine, made(0.0))
    return DialImage(
        levels=tuple(
            at_level(
                pristine,
                true,
                _true_again(plan, pairs, pristine, records[one.stored], one) if plan.redrawn else None,
                made(one.step.severity),
                seed=derive_seed(seed, "halves", plan.distortion, one.stored, record.image),
            )
            for one, true in zip(plan.held, own.true, strict=True)
        ),
        betweens=tuple(_tried_between(plan, pristine, one, made, record.image_digest, seed) for one in plan.betweens),
        level_errors=_errors(pristine, (made(0.0), *(made(one.step.severity) for one in plan.held))),
        true_level_errors=_errors(pristine, (pristine, *own.true)),
        errors=_errors(pristine, (made(step / STEPS) for step in range(STEPS + 1))),
        true_errors=_true_errors(plan, pristine, record.image_digest, seed) if plan.way else None,
        untouched_db=capped(untouched),
    )


def _betweens(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Between, ...]:
    """Return a place between each two neighbours of the `learned` levels; none where no parameter lies between."""
    levels = [one.parameters for one in learned]
    found = []
    for below, above in pairwise(learned):
        parameters = parameters_at(distortion, levels, (below.severity + above.severity) / 2)
        severity = severity_of(distortion, levels, parameters)  # a whole parameter is not quite half-way
        if below.severity < severity < above.severity:
            found.append(Between(Step(severity, parameters), below.severity, above.severity))
    return tuple(found)


def _way(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Mapping[str, float], ...]:
    """Return the true parameters at each step along the dial; of the way to the weakest level only that level's."""
    levels = [one.parameters for one in learned]
    steps = [step / STEPS for step in range(1, STEPS + 1)]
    return tuple(parameters_at(distortion, levels, step) for step in steps if step >= learned[0].severity)


def _true_errors(plan: DialPlan, pristine: Image, identity: str, seed: int) -> NDArray[np.float64]:
    """Return the mean squared errors of true distortions (severities, tiles), the untouched image first.

    Random ones are the same draw all along, as the generator's are.
    """
    own = derive_seed(seed, "way", plan.distortion, identity)
    made = [apply(plan.distortion, pristine, parameters, generator(own)).image for parameters in plan.way]
    return _errors(pristine, (pristine, *made))


def _errors(pristine: Image, distorted: Iterable[Image]) -> NDArray[np.float64]:
    return np.stack([tile_errors(pristine, one) for one in distorted])


def _true_again(plan: DialPlan, pairs: PairStore, pristine: Image, record: PairRecord, held: Held) -> Image:
    """Return another draw of the true distortion at a level, as the table of all models takes it."""
    own = sample_seed(pairs.header["settings"]["pairs"]["seed"], record.image_digest, plan.distortion, held.stored, 1)
    return apply(plan.distortion, pristine, held.step.parameters, generator(own)).image


def _tried_between(
    plan: DialPlan, pristine: Image, between: Between, made: Callable[[float], Image], identity: str, seed: int
) -> Any:
    own = derive_seed(seed, "between", plan.distortion, identity, between.step.severity)
    true = apply(plan.distortion, pristine, between.step.parameters, generator(own)).image
    return at_between(pristine, true, made(between.step.severity), made(between.below), made(between.above))
