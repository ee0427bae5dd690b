"""Models of random weights in the format of trained models, at equal cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import cut_tiles
from distort_pipeline.data.files import sealed, write_bytes, write_json
from distort_pipeline.metrics.nss_features import product_histogram
from distort_pipeline.models.store import (
    VERSION,
    WEIGHTS,
    ValidationHistograms,
    arrays_digest,
    write_arrays,
    write_histograms,
)
from distort_pipeline.records import digest

TILE_PX = 256
PARAMETERS: dict[str, dict[str, float]] = {
    "jpeg": {"quality": 12},
    "jp2k": {"ratio": 150},
    "white_noise": {"sigma_8bit": 19},
    "pink_noise": {"sigma_8bit": 25},
}


def write_model(folder: Path, filters: int, images: list[NDArray[np.uint8]], *, noise_channels: int = 0) -> None:
    """Write a model of random weights into `folder`, whose name is that of its distortion."""
    import keras

    from distort_pipeline.models.store import weights_of
    from distort_pipeline.networks.generator import build_generator
    from distort_pipeline.training.validation import summary

    keras.utils.set_random_seed(0)
    weights = weights_of(build_generator(base_filters=filters, noise_channels=noise_channels))
    counts = np.stack([product_histogram(tile) for tile in cut_tiles(images, 16, TILE_PX)])
    histograms = ValidationHistograms(counts, counts, counts, np.repeat(np.arange(4), 4), TILE_PX)
    settings = {"format": "model", "version": 1, "distortion": folder.name, "train": {"crop_align": 16}}
    write_arrays(folder / WEIGHTS, weights)
    write_histograms(folder, [histograms])
    write_bytes(folder / "README.md", b"# Generator\n")
    card = {
        "format": "distort-pipeline/model",
        "version": VERSION,
        "distortion": folder.name,
        "levels": [
            {"level": 1, "parameters": PARAMETERS[folder.name], "severity": 1.0, "figures": summary(histograms)}
        ],
        "external": False,
        "network": {"base_filters": filters, "noise_channels": noise_channels},
        "settings": settings,
        "steps": 0,
        "figures": summary(histograms),
        "weights_digest": arrays_digest(weights),
        "config_hash": digest(settings),
    }
    write_json(folder / "store.json", sealed(card))
