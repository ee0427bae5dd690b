"""A corpus in an object store of fsspec other than S3: the one that lives in this process."""

import numpy as np
from corpus_fixtures import lenient

from distort_pipeline.commands.verify import verify
from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.remote import as_path
from distort_pipeline.steps import generate

pytest_plugins = ["corpus_fixtures"]


def test_a_corpus_is_made_read_and_verified(small_manifest, models, small_corpus_settings, corpus):
    url = "memory://bucket/corpus"
    with lenient():
        generate.run(GenerateConfig(**small_corpus_settings), small_manifest, models, as_path(url))
    remote = open_corpus(url)
    assert remote.metadata.digest == corpus.metadata.digest
    for index in (0, 21, 39):
        np.testing.assert_array_equal(remote[index].distorted, corpus[index].distorted)
        np.testing.assert_array_equal(remote[index].pristine, corpus[index].pristine)
    assert verify(as_path(url)).problems == ()
    assert not [path for path in as_path("memory://bucket").iterdir() if path.name.endswith(".lease")]
