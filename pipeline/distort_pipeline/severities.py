"""A trained generator's severities: the true distortion's parameters there, and the levels learned nearby."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distort_pipeline.distortions.presets import default_place
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.planning.conditions import ModelCapabilities
from distort_pipeline.trained import LearnedLevel, is_multi_level, is_stochastic, learned_levels

Card = Mapping[str, Any]
EXACTLY = 1e-9  # severities nearer than this to a level's are that level's


def usual_level(card: Card) -> LearnedLevel:
    """Return the learned level that stands for a model where nothing is asked: the usual preset's, else the middle."""
    levels = learned_levels(card)
    return levels[default_place(card["distortion"], [dict(level.parameters) for level in levels])]


def capabilities(card: Card) -> ModelCapabilities:
    """Return what the model of a card can be asked for."""
    usual = usual_level(card)
    return ModelCapabilities(usual.level, usual.severity, is_multi_level(card), is_stochastic(dict(card)))


def true_parameters(card: Card, severity: float) -> dict[str, float]:
    """Return the parameters that the true distortion has at a severity of the model; none for brought pairs.

    PipelineError between the learned levels of a distortion without a dial.
    """
    if card["external"]:
        return {}
    return parameters_at(card["distortion"], [level.parameters for level in learned_levels(card)], severity)


def composite_parameters(cards: Mapping[str, Card], severity: float) -> dict[str, float]:
    """Return the parameters of a condition' models (name → card) as one mapping: of a mix, behind their names."""
    if len(cards) == 1:
        return true_parameters(next(iter(cards.values())), severity)
    return {
        f"{model} {name}": value
        for model, card in cards.items()
        for name, value in true_parameters(card, severity).items()
    }


def levels_near(card: Card, severities: Iterable[float]) -> list[int]:
    """Return the places of the learned levels that `severities` are, or lie between; the weakest below it stands alone.

    >>> card = {"levels": [{"level": at, "parameters": {}, "severity": at / 2} for at in (1, 2)]}
    >>> levels_near(card, [0.5]), levels_near(card, [0.2]), levels_near(card, [0.7, 1])
    ([0], [0], [0, 1])
    """
    known = [level.severity for level in learned_levels(card)]
    found: set[int] = set()
    for severity in severities:
        above = next((place for place, own in enumerate(known) if own >= severity - EXACTLY), len(known) - 1)
        found.add(above)
        if above and known[above] - severity > EXACTLY:
            found.add(above - 1)
    return sorted(found)
