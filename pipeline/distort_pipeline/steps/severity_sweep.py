"""Severity sweeps of a multi-level generator on whole validation images: learned levels, midpoints, all steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.pairs import PairStore
from distort_pipeline.distortions import DISTORTIONS, apply, is_random
from distort_pipeline.distortions.presets import default_index
from distort_pipeline.distortions.severity_scale import has_severity_scale, parameters_at, severity_of
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.metrics.severity_sweep import (
    STEPS,
    MidpointResult,
    SeverityPoint,
    SweepImage,
    capped,
    level_result,
    midpoint_result,
    tile_errors,
)
from distort_pipeline.models.card import LearnedLevel, ModelCard
from distort_pipeline.records import Image, PairRecord, derive_seed, make_rng, sample_seed

if TYPE_CHECKING:
    from distort_pipeline.networks.composed import ComposedPredictor
    from distort_pipeline.networks.predictor import Predictor


@dataclass(frozen=True)
class SharedLevel:
    """A learned level with pairs in the store."""

    point: SeverityPoint
    level: int  # number in the store


@dataclass(frozen=True)
class Midpoint:
    """A point about half-way between two learned levels, at the nearest parameter of the distortion."""

    point: SeverityPoint
    below: float  # severity of the learned level below
    above: float


@dataclass(frozen=True)
class SeverityVersions:
    """One validation image, truly distorted at each shared level and generated at any severity."""

    pristine: Image
    true: tuple[Image, ...]  # at the plan's shared levels, weakest first
    generated: Callable[[float], Image]  # by severity, cached


@dataclass(frozen=True)
class SweepPlan:
    """The severities of one generator's sweep, and its images."""

    distortion: str
    shared_levels: tuple[SharedLevel, ...]  # weakest first
    midpoints: tuple[Midpoint, ...]
    sweep_parameters: tuple[Mapping[str, float], ...]  # of true distortions by step; empty where not available
    redrawn: bool  # whether another draw of the true distortion is available
    lacking: int  # learned levels without pairs in the store
    images: Mapping[str, Mapping[int, PairRecord]]  # image id → level number of the store → record


def shared_levels(
    learned_levels: Sequence[LearnedLevel], recipes: Sequence[Mapping[str, Any]]
) -> tuple[SharedLevel, ...]:
    """Return the learned levels with the parameters of one of the `recipes`; level numbers need not agree."""
    return tuple(
        SharedLevel(SeverityPoint(learned.severity, learned.parameters), int(recipe["level"]))
        for learned in learned_levels
        for recipe in recipes
        if recipe["parameters"] == learned.parameters
    )


def default_level(distortion: str, levels: Sequence[SharedLevel]) -> SharedLevel:
    """Return the level for comparisons at a single level: the default of the distortion, else the middle level."""
    return levels[default_index(distortion, [level.point.parameters for level in levels])]


def plan_sweep(
    card: ModelCard, recipes: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[int, PairRecord]]
) -> SweepPlan:
    """Return the sweep of the multi-level generator with this `card`, on pairs made by these `recipes`.

    `records` of its distortion are by image and level number; an image without all levels is left out.
    """
    distortion = card.distortion
    known = distortion in DISTORTIONS.names() and not any(recipe["external"] for recipe in recipes)
    levels, learned = shared_levels(card.levels, recipes), card.levels
    numbers = {level.level for level in levels}
    scaled = known and has_severity_scale(distortion)
    return SweepPlan(
        distortion,
        levels,
        midpoints=_midpoints(distortion, learned) if scaled else (),
        sweep_parameters=_sweep_parameters(distortion, learned) if scaled else (),
        redrawn=known and is_random(distortion),
        lacking=len(learned) - len(levels),
        images={image: by_level for image, by_level in records.items() if numbers <= set(by_level)},
    )


def sweep_image(
    plan: SweepPlan,
    pairs: PairStore,
    records: Mapping[int, PairRecord],
    predictor: Predictor | ComposedPredictor,
    *,
    draw: int,
) -> SeverityVersions:
    """Return a validation image at all severities; its `records` are by level number of the store.

    The generator's noise comes from `draw`, the same at every severity.
    """
    image = next(iter(records.values())).image
    pristine = pairs.val_image(image)
    return SeverityVersions(
        pristine,
        tuple(pairs.val_image(image, plan.distortion, level.level) for level in plan.shared_levels),
        cache(lambda severity: predictor.distort_image(pristine, draw, severity)),
    )


def run_sweep(
    plan: SweepPlan, pairs: PairStore, records: Mapping[int, PairRecord], versions: SeverityVersions, *, seed: int
) -> SweepImage:
    """Return the measurements of one validation image; noise of true distortions comes from `seed`."""
    record = next(iter(records.values()))
    pristine, generated = versions.pristine, versions.generated
    return SweepImage(
        levels=tuple(
            level_result(
                pristine,
                true,
                _second_true(plan, pairs, pristine, records[level.level], level) if plan.redrawn else None,
                generated(level.point.severity),
                seed=derive_seed(seed, "halves", plan.distortion, level.level, record.image),
            )
            for level, true in zip(plan.shared_levels, versions.true, strict=True)
        ),
        midpoints=tuple(
            _midpoint_result(plan, pristine, midpoint, generated, record.image_digest, seed)
            for midpoint in plan.midpoints
        ),
        level_errors=_errors(
            pristine, (generated(0.0), *(generated(level.point.severity) for level in plan.shared_levels))
        ),
        true_level_errors=_errors(pristine, (pristine, *versions.true)),
        errors=_errors(pristine, (generated(step / STEPS) for step in range(STEPS + 1))),
        true_errors=_true_errors(plan, pristine, record.image_digest, seed) if plan.sweep_parameters else None,
        untouched_db=capped(psnr(pristine, generated(0.0))),
    )


def _midpoints(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Midpoint, ...]:
    """Return a midpoint of each two neighbouring levels; none where no parameter lies between."""
    levels = [level.parameters for level in learned]
    midpoints = []
    for below, above in pairwise(learned):
        parameters = parameters_at(distortion, levels, (below.severity + above.severity) / 2)
        severity = severity_of(distortion, levels, parameters)  # of an integer parameter not exactly half-way
        if below.severity < severity < above.severity:
            midpoints.append(Midpoint(SeverityPoint(severity, parameters), below.severity, above.severity))
    return tuple(midpoints)


def _sweep_parameters(distortion: str, learned: Sequence[LearnedLevel]) -> tuple[Mapping[str, float], ...]:
    """Return the true parameters at each step of the severity scale from the weakest level on."""
    levels = [level.parameters for level in learned]
    steps = [step / STEPS for step in range(1, STEPS + 1)]
    return tuple(parameters_at(distortion, levels, step) for step in steps if step >= learned[0].severity)


def _true_errors(plan: SweepPlan, pristine: Image, identity: str, seed: int) -> NDArray[np.float64]:
    """Return the mean squared errors of true distortions (severities, tiles), the pristine image first.

    Random distortions have the same draw at every severity, as the generator has.
    """
    draw = derive_seed(seed, "way", plan.distortion, identity)
    true = [apply(plan.distortion, pristine, parameters, make_rng(draw)).image for parameters in plan.sweep_parameters]
    return _errors(pristine, (pristine, *true))


def _errors(pristine: Image, distorted: Iterable[Image]) -> NDArray[np.float64]:
    return np.stack([tile_errors(pristine, image) for image in distorted])


def _second_true(plan: SweepPlan, pairs: PairStore, pristine: Image, record: PairRecord, level: SharedLevel) -> Image:
    """Return another draw of the true distortion at a level, the same as in the table of all models."""
    seed = pairs.metadata["settings"]["pairs"]["seed"]
    draw = sample_seed(seed, record.image_digest, plan.distortion, level.level, 1)
    return apply(plan.distortion, pristine, level.point.parameters, make_rng(draw)).image


def _midpoint_result(
    plan: SweepPlan,
    pristine: Image,
    midpoint: Midpoint,
    generated: Callable[[float], Image],
    identity: str,
    seed: int,
) -> MidpointResult:
    point = midpoint.point
    draw = derive_seed(seed, "between", plan.distortion, identity, point.severity)
    true = apply(plan.distortion, pristine, point.parameters, make_rng(draw)).image
    return midpoint_result(
        pristine, true, generated(point.severity), generated(midpoint.below), generated(midpoint.above)
    )
