"""The models that a corpus needs, and the conditions that can be asked of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.planning.conditions import COMPOSITE_SEPARATOR, SEVERITY, Condition, build_conditions
from distort_pipeline.severities import capabilities, composite_parameters, true_parameters

Card = Mapping[str, Any]
TAKEN = ("pristine", "tiles")  # other things of a corpus have these names


def chosen_models(
    folders: Mapping[str, Path], distortions: Sequence[str], composites: Sequence[str]
) -> dict[str, Path]:
    """Return the models that are needed: those named, those of mixes, or all of `folders` where none is named.

    >>> folders = {name: Path(name) for name in ("jp2k", "jpeg", "white_noise")}
    >>> list(chosen_models(folders, ["jp2k"], [])), list(chosen_models(folders, [], ["jpeg+white_noise"]))
    (['jp2k'], ['jpeg', 'white_noise'])
    """
    named = [*distortions, *(name for composite in composites for name in composite.split(COMPOSITE_SEPARATOR))]
    for name in named:
        if name not in folders:
            raise PipelineError(f"no model of {name!r} is trained{did_you_mean(name, folders)}")
    wanted = set(named) or set(folders)
    return {name: folder for name, folder in folders.items() if name in wanted}


def plan_conditions(
    cards: Mapping[str, Card],
    distortions: Sequence[str],
    *,
    levels: int | None,
    severity: Sequence[float],
    composites: Sequence[str],
    target: Mapping[str, Sequence[float]],
) -> tuple[Condition, ...]:
    """Return the conditions of a corpus; PipelineError where a model cannot make, or be held against, what is asked.

    Where neither `distortions` nor `mixes` are named, each model of `cards` has its own.
    """
    external = [
        name for composite in composites for name in composite.split(COMPOSITE_SEPARATOR) if cards[name]["external"]
    ]
    if external:
        raise PipelineError(
            f"{external[0]} cannot be mixed: it has learned pairs that somebody brought, and nothing can make its true "
            "distortion of another's images to hold the mix against"
        )
    conditions = build_conditions(
        {name: capabilities(card) for name, card in cards.items()},
        distortions or ([] if composites else sorted(cards)),
        levels=levels,
        severity=severity,
        composites=composites,
        target=target,
    )
    for one in conditions:
        if one.request.of != SEVERITY:
            _require_calibration(cards[one.models[0]], one.distortion)
            continue
        for at in (one.request.first, (one.request.first + one.request.last) / 2, one.request.last):
            composite_parameters({name: cards[name] for name in one.models}, at)
    return conditions


def trained_align(cards: Mapping[str, Card]) -> int:
    """Return the crop offset in px that suits all models: the coarsest grid that one of them was trained on."""
    return int(max(card["settings"]["train"]["crop_align"] for card in cards.values()))


def require_fit_names(names: Iterable[str]) -> None:
    """Raise PipelineError for a model whose name cannot be that of its batches, arrays and reports."""
    for name in names:
        if name in TAKEN or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise PipelineError(
                f"a model cannot be called {name!r} here: its folder's name becomes that of arrays and files, so it "
                f"must be made of letters, digits, _, - and . and not be {' or '.join(TAKEN)}; rename the folder"
            )


def _require_calibration(card: Card, name: str) -> None:
    if not card.get("calibration"):
        raise PipelineError(f"the model of {name} has no calibration, so no quality can be asked of it; train it again")
    true_parameters(card, 0.5 / len(card["levels"]))  # the samples' severities are not known yet: there must be a dial
