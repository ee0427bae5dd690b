"""Which generators are compared with which true distortions, on which validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distort_pipeline.distortions import DISTORTIONS, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.evaluation.severity_sweep import SharedLevel, SweepPlan, default_of, plan_sweep, shared_levels
from distort_pipeline.records import PairRecord
from distort_pipeline.statistics.eval_images import SMALLEST_SIDE_PX
from distort_pipeline.stores.pairs import PairStore, distorted_column
from distort_pipeline.trained import is_multi_level


@dataclass(frozen=True)
class Column:
    """One true distortion of the pair store."""

    name: str
    recipe: Mapping[str, Any]
    redrawn: bool  # whether another draw of it can be made


@dataclass(frozen=True)
class Plan:
    """What is compared with what."""

    pairs: PairStore
    columns: tuple[Column, ...]
    learned: Mapping[str, str]  # model → name of the column that it learned
    severities: Mapping[str, float]  # model → where on its dial that column lies; 1 without a dial
    images: Mapping[str, Mapping[str, PairRecord]]  # image id → column → record
    too_small: int
    sweeps: Mapping[str, SweepPlan]  # by multi-level model


def plan_of(pairs: PairStore, cards: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Return what is compared: every distortion of the store at the levels that models learned, else at its first.

    A multi-level model is compared with all others at one of its levels, the usual one.
    """
    held = {name: _held(pairs, name, card) for name, card in cards.items()}
    usual = {name: default_of(cards[name]["distortion"], there) for name, there in held.items()}
    levels: dict[str, set[int]] = {}
    for name, card in cards.items():
        levels.setdefault(card["distortion"], set()).add(usual[name].stored)
    columns = [
        Column(_column_name(recipe, levels), recipe, _can_redraw(recipe))
        for distortion in pairs.distortions
        for recipe in pairs.recipes(distortion)
        if recipe["level"] in levels.get(distortion, {pairs.levels(distortion)[0]})
    ]
    names = {(column.recipe["distortion"], column.recipe["level"]): column.name for column in columns}
    learned = {
        name: names[card["distortion"], usual[name].stored]
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
    there = {column for records in images.values() for column in records}
    for name, column in learned.items():
        if column not in there:
            raise PipelineError(f"{pairs.folder} holds no validation image of {column}, which {name} has learned")
    return Plan(
        pairs,
        tuple(column for column in columns if column.name in there),
        learned,
        {name: one.step.severity for name, one in usual.items()},
        images,
        len(too_small),
        {
            name: plan_sweep(cards[name], pairs.recipes(cards[name]["distortion"]), by_image)
            for name, by_image in condition_levels.items()
        },
    )


def _held(pairs: PairStore, name: str, card: Mapping[str, Any]) -> tuple[SharedLevel, ...]:
    """Return the levels of the model that the store holds; PipelineError if there is none."""
    recipes = pairs.recipes(card["distortion"])
    held = shared_levels(card, recipes)
    if held:
        return held
    learned, there = (", ".join(str(one["parameters"]) for one in levels) for levels in (card["levels"], recipes))
    raise PipelineError(
        f"the model {name} learned {card['distortion']} with {learned}, {pairs.folder} holds it with "
        f"{there}; evaluate with the pairs that it was trained on, or train again"
    )


def _column_name(recipe: Mapping[str, Any], levels: Mapping[str, set[int]]) -> str:
    distortion = recipe["distortion"]
    several = len(levels.get(distortion, ())) > 1
    return distorted_column(distortion, recipe["level"]) if several else str(distortion)


def _can_redraw(recipe: Mapping[str, Any]) -> bool:
    name = recipe["distortion"]
    return not recipe["external"] and name in DISTORTIONS.names() and is_random(name)
