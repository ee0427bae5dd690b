"""The plan of an evaluation, and its images: which true distortions, levels and validation images are compared.

A model is compared at the levels that it shares with the pair store, found by their parameters, not by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from distort_pipeline.data.pairs import PairStore, Recipe, distorted_column
from distort_pipeline.distortions import DISTORTIONS, apply, is_random
from distort_pipeline.distortions.presets import default_index
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.evaluation import SMALLEST_SIDE_PX, EvalImages
from distort_pipeline.metrics.severity_sweep import Midpoint, SeverityPoint, SweepVersions, TrueLevel, sweep_severities
from distort_pipeline.models.card import LearnedLevel, ModelCard
from distort_pipeline.models.store import TrainedGenerator, load_generator
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import Image, PairRecord, derive_seed, make_rng, sample_seed


@dataclass(frozen=True)
class Column:
    """One true distortion of the pair store."""

    name: str
    distortion: str
    level: int  # number in the store
    parameters: Mapping[str, float]
    external: bool

    @property
    def redrawn(self) -> bool:
        """Whether another draw is available."""
        return _can_redraw(self.distortion, self.external)


@dataclass(frozen=True)
class SharedLevel:
    """A learned level with pairs in the store."""

    point: SeverityPoint
    level: int  # number in the store


@dataclass(frozen=True)
class SweepPlan:
    """The severities of one multi-level generator's sweep, and its images."""

    distortion: str
    shared_levels: tuple[SharedLevel, ...]  # weakest first
    midpoints: tuple[Midpoint, ...]
    step_parameters: tuple[Mapping[str, float], ...]  # of true distortions by step; empty where not available
    redrawn: bool  # whether another draw of the true distortion is available
    lacking: int  # learned levels without pairs in the store
    images: Mapping[str, Mapping[int, PairRecord]]  # image id → level number of the store → record


@dataclass(frozen=True)
class Plan:
    """Generators, the true distortions of their training, and the images of the comparison."""

    columns: tuple[Column, ...]
    learned: Mapping[str, str]  # model → name of its learned column
    severities: Mapping[str, float]  # model → severity of its learned column
    images: Mapping[str, Mapping[str, PairRecord]]  # image id → column → record
    too_small: int
    sweeps: Mapping[str, SweepPlan]  # by multi-level model


def plan_of(pairs: PairStore, cards: Mapping[str, ModelCard]) -> Plan:
    """Return the plan: every distortion of the store at the levels of the models, else at its first level.

    A multi-level model is compared with all others at its default level.
    """
    default = {name: default_level(card.distortion, _require_shared(pairs, name, card)) for name, card in cards.items()}
    columns = _columns(pairs, {(card.distortion, default[name].level) for name, card in cards.items()})
    names = {(column.distortion, column.level): column.name for column in columns}
    by_distortion = sorted(cards, key=lambda name: pairs.distortions.index(cards[name].distortion))
    learned = {name: names[cards[name].distortion, default[name].level] for name in by_distortion}
    images: dict[str, dict[str, PairRecord]] = {}
    by_level: dict[str, dict[str, dict[int, PairRecord]]] = {}  # distortion → image → level
    too_small: set[str] = set()
    for record in pairs.records("val"):
        if min(record.height, record.width) < SMALLEST_SIDE_PX:
            too_small.add(record.image)
            continue
        if (record.distortion, record.level) in names:
            images.setdefault(record.image, {})[names[record.distortion, record.level]] = record
        by_level.setdefault(record.distortion, {}).setdefault(record.image, {})[record.level] = record
    available = {column for records in images.values() for column in records}
    for name, column in learned.items():
        if column not in available:
            raise PipelineError(
                f"{pairs.folder} has no validation image of {column}, the distortion of the model {name}"
            )
    sweeps = {
        name: plan_sweep(card, pairs.recipes(card.distortion), by_level.get(card.distortion, {}))
        for name, card in cards.items()
        if card.is_multi_level
    }
    severities = {name: level.point.severity for name, level in default.items()}
    shown = tuple(column for column in columns if column.name in available)
    return Plan(shown, learned, severities, images, len(too_small), sweeps)


def _require_shared(pairs: PairStore, name: str, card: ModelCard) -> tuple[SharedLevel, ...]:
    """Return the levels of the model in the store; PipelineError if there are none."""
    recipes = pairs.recipes(card.distortion)
    common = shared_levels(card.levels, recipes)
    if common:
        return common
    learned = ", ".join(str(level.parameters) for level in card.levels)
    stored = ", ".join(str(recipe.parameters) for recipe in recipes)
    raise PipelineError(
        f"the model {name} learned {card.distortion} with {learned}, {pairs.folder} has {card.distortion} with "
        f"{stored}; evaluate with the pairs of its training, or train again"
    )


def shared_levels(learned_levels: Sequence[LearnedLevel], recipes: Sequence[Recipe]) -> tuple[SharedLevel, ...]:
    """Return the learned levels with the parameters of one of the `recipes`.

    Level numbers need not agree, unless the pairs are external: these may have no parameters.
    """
    return tuple(
        SharedLevel(SeverityPoint(learned.severity, learned.parameters), recipe.level)
        for learned in learned_levels
        for recipe in recipes
        if recipe.parameters == learned.parameters and (not recipe.external or recipe.level == learned.level)
    )


def default_level(distortion: str, levels: Sequence[SharedLevel]) -> SharedLevel:
    """Return the level for comparisons at a single level: the default of the distortion, else the middle level."""
    return levels[default_index(distortion, [level.point.parameters for level in levels])]


def _columns(pairs: PairStore, compared: set[tuple[str, int]]) -> list[Column]:
    """Return a column for each of the `compared` (distortion, level), and one for each distortion without a model."""
    columns = []
    for distortion in pairs.distortions:
        levels = [level for name, level in compared if name == distortion] or [pairs.levels(distortion)[0]]
        for recipe in pairs.recipes(distortion):
            if recipe.level in levels:
                name = distorted_column(distortion, recipe.level) if len(levels) > 1 else distortion
                columns.append(Column(name, distortion, recipe.level, recipe.parameters, recipe.external))
    return columns


def plan_sweep(
    card: ModelCard, recipes: Sequence[Recipe], records: Mapping[str, Mapping[int, PairRecord]]
) -> SweepPlan:
    """Return the sweep of the multi-level generator with this `card`, on pairs made by these `recipes`.

    `records` of its distortion are by image and level number; an image without all levels is left out.
    """
    distortion = card.distortion
    external = any(recipe.external for recipe in recipes)
    levels, learned = shared_levels(card.levels, recipes), card.levels
    numbers = {level.level for level in levels}
    scaled = not external and card.scale.scale is not None
    return SweepPlan(
        distortion,
        levels,
        midpoints=_midpoints(card) if scaled else (),
        step_parameters=_step_parameters(card) if scaled else (),
        redrawn=_can_redraw(distortion, external),
        lacking=len(learned) - len(levels),
        images={image: by_level for image, by_level in records.items() if numbers <= set(by_level)},
    )


def _can_redraw(distortion: str, external: bool) -> bool:
    return not external and distortion in DISTORTIONS.names() and is_random(distortion)


def _midpoints(card: ModelCard) -> tuple[Midpoint, ...]:
    """Return a midpoint of each two neighbouring levels; none where no parameter lies between."""
    midpoints = []
    for below, above in pairwise(card.levels):
        parameters = card.scale.parameters_at((below.severity + above.severity) / 2)
        severity = card.scale.severity_of(parameters)  # of an integer parameter not exactly half-way
        if below.severity < severity < above.severity:
            midpoints.append(Midpoint(SeverityPoint(severity, parameters), below.severity, above.severity))
    return tuple(midpoints)


def _step_parameters(card: ModelCard) -> tuple[Mapping[str, float], ...]:
    """Return the true parameters at each step of the sweep from the weakest level on."""
    return tuple(
        card.scale.parameters_at(severity)
        for severity in sweep_severities(card.highest_severity)
        if severity >= card.levels[0].severity
    )


def load_generators(folders: Mapping[str, Path], *, threads: int) -> dict[str, TrainedGenerator]:
    """Return the generator of each model folder, by name."""
    pin_backend_threads(threads)
    return {name: load_generator(folder, batch_size=1) for name, folder in folders.items()}


def images_of(
    plan: Plan, pairs: PairStore, generators: Mapping[str, TrainedGenerator], *, draws: int, seed: int
) -> Iterator[tuple[str, EvalImages]]:
    """Yield the id of each image with all its distorted versions; `seed` decides the draws of the generators."""
    redrawn = {column.name for column in plan.columns if column.redrawn}
    for image, records in plan.images.items():
        pristine = pairs.val_image(image)
        identity = next(iter(records.values())).image_digest
        generated: dict[str, list[Image]] = {}
        generated_again: dict[str, Image] = {}
        for name, column in plan.learned.items():
            trained = generators[name]
            random = trained.card.is_stochastic
            seeds = [_draw_seed(seed, trained, identity, draw) for draw in range(max(draws, 2) if random else 1)]
            drawn = [trained.predictor.distort_image(pristine, each, plan.severities[name]) for each in seeds]
            generated[name] = drawn[:draws]
            if random:
                generated_again[name] = drawn[1]
            elif column in redrawn:
                generated_again[name] = drawn[0]  # the paper's generator is deterministic
        yield (
            image,
            EvalImages(
                pristine,
                true={name: pairs.val_image(image, r.distortion, r.level) for name, r in records.items()},
                true_again={
                    column.name: _second_true(pairs, pristine, records[column.name], column.parameters)
                    for column in plan.columns
                    if column.redrawn and column.name in records
                },
                generated=generated,
                generated_again=generated_again,
                sweeps={
                    name: sweep_versions(sweep, pairs, sweep.images[image], trained=generators[name], seed=seed)
                    for name, sweep in plan.sweeps.items()
                    if image in sweep.images
                },
            ),
        )


def sweep_versions(
    plan: SweepPlan, pairs: PairStore, records: Mapping[int, PairRecord], *, trained: TrainedGenerator, seed: int
) -> SweepVersions:
    """Return a validation image at all severities; its `records` are by level number of the store.

    The generator draws as in its first draw of the table, with the same noise at every severity.
    """
    record = next(iter(records.values()))
    image, identity = record.image, record.image_digest
    pristine = pairs.val_image(image)
    draw = _draw_seed(seed, trained, identity, 0)

    def true(parameters: Mapping[str, float], true_seed: int) -> Image:
        return apply(plan.distortion, pristine, parameters, make_rng(true_seed)).image

    def true_steps() -> Iterable[Image]:
        same_draw = derive_seed(seed, "way", plan.distortion, identity)
        return (true(parameters, same_draw) for parameters in plan.step_parameters)

    return SweepVersions(
        pristine,
        levels=tuple(
            TrueLevel(
                level.point,
                pairs.val_image(image, plan.distortion, level.level),
                _second_true(pairs, pristine, records[level.level], level.point.parameters) if plan.redrawn else None,
            )
            for level in plan.shared_levels
        ),
        midpoints=tuple(
            (at, true(at.point.parameters, derive_seed(seed, "between", plan.distortion, identity, at.point.severity)))
            for at in plan.midpoints
        ),
        true_steps=true_steps if plan.step_parameters else None,
        generated=cache(lambda severity: trained.predictor.distort_image(pristine, draw, severity)),
    )


def _second_true(pairs: PairStore, pristine: Image, record: PairRecord, parameters: Mapping[str, float]) -> Image:
    """Return another draw of the true distortion of a record."""
    pairs_seed = pairs.metadata.settings["pairs"]["seed"]
    draw = sample_seed(pairs_seed, record.image_digest, record.distortion, record.level, draw=1)
    return apply(record.distortion, pristine, parameters, make_rng(draw)).image


def _draw_seed(seed: int, trained: TrainedGenerator, identity: str, draw: int) -> int:
    return derive_seed(seed, trained.card.distortion, identity, draw)
