"""The plan of an evaluation: generators, true distortions, and validation images with both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distort_pipeline.distortions import DISTORTIONS, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.evaluation.severity_sweep import SharedLevel, SweepPlan, default_level, plan_sweep, shared_levels
from distort_pipeline.records import PairRecord
from distort_pipeline.statistics.eval_images import SMALLEST_SIDE_PX
from distort_pipeline.stores.pairs import PairStore, distorted_column
from distort_pipeline.trained import is_multi_level


@dataclass(frozen=True)
class Column:
    """One true distortion of the pair store."""

    name: str
    recipe: Mapping[str, Any]
    redrawn: bool  # whether another draw is available


@dataclass(frozen=True)
class Plan:
    """Generators, the true distortions of their training, and the images of the comparison."""

    pairs: PairStore
    columns: tuple[Column, ...]
    learned: Mapping[str, str]  # model → name of its learned column
    severities: Mapping[str, float]  # model → severity of its learned column; 1 for a model of one level
    images: Mapping[str, Mapping[str, PairRecord]]  # image id → column → record
    too_small: int
    sweeps: Mapping[str, SweepPlan]  # by multi-level model


def plan_of(pairs: PairStore, cards: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Return the plan: every distortion of the store at the levels of the models, else at its first level.

    A multi-level model is compared with all others at its default level.
    """
    model_levels = {name: _shared_levels(pairs, name, card) for name, card in cards.items()}
    default = {name: default_level(cards[name]["distortion"], levels) for name, levels in model_levels.items()}
    levels: dict[str, set[int]] = {}
    for name, card in cards.items():
        levels.setdefault(card["distortion"], set()).add(default[name].level)
    columns = [
        Column(_column_name(recipe, levels), recipe, _can_redraw(recipe))
        for distortion in pairs.distortions
        for recipe in pairs.recipes(distortion)
        if recipe["level"] in levels.get(distortion, {pairs.levels(distortion)[0]})
    ]
    names = {(column.recipe["distortion"], column.recipe["level"]): column.name for column in columns}
    learned = {
        name: names[card["distortion"], default[name].level]
        for name, card in sorted(cards.items(), key=lambda item: pairs.distortions.index(item[1]["distortion"]))
    }
    images: dict[str, dict[str, PairRecord]] = {}
    condition_levels: dict[str, dict[str, dict[int, PairRecord]]] = {
        name: {} for name, card in cards.items() if is_multi_level(card)
    }
    too_small: set[str] = set()
    for record in pairs.records("val"):
        if min(record.height, record.width) < SMALLEST_SIDE_PX:
            too_small.add(record.image)
            continue
        if (record.distortion, record.level) in names:
            images.setdefault(record.image, {})[names[record.distortion, record.level]] = record
        for name, by_image in condition_levels.items():
            if record.distortion == cards[name]["distortion"]:
                by_image.setdefault(record.image, {})[record.level] = record
    available = {column for records in images.values() for column in records}
    for name, column in learned.items():
        if column not in available:
            raise PipelineError(
                f"{pairs.folder} has no validation image of {column}, the distortion of the model {name}"
            )
    return Plan(
        pairs,
        tuple(column for column in columns if column.name in available),
        learned,
        {name: level.point.severity for name, level in default.items()},
        images,
        len(too_small),
        {
            name: plan_sweep(cards[name], pairs.recipes(cards[name]["distortion"]), by_image)
            for name, by_image in condition_levels.items()
        },
    )


def _shared_levels(pairs: PairStore, name: str, card: Mapping[str, Any]) -> tuple[SharedLevel, ...]:
    """Return the levels of the model in the store; PipelineError if there are none."""
    recipes = pairs.recipes(card["distortion"])
    common = shared_levels(card, recipes)
    if common:
        return common
    learned, stored = (", ".join(str(level["parameters"]) for level in levels) for levels in (card["levels"], recipes))
    raise PipelineError(
        f"the model {name} learned {card['distortion']} with {learned}, {pairs.folder} has {card['distortion']} with "
        f"{stored}; evaluate with the pairs of its training, or train again"
    )


def _column_name(recipe: Mapping[str, Any], levels: Mapping[str, set[int]]) -> str:
    distortion = recipe["distortion"]
    several = len(levels.get(distortion, ())) > 1
    return distorted_column(distortion, recipe["level"]) if several else str(distortion)


def _can_redraw(recipe: Mapping[str, Any]) -> bool:
    name = recipe["distortion"]
    return not recipe["external"] and name in DISTORTIONS.names() and is_random(name)
