"""Digests, counts and figures in stores are those of the stored pixels and records."""

import pytest

from distort_pipeline.data.arrays import pixel_digest
from distort_pipeline.data.corpora import PRISTINE, distorted_array, open_corpus
from distort_pipeline.data.corpus_pixels import read_truth_arrays
from distort_pipeline.data.files import arrays_digest
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import read_arrays, read_histograms
from distort_pipeline.records import digest_rows
from distort_pipeline.training.validation import figures_of

pytest_plugins = ["corpus_fixtures"]


def test_of_a_corpus(finished_corpus):
    corpus = open_corpus(finished_corpus)
    size, first = corpus.metadata.settings.samples_per_shard, 0
    for entry in corpus.ledger():
        name, number = entry["shard"].rsplit("-", 1)
        column, count = (PRISTINE, entry["tiles"]) if name == "tiles" else (distorted_array(name), entry["samples"])
        images = list(corpus.images(column, range(int(number) * size, int(number) * size + count)))
        assert entry["pixels"] == pixel_digest(images)
        if name == "tiles":
            records = corpus.tiles()[int(number) * size : int(number) * size + count]
            assert arrays_digest(read_truth_arrays(finished_corpus, entry["shard"])) == entry["truth"]
        else:
            records = corpus.batch_records(entry["shard"])
            assert [record.pixel_digest for record in records] == [pixel_digest([image]) for image in images]
            first += count
        assert entry["records"] == digest_rows(records)
    counts = corpus.metadata.counts
    assert counts.samples == first == len(corpus.records)
    assert counts.duplicates == first - len({record.pixel_digest for record in corpus.records})
    assert counts.images == len({tile.image_digest for tile in corpus.tiles()})


def test_of_a_pair_store(pair_store):
    size = pair_store.metadata.settings["pairs"]["tiles_per_shard"]
    columns = [("pristine", "train/pristine", 0)] + [
        (f"{recipe.distortion}-{recipe.level}", f"train/{recipe.distortion}", recipe.level_index)
        for recipe in pair_store.metadata.recipes
    ]
    for entry in pair_store.ledger():
        split, number = entry["shard"].rsplit("-", 1)
        if split == "train":
            slots = slice(int(number) * size, int(number) * size + entry["tiles"])
            for column, array, level in columns:
                assert entry["arrays"][column] == pixel_digest([pair_store.array(array)[level, slots]])
    assert sum(entry["pairs"] for entry in pair_store.ledger()) == pair_store.metadata.counts.pairs


@pytest.mark.parametrize("name", ["jpeg", "white_noise"])
def test_of_a_model(models, name):
    card = read_card(models / name)
    weights, _ = read_arrays(models / name / "generator.safetensors")
    assert arrays_digest(weights) == card.weights_digest
    for level, histograms in zip(card.levels, read_histograms(models / name), strict=True):
        assert level.figures == figures_of(histograms, delta_psnr_db=level.figures.delta_psnr_db)
