"""The model card's record of the training: pairs, levels, validation figures and acceptance thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distort_pipeline.stores.models import KIND, VERSION, ValidationHistograms
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.training.validation import batch_thresholds

COLOURLESS = 1.0  # 8-bit levels, mean range of the channels: grey images after a codec stay below
CARD_BATCHES = (64, 256, 1024)  # batch sizes with a threshold in the card; others are computed when needed


def level_cards(
    recipes: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, float]],
    histograms: Sequence[ValidationHistograms],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the model card's entry for each level, weakest first: parameters, severity, figures and thresholds."""
    levels = zip(recipes, figures, histograms, strict=True)
    return [
        {
            "level": recipe["level"],
            "parameters": recipe["parameters"],
            "severity": rank / len(recipes),
            "figures": dict(level_figures),
            "thresholds_bits": batch_thresholds(level_histograms, sizes=CARD_BATCHES, seed=seed),
        }
        for rank, (recipe, level_figures, level_histograms) in enumerate(levels, start=1)
    ]


def origin(pairs: PairStore, recipes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the model card's entry on the distortion and the training pairs."""
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
            "grey": is_grey(pairs, recipes[0]["distortion"]),
        },
    }


def is_grey(pairs: PairStore, distortion: str) -> bool:
    """Return whether all pristine training tiles of `distortion` are grey; reads tiles up to the first colour."""
    array = pairs.array("train/pristine")
    slots = sorted({record.slot for record in pairs.records("train") if record.distortion == distortion})
    return all(np.ptp(array[0, slot], axis=-1).mean() < COLOURLESS for slot in slots)
