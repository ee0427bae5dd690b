"""Models of random weights in the format of trained models, at equal cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import cut_tiles
from distort_pipeline.data.files import arrays_digest, sealed, write_bytes, write_json
from distort_pipeline.metrics.jsd_nss import product_histogram
from distort_pipeline.models.card import (
    VERSION,
    LearnedLevel,
    ModelCard,
    NetworkCard,
    TrainingData,
    TrainingSettings,
)
from distort_pipeline.models.store import WEIGHTS, ValidationHistograms, write_arrays, write_histograms
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
    from distort_pipeline.networks.generator import Architecture, build_generator
    from distort_pipeline.training.validation import figures_of

    keras.utils.set_random_seed(0)
    weights = weights_of(build_generator(Architecture(base_filters=filters, noise_channels=noise_channels)))
    counts = np.stack([product_histogram(tile) for tile in cut_tiles(images, 16, TILE_PX)])
    histograms = ValidationHistograms(counts, counts, counts, np.repeat(np.arange(4), 4), TILE_PX)
    write_arrays(folder / WEIGHTS, weights)
    write_histograms(folder, [histograms])
    write_bytes(folder / "README.md", b"# Generator\n")
    figures = figures_of(histograms, delta_psnr_db=0.0)
    card = ModelCard(
        distortion=folder.name,
        external=False,
        data=TrainingData("random", "random", 0, 0),
        levels=(LearnedLevel(1, PARAMETERS[folder.name], 0.5, figures),),
        network=NetworkCard(filters, noise_channels),
        explained={},
        settings=TrainingSettings("model", VERSION, folder.name, {"crop_align": 16}, "random", None),
        steps=0,
        kept_step=0,
        figures=figures,
        weights_digest=arrays_digest(weights),
        device="CPU",
        packages={},
    )
    write_json(folder / "store.json", sealed({**card.metadata(), "config_hash": digest(folder.name)}))
