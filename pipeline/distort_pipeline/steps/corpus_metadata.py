"""The metadata of a corpus: settings, models, and counts."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.config import RUNTIME_ONLY
from distort_pipeline.data.conditions import COMPOSITE_SEPARATOR, SEVERITY, Condition, build_conditions
from distort_pipeline.data.corpora import KIND, VERSION
from distort_pipeline.data.files import Ledger
from distort_pipeline.data.plans import CorpusPlan, overlap
from distort_pipeline.data.tables import read_table
from distort_pipeline.distortions import codec_versions
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.models.card import ModelCard, composite_parameters
from distort_pipeline.networks.backend import backend_name
from distort_pipeline.records import ImageRecord, SampleRecord, digest
from distort_pipeline.versions import package_versions

Cards = Mapping[str, ModelCard]


def content_settings(values: Mapping[str, Any], cards: Cards, manifest_digest: str) -> dict[str, Any]:
    """Return all settings with an effect on the bytes of the corpus; `values` are of the section `generate`."""
    return {
        "format": KIND,
        "version": VERSION,
        "generate": {name: value for name, value in values.items() if name not in RUNTIME_ONLY},
        "models": {name: card.weights_digest for name, card in cards.items()},
        "manifest_digest": manifest_digest,
        "codecs": codec_versions([card.distortion for card in cards.values() if not card.external]),
    }


def used_images(plan: CorpusPlan, images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return the `images` with a tile in the plan, in their order."""
    used = {tile.image.image_digest for tile in plan.tiles}
    return [image for image in images if image.image_digest in used]


def corpus_metadata(
    work: Path, settings: Mapping[str, Any], plan: CorpusPlan, cards: Cards, images: Sequence[ImageRecord]
) -> dict[str, Any]:
    """Return the metadata of the finished corpus in the folder `work`, cut from `images`."""
    generate = settings["generate"]
    shards = plan.tile_shards(generate["samples_per_shard"])
    names = [batch.name for batch in plan.batches]
    entries = Ledger(work).entries(shards + names)
    records = read_table([work / "records" / f"{name}.parquet" for name in names], SampleRecord)
    batch_sizes: dict[Condition, list[int]] = {}  # condition → samples of each batch
    for batch in plan.batches:
        batch_sizes.setdefault(batch.condition, []).append(len(batch.samples))
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        "digest": digest([settings, [entry["digest"] for entry in entries]]),
        "settings": settings,
        "tile_px": None if generate["whole_images"] else generate["tile_px"],
        "tile_shards": len(shards),
        "conditions": {condition.name: _condition_metadata(condition) for condition in batch_sizes},
        "samples": {condition.name: sum(sizes) for condition, sizes in batch_sizes.items()},
        "batches": {condition.name: len(sizes) for condition, sizes in batch_sizes.items()},
        "counts": {
            "samples": len(records),
            "tiles": len(plan.tiles),
            "tiles_available": plan.available_tiles,
            "images": len({image.image_digest for image in images}),
            "batches": len(names),
            "flagged": sum(not entry.get("accepted", True) for entry in entries),
            "duplicates": len(records) - len(records.column("pixel_digest").unique()),
        },
        "overlap": overlap(plan.tiles, align_px=generate["crop_align"]),
        "models": {name: _model_metadata(card) for name, card in cards.items()},
        "licences": dict(Counter(image.licence for image in images)),
        "packages": package_versions([backend_name(), "keras", "numpy", "zarr", "distort-pipeline"]),
        "codecs": settings["codecs"],
        "manifest_digest": settings["manifest_digest"],
    }


def _condition_metadata(condition: Condition) -> dict[str, Any]:
    return {
        "distortion": condition.distortion,
        "models": list(condition.models),
        "level": condition.level,
        "request": dataclasses.asdict(condition.request),
        "sample_truths": not condition.fixed_severity,
    }


def _model_metadata(card: ModelCard) -> dict[str, Any]:
    return {
        "digest": card.weights_digest,
        "steps": card.steps,
        "levels": [
            {"level": level.level, "parameters": level.parameters, "severity": level.severity} for level in card.levels
        ],
        "random": card.is_stochastic,
        "grey": card.data.grey,
    }


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
    cards: Cards,
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
        name for composite in composites for name in composite.split(COMPOSITE_SEPARATOR) if cards[name].external
    ]
    if external:
        raise PipelineError(
            f"--composite cannot contain {external[0]}, a model of external pairs: its true distortion cannot be "
            "computed for other images"
        )
    conditions = build_conditions(
        {name: card.capabilities for name, card in cards.items()},
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


def trained_align(cards: Cards) -> int:
    """Return the crop alignment in px for all models: the coarsest alignment in their training."""
    return max(card.crop_align for card in cards.values())


def require_fit_names(names: Iterable[str]) -> None:
    """Raise PipelineError for a model with a name unfit for batches, arrays and reports."""
    for name in names:
        if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise PipelineError(
                f"{name!r} cannot be the name of a model: arrays and files take the name of its folder, so only "
                f"letters, digits, _, - and . are allowed, and not {' or '.join(RESERVED)}; rename the folder"
            )


def _require_calibration(card: ModelCard, name: str) -> None:
    if not card.calibration:
        raise PipelineError(f"--target needs a calibration, and the model of {name} has none; train it again")
    card.true_parameters(0.5 / len(card.levels))  # any severity may be requested: needs a severity scale
