"""A working folder with the sample's manifest, its pairs and a corpus, small enough for many runs.

Test modules use it with `pytest_plugins = ["corpus_fixtures", "fault_workdirs"]`.
"""

import pytest
from commands import Workdir

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
        "batch_size": 2,
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
    "export": {"workers": 2, "allow_flagged": True},
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, sample):
    """A working folder with the sample's manifest."""
    folder = Workdir(tmp_path_factory.mktemp("workdir"), SETTINGS)
    folder.succeed("ingest", sample, "--out", "manifest.jsonl")
    return folder


@pytest.fixture(scope="module")
def workdir_pairs(workdir):
    workdir.succeed("pairs", "manifest.jsonl", "--out", "pairs")
    return workdir.folder / "pairs"


@pytest.fixture(scope="module")
def workdir_corpus(workdir, models):
    workdir.succeed("generate", "--models", models, "--out", "corpus")
    return workdir.folder / "corpus"
