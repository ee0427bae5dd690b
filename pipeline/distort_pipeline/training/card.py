"""What a model card says of what was learned: from which pairs, at which levels, how well, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distort_pipeline.stores.models import KIND, VERSION, ValidationHistograms
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.validation import batch_thresholds

CARD_BATCHES = (64, 256, 1024)  # sizes of batch whose bound the card shows; others are drawn when needed


def level_cards(
    recipes: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, float]],
    histograms: Sequence[ValidationHistograms],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Return what a model card says of each level, weakest first: parameters, severity, figures and bounds."""
    found = zip(recipes, figures, histograms, strict=True)
    return [
        {
            "level": recipe["level"],
            "parameters": recipe["parameters"],
            "severity": rank / len(recipes),
            "figures": dict(own_figures),
            "thresholds_bits": batch_thresholds(own, sizes=CARD_BATCHES, seed=seed),
        }
        for rank, (recipe, own_figures, own) in enumerate(found, start=1)
    ]


def origin(pairs: PairStore, recipes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a model card says of what was learned, and from which pairs."""
    metadata = pairs.metadata
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        **{name: recipes[0][name] for name in ("distortion", "external")},
        "data": {
            "pairs_digest": metadata["digest"],
            "manifest_digest": metadata["manifest_digest"],
            "train_tiles": metadata["counts"]["train_tiles"],
            "val_images": metadata["counts"]["val_images"],
        },
    }
