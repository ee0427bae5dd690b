"""Severities of a trained generator: parameters of the true distortion, and the nearest learned levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distort_pipeline.distortions.presets import default_index
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.planning.conditions import ModelCapabilities
from distort_pipeline.trained import LearnedLevel, is_multi_level, is_stochastic, learned_levels

Card = Mapping[str, Any]
TOLERANCE = 1e-9  # a severity this close to a level's counts as equal


def default_level(card: Card) -> LearnedLevel:
    """Return the learned level used if no severity is requested: the default preset's level, else the middle."""
    levels = learned_levels(card)
    return levels[default_index(card["distortion"], [dict(level.parameters) for level in levels])]


def capabilities(card: Card) -> ModelCapabilities:
    """Return the levels, severities and draws available from a model."""
    default = default_level(card)
    return ModelCapabilities(default.level, default.severity, is_multi_level(card), is_stochastic(dict(card)))


def true_parameters(card: Card, severity: float) -> dict[str, float]:
    """Return the parameters of the true distortion at a severity of the model; none for external pairs.

    PipelineError between learned levels if the distortion has no severity scale.
    """
    if card["external"]:
        return {}
    return parameters_at(card["distortion"], [level.parameters for level in learned_levels(card)], severity)


def composite_parameters(cards: Mapping[str, Card], severity: float) -> dict[str, float]:
    """Return the true parameters of a condition's models (name → card), prefixed with model names for a composite."""
    if len(cards) == 1:
        return true_parameters(next(iter(cards.values())), severity)
    return {
        f"{model} {name}": value
        for model, card in cards.items()
        for name, value in true_parameters(card, severity).items()
    }


def levels_near(card: Card, severities: Iterable[float]) -> list[int]:
    """Return the indices of the learned levels that equal or enclose the `severities`; below the lowest, its index.

    >>> card = {"levels": [{"level": at, "parameters": {}, "severity": at / 2} for at in (1, 2)]}
    >>> levels_near(card, [0.5]), levels_near(card, [0.2]), levels_near(card, [0.7, 1])
    ([0], [0], [0, 1])
    """
    known = [level.severity for level in learned_levels(card)]
    nearest: set[int] = set()
    for severity in severities:
        above = next((index for index, level in enumerate(known) if level >= severity - TOLERANCE), len(known) - 1)
        nearest.add(above)
        if above and known[above] - severity > TOLERANCE:
            nearest.add(above - 1)
    return sorted(nearest)
