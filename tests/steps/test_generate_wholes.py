"""A tile of JPEG 2000 has the quantisation step of its whole image, from the significance of the image."""

import numpy as np
import pytest

from distort_pipeline.commands.inputs import PRETRAINED, SAMPLE, resolve_inputs
from distort_pipeline.config import GenerateConfig, IngestConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.execution import Workers
from distort_pipeline.models.store import load_generator
from distort_pipeline.networks.wavelets import significance_of
from distort_pipeline.steps import generate

BATCH = 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return resolve_inputs(SAMPLE, tmp_path_factory.mktemp("significances") / "corpus", IngestConfig())[0]


@pytest.fixture(scope="module")
def make(manifest):
    def run(out, **settings):
        values = {"distortions": ("jp2k",), "tile_px": 256, "count": 4, "samples_per_shard": 4}
        values |= {"tiles_per_chunk": 2, "inference_batch_size": BATCH, "truth_images": 1}
        generate.run(GenerateConfig(**{**values, **settings}), manifest, PRETRAINED, out, workers=Workers(0))
        return open_corpus(out)

    return run


@pytest.fixture(scope="module")
def predictor():
    return load_generator(PRETRAINED / "jp2k", batch_size=BATCH).predictor


@pytest.fixture(scope="module")
def significance_of_image(manifest):
    def significance(record):
        (image,) = (candidate for candidate in read_manifest(manifest).records if candidate.id == record.image)
        return significance_of(read_ingested(read_manifest(manifest).root, image))[None]

    return significance


def test_a_sample_has_the_step_of_its_whole_image(make, predictor, significance_of_image, tmp_path):
    corpus = make(tmp_path / "corpus", severity=(0.5,))
    alone = 0
    for sample in map(corpus.__getitem__, range(4)):
        significance = significance_of_image(sample.record)
        arguments = [[sample.record.seed], [sample.record.severity]]
        generated = predictor.distort(sample.pristine[None], *arguments, significance)[0]
        np.testing.assert_array_equal(generated, sample.distorted)
        alone += (predictor.distort(sample.pristine[None], *arguments)[0] != generated).any()
    assert alone > 2  # with the significance of the tile alone, the output differs


def test_a_sample_with_a_target_has_the_step_of_its_whole_image(make, predictor, significance_of_image, tmp_path):
    corpus = make(tmp_path / "corpus", target={"ssim": (0.7, 0.85)})
    for sample in map(corpus.__getitem__, range(4)):
        significance = significance_of_image(sample.record)
        generated = predictor.distort(
            sample.pristine[None], [sample.record.seed], [sample.record.severity], significance
        )[0]
        np.testing.assert_array_equal(generated, sample.distorted)


def test_a_whole_image_needs_no_image_stats(make, tmp_path):
    corpus = make(tmp_path / "corpus", whole_images=True, count=1, severity=(0.5,))
    sample = corpus[0]
    generated = load_generator(PRETRAINED / "jp2k", batch_size=1).predictor.distort_image(
        sample.pristine, sample.record.seed, sample.record.severity
    )
    np.testing.assert_array_equal(generated, sample.distorted)
