"""The models of a corpus, and the conditions within their capabilities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.planning.conditions import COMPOSITE_SEPARATOR, SEVERITY, Condition, build_conditions
from distort_pipeline.severities import capabilities, composite_parameters, true_parameters

Card = Mapping[str, Any]
RESERVED = ("pristine", "tiles")  # names of other parts of a corpus


def chosen_models(
    folders: Mapping[str, Path], distortions: Sequence[str], composites: Sequence[str]
) -> dict[str, Path]:
    """Return the models named in `distortions` or `composites`, else all of `folders`.

    >>> folders = {name: Path(name) for name in ("jp2k", "jpeg", "white_noise")}
    >>> list(chosen_models(folders, ["jp2k"], [])), list(chosen_models(folders, [], ["jpeg+white_noise"]))
    (['jp2k'], ['jpeg', 'white_noise'])
    """
    requested = [*distortions, *(name for composite in composites for name in composite.split(COMPOSITE_SEPARATOR))]
    for name in requested:
        if name not in folders:
            raise PipelineError(f"no model of {name!r} is trained{did_you_mean(name, folders)}")
    chosen = set(requested) or set(folders)
    return {name: folder for name, folder in folders.items() if name in chosen}


def plan_conditions(
    cards: Mapping[str, Card],
    distortions: Sequence[str],
    *,
    levels: int | None,
    severity: Sequence[float],
    composites: Sequence[str],
    target: Mapping[str, Sequence[float]],
) -> tuple[Condition, ...]:
    """Return the conditions of a corpus; PipelineError for a request beyond a model's capabilities.

    Without `distortions` and `composites`, each model of `cards` has its conditions.
    """
    external = [
        name for composite in composites for name in composite.split(COMPOSITE_SEPARATOR) if cards[name]["external"]
    ]
    if external:
        raise PipelineError(
            f"--composite cannot contain {external[0]}, a model of external pairs: its true distortion cannot be "
            "computed for other images"
        )
    conditions = build_conditions(
        {name: capabilities(card) for name, card in cards.items()},
        distortions or ([] if composites else sorted(cards)),
        levels=levels,
        severity=severity,
        composites=composites,
        target=target,
    )
    for condition in conditions:
        request = condition.request
        if request.of != SEVERITY:
            _require_calibration(cards[condition.models[0]], condition.distortion)
            continue
        for severity_at in (request.first, (request.first + request.last) / 2, request.last):
            composite_parameters({name: cards[name] for name in condition.models}, severity_at)
    return conditions


def trained_align(cards: Mapping[str, Card]) -> int:
    """Return the crop alignment in px for all models: the coarsest alignment in their training."""
    return int(max(card["settings"]["train"]["crop_align"] for card in cards.values()))


def require_fit_names(names: Iterable[str]) -> None:
    """Raise PipelineError for a model with a name unfit for batches, arrays and reports."""
    for name in names:
        if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise PipelineError(
                f"{name!r} cannot be the name of a model: arrays and files take the name of its folder, so only "
                f"letters, digits, _, - and . are allowed, and not {' or '.join(RESERVED)}; rename the folder"
            )


def _require_calibration(card: Card, name: str) -> None:
    if not card.get("calibration"):
        raise PipelineError(f"--target needs a calibration, and the model of {name} has none; train it again")
    true_parameters(card, 0.5 / len(card["levels"]))  # any severity may be requested: needs a severity scale
