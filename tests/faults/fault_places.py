"""A place with the sample's manifest, its pairs and a corpus, small enough to be made over and over.

A test module takes it with `pytest_plugins = ["corpus_fixtures", "fault_places"]`.
"""

import pytest
from commands import PathType

SETTINGS = {
    "ingest": {"val_count": 4},
    "pairs": {
        "tile_px": 128,
        "min_tile_px": 128,
        "tiles_per_image": 4,
        "tiles_per_shard": 4,
        "tiles_per_chunk": 2,
        "workers": 2,
    },
    "train": {
        "base_filters": 2,
        "discriminator_filters": 2,
        "crop_px": 128,
        "batch": 2,
        "steps": 60,
        "checkpoint_every": 5,
        "validate_every": 30,
        "validation_tiles": 2,
        "threads": 1,
    },
    "generate": {
        "count": 320,
        "tile_px": 128,
        "samples_per_shard": 16,
        "tiles_per_chunk": 4,
        "inference_batch_size": 8,
        "truth_images": 1,
        "workers": 2,
    },
    "export": {"workers": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, sample):
    """A place with the sample's manifest and its pairs."""
    found = PathType(tmp_path_factory.mktemp("place"), SETTINGS)
    found.made("ingest", sample, "--out", "manifest.jsonl")
    return found


@pytest.fixture(scope="module")
def placed_pairs(place):
    place.made("pairs", "manifest.jsonl", "--out", "pairs")
    return place.folder / "pairs"


@pytest.fixture(scope="module")
def placed_corpus(place, models):
    place.made("generate", "--models", models, "--out", "corpus")
    return place.folder / "corpus"
