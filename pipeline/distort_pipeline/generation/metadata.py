"""The metadata of a corpus: settings, models, and counts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.backend import backend_name
from distort_pipeline.config import RUNTIME_ONLY
from distort_pipeline.distortions import codec_versions
from distort_pipeline.planning.conditions import Condition
from distort_pipeline.planning.corpora import CorpusPlan, overlap
from distort_pipeline.records import ImageRecord, SampleRecord, digest
from distort_pipeline.stores.corpora import KIND, VERSION
from distort_pipeline.stores.files import Ledger
from distort_pipeline.stores.tables import read_table
from distort_pipeline.trained import is_stochastic, learned_levels
from distort_pipeline.versions import package_versions

Cards = Mapping[str, dict[str, Any]]


def content_settings(values: Mapping[str, Any], cards: Cards, manifest_digest: str) -> dict[str, Any]:
    """Return all settings with an effect on the bytes of the corpus; `values` are of the section `generate`."""
    return {
        "format": KIND,
        "version": VERSION,
        "generate": {name: value for name, value in values.items() if name not in RUNTIME_ONLY},
        "models": {name: card["weights_digest"] for name, card in cards.items()},
        "manifest_digest": manifest_digest,
        "codecs": codec_versions([card["distortion"] for card in cards.values() if not card["external"]]),
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


def _model_metadata(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "digest": card["weights_digest"],
        "steps": card["steps"],
        "levels": [dataclasses.asdict(level) for level in learned_levels(card)],
        "random": is_stochastic(card),
        "grey": bool(card.get("data", {}).get("grey")),
    }
