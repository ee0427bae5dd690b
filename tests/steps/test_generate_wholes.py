"""A tile of JPEG 2000 is distorted as its image would have been: with the step that the whole of it leads to."""

import numpy as np
import pytest

from distort_pipeline.assets import PRETRAINED, sample_folder
from distort_pipeline.config import GenerateConfig, IngestConfig
from distort_pipeline.execution import Workers
from distort_pipeline.inputs import resolve_inputs
from distort_pipeline.steps import generate
from distort_pipeline.stores.corpora import open_corpus
from distort_pipeline.stores.ingested import read_ingested
from distort_pipeline.stores.manifests import read_manifest
from distort_pipeline.trained import load_generator
from distort_pipeline.wavelets.significance import significance_of

BATCH = 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return resolve_inputs(sample_folder(), tmp_path_factory.mktemp("significances") / "corpus", IngestConfig())


@pytest.fixture(scope="module")
def make(manifest):
    def made(out, **settings):
        values = {"distortions": ("jp2k",), "tile_px": 256, "count": 8, "samples_per_shard": 6}
        values |= {"tiles_per_chunk": 2, "inference_batch_size": BATCH}
        generate.run(GenerateConfig(**{**values, **settings}), manifest, PRETRAINED, out, workers=Workers(0))
        return open_corpus(out)

    return made


@pytest.fixture(scope="module")
def predictor():
    return load_generator(PRETRAINED / "jp2k", batch_size=BATCH).predictor


@pytest.fixture(scope="module")
def whole_of(manifest):
    def whole(record):
        (image,) = (one for one in read_manifest(manifest).records if one.id == record.image)
        return significance_of(read_ingested(read_manifest(manifest).root, image))[None]

    return whole


def test_a_sample_has_the_step_of_its_whole_photograph(make, predictor, whole_of, tmp_path):
    corpus = make(tmp_path / "corpus")
    alone = 0
    for sample in map(corpus.__getitem__, range(8)):
        whole = whole_of(sample.record)
        told = [[sample.record.seed], [sample.record.severity]]
        made = predictor.distort(sample.pristine[None], *told, whole)[0]
        np.testing.assert_array_equal(made, sample.distorted)
        alone += (predictor.distort(sample.pristine[None], *told)[0] != made).any()
    assert alone > 4  # taken for wholes, tiles would be distorted otherwise


def test_so_it_is_where_a_quality_is_asked_for(make, predictor, whole_of, tmp_path):
    corpus = make(tmp_path / "corpus", target={"ssim": (0.7, 0.85)})
    for sample in map(corpus.__getitem__, range(8)):
        whole = whole_of(sample.record)
        made = predictor.distort(sample.pristine[None], [sample.record.seed], [sample.record.severity], whole)[0]
        np.testing.assert_array_equal(made, sample.distorted)


def test_a_whole_image_needs_to_be_told_nothing(make, tmp_path):
    corpus = make(tmp_path / "corpus", whole_images=True, count=2)
    for sample in map(corpus.__getitem__, range(2)):
        made = load_generator(PRETRAINED / "jp2k", batch_size=1).predictor.distort_image(
            sample.pristine, sample.record.seed, sample.record.severity
        )
        np.testing.assert_array_equal(made, sample.distorted)
