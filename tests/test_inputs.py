import shutil

import pytest

from distort_pipeline.builtin import STARTERS, sample_folder, starter
from distort_pipeline.config import IngestConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.inputs import manifest_of, models_or_starters
from distort_pipeline.stores.manifests import read_manifest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_ingested_beside_the_corpus(elsewhere):
    (elsewhere / "photos").mkdir()
    for path in sorted(sample_folder().glob("*.png"))[:3]:
        shutil.copy(path, elsewhere / "photos")
    made = manifest_of(elsewhere / "photos", elsewhere / "corpus", IngestConfig())
    assert made == elsewhere / "corpus.manifest.jsonl"
    assert len(read_manifest(made).records) == 3


def test_a_manifest_is_taken_as_it_is_and_the_one_in_this_folder_without_being_named(elsewhere):
    manifest_of(sample_folder(), elsewhere / "first", IngestConfig()).rename(elsewhere / "manifest.jsonl")
    assert (
        manifest_of(elsewhere / "manifest.jsonl", elsewhere / "corpus", IngestConfig()) == elsewhere / "manifest.jsonl"
    )
    assert manifest_of(None, elsewhere / "corpus", IngestConfig()).resolve() == elsewhere / "manifest.jsonl"


def test_where_nothing_is_named_the_built_in_photographs_are_taken(elsewhere, capsys):
    made = manifest_of(None, elsewhere / "corpus", IngestConfig())
    assert len(read_manifest(made).records) == 20
    assert "the built-in sample" in capsys.readouterr().err


def test_starters_stand_in_for_models_that_are_not_there(elsewhere, capsys):
    assert models_or_starters(None) == STARTERS
    assert "starter generators" in capsys.readouterr().err
    (elsewhere / "models").mkdir()
    assert models_or_starters(None).name == "models"
    assert models_or_starters(elsewhere / "others") == elsewhere / "others"


def test_a_starter_that_there_is_none_of_is_said_so():
    with pytest.raises(PipelineError, match="no starter generator of sepia"):
        starter("sepia")
