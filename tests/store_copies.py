"""Copies of finished stores, to be damaged.

A test module takes them with `pytest_plugins = ["corpus_fixtures", "store_copies"]`.
"""

import shutil

import pytest

from distort_pipeline.config import ExportConfig
from distort_pipeline.steps import export


@pytest.fixture
def model(models, tmp_path):
    """The folder of a copy of a model, to be damaged."""
    return shutil.copytree(models / "jpeg", tmp_path / "jpeg")


@pytest.fixture
def exported(finished_corpus, tmp_path):
    """The folder of a small export, to be damaged."""
    export.run(ExportConfig(limit=4, workers=0), finished_corpus, tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def pairs(pair_store, tmp_path):
    """The folder of a copy of a pair store, to be damaged."""
    return shutil.copytree(pair_store.folder, tmp_path / "pairs")
