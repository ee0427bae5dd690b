"""Fixtures for corpora: untrained generators in the form of trained ones, and their corpus, once a session.

A test module takes them with `pytest_plugins = ["corpus_fixtures"]`.
"""

import math
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from small_models import INFERENCE_BATCH_SIZE, PARAMETERS, TILE_PX, write_model

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.jsd_nss import product_histogram
from distort_pipeline.models.store import ValidationHistograms
from distort_pipeline.records import Judgement, make_rng
from distort_pipeline.steps import generate


@contextmanager
def lenient():
    """Let batches of untrained generators be accepted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judgement, "accepted", property(lambda each: math.isfinite(each.difference)))
        yield


@pytest.fixture(scope="session")
def histograms_of(sample_images):
    """A function that returns validation histograms of a `true` and a `generated` distortion."""
    tiles = [
        image[y : y + TILE_PX, x : x + TILE_PX]
        for image in sample_images.values()
        for y, x in ((0, 0), (0, 128), (64, 64), (70, 128))
    ]
    images = np.repeat(np.arange(len(sample_images)), 4)

    def make(true, generated):
        rows = [np.stack([product_histogram(change(tile)) for tile in tiles]) for change in (np.copy, true, generated)]
        return ValidationHistograms(*rows, images, TILE_PX)

    return make


@pytest.fixture(scope="session")
def truly():
    """A function that returns a true distortion as a function of the image."""
    return lambda name: lambda image: apply(name, image, PARAMETERS[name], make_rng(1)).image


@pytest.fixture(scope="session")
def models(tmp_path_factory, histograms_of, truly):
    """Two generators, deterministic `jpeg` and stochastic `white_noise`."""
    folder = tmp_path_factory.mktemp("models")
    for name, noise_channels in (("jpeg", 0), ("white_noise", 3)):
        histograms = histograms_of(truly(name), lambda image: 255 - image // 3 * 2)
        write_model(folder / name, name, histograms, noise_channels=noise_channels)
    return folder


@pytest.fixture(scope="session")
def small_corpus_settings():
    """Settings for 40 samples in batches of 8."""
    return {
        "count": 40,
        "tile_px": TILE_PX,
        "samples_per_shard": 8,
        "tiles_per_chunk": 4,
        "inference_batch_size": INFERENCE_BATCH_SIZE,
        "truth_images": 1,
        "workers": 0,
    }


@pytest.fixture(scope="session")
def finished_corpus(tmp_path_factory, small_manifest, models, small_corpus_settings):
    """The folder of a finished corpus: read-only for tests."""
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    with lenient():
        generate.run(GenerateConfig(**small_corpus_settings), small_manifest, models, out)
    return out


@pytest.fixture(scope="session")
def corpus(finished_corpus):
    """The finished corpus, opened."""
    return open_corpus(finished_corpus)


@pytest.fixture(scope="session")
def whole_corpus(tmp_path_factory, small_manifest, models, small_corpus_settings):
    """The folder of a corpus of two whole images."""
    out = tmp_path_factory.mktemp("whole") / "corpus"
    settings = {**small_corpus_settings, "whole_images": True, "count": 2, "distortions": ("jpeg",)}
    with lenient():
        generate.run(GenerateConfig(**settings), small_manifest, models, out)
    return out


@pytest.fixture
def damaged(finished_corpus, tmp_path):
    """The folder of a copy of the finished corpus, to be damaged."""
    return shutil.copytree(finished_corpus, tmp_path / "corpus")
