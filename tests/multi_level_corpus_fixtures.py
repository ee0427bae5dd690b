"""Fixtures of multi-level corpora: two untrained severity-conditioned generators, and a corpus at three levels of each.

A test module takes them with `pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]`.
"""

import shutil

import numpy as np
import pytest
from corpus_fixtures import lenient
from small_models import INFERENCE_BATCH_SIZE, TILE_PX, change_card, write_model

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.files import arrays_digest
from distort_pipeline.models.store import WEIGHTS, load_generator, read_arrays, write_arrays
from distort_pipeline.steps import generate
from distort_pipeline.training.validation import calibrate

LAST_LAYER_GAIN = 40  # an untrained last layer hardly changes an image
LEARNED = {
    "jpeg": [{"quality": 40}, {"quality": 12}],
    "white_noise": [{"sigma_8bit": 8}, {"sigma_8bit": 19}],
}


@pytest.fixture(scope="session")
def multi_level_models(tmp_path_factory, histograms_of, truly):
    """Generators of two levels, `jpeg` and `white_noise`."""
    folder = tmp_path_factory.mktemp("multi_level")
    for name, noise_channels in (("jpeg", 0), ("white_noise", 3)):
        histograms = histograms_of(truly(name), lambda image: 255 - image // 3 * 2)
        write_model(folder / name, name, histograms, noise_channels=noise_channels, levels=2, parameters=LEARNED[name])
    return folder


@pytest.fixture(scope="session")
def calibrated_models(tmp_path_factory, multi_level_models, sample_images):
    """The same generators with an amplified last layer, calibrated as by training."""
    before = shutil.copytree(multi_level_models, tmp_path_factory.mktemp("amplified") / "models")
    after = tmp_path_factory.mktemp("calibrated")
    tiles = np.stack([image[:TILE_PX, :TILE_PX] for image in sample_images.values()])
    for name in LEARNED:
        weights, _ = read_arrays(before / name / WEIGHTS)
        amplified = {
            path: array * LAST_LAYER_GAIN if path.startswith("decoder_7") else array for path, array in weights.items()
        }
        write_arrays(before / name / WEIGHTS, amplified)
        change_card(before / name, weights_digest=arrays_digest(amplified))
        shutil.copytree(before / name, after / name)
        predictor = load_generator(before / name, batch_size=INFERENCE_BATCH_SIZE).predictor
        change_card(after / name, calibration=calibrate(predictor, tiles, range(len(tiles)), highest=0.5))
    return after


@pytest.fixture(scope="session")
def make_multi_level(small_manifest, multi_level_models, small_corpus_settings):
    """A function that makes a corpus of the multi-level generators with changed settings."""

    def run(out, *, models=multi_level_models, workers=None, **changes):
        config = GenerateConfig(**{**small_corpus_settings, **changes})
        with lenient():
            return generate.run(config, small_manifest, models, out, workers=workers)

    return run


@pytest.fixture(scope="session")
def multi_level_corpus(tmp_path_factory, make_multi_level):
    """A corpus of ten tiles, at three levels of two distortions: read-only for tests."""
    out = tmp_path_factory.mktemp("multi-level-corpus") / "corpus"
    make_multi_level(out, num_levels=3, count=60)
    return open_corpus(out)
