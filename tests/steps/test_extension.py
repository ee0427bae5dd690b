"""A finished corpus is extended: its shards stay as they are, byte for byte, and the new samples follow."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from distort_pipeline.cli import main
from distort_pipeline.config import ExportConfig, GenerateConfig
from distort_pipeline.data.builds import restore_replaced
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import export, generate

pytest_plugins = ["corpus_fixtures"]

KEPT = ("pixels.zarr", "records", "reports", "truth", "ledger")  # folders of samples


@pytest.fixture(scope="module")
def extended(tmp_path_factory, finished_corpus, small_manifest, models, small_corpus_settings):
    """The corpus of 40 samples, extended to 47."""
    out = shutil.copytree(finished_corpus, tmp_path_factory.mktemp("extended") / "corpus")
    config = GenerateConfig(**{**small_corpus_settings, "count": 47})
    report = generate.run(config, small_manifest, models, out)
    assert report.counts["samples"] == 47
    return out


def test_the_earlier_samples_stay_byte_for_byte(finished_corpus, extended):
    files = [path for folder in KEPT for path in (finished_corpus / folder).rglob("*") if path.is_file()]
    kept = [path for path in files if path.name != "zarr.json"]  # the length of an array grows
    assert len(kept) > 30
    for path in kept:
        assert (extended / path.relative_to(finished_corpus)).read_bytes() == path.read_bytes(), path


def test_the_new_samples_follow_and_are_of_other_tiles(corpus, extended):
    longer = open_corpus(extended)
    assert (len(corpus), len(longer)) == (40, 47)
    assert longer.metadata.samples == {"jpeg": 24, "white_noise": 23}
    assert [record.sample for record in longer.records] == list(range(47))
    assert longer.records[:40] == corpus.records
    assert [longer.record(index) for index in range(47)] == longer.records
    for index in (0, 19, 20, 39):
        np.testing.assert_array_equal(longer[index].distorted, corpus[index].distorted)
    new = longer[38:47]
    for at, index in enumerate(range(38, 47)):
        np.testing.assert_array_equal(new.distorted[at], longer[index].distorted)
        np.testing.assert_array_equal(new.pristine[at], longer[index].pristine)
        assert new.distorted[at].std() > 5  # no gap between shards is read
    jpeg = [(record.image, record.y, record.x) for record in longer.records if record.distortion == "jpeg"]
    assert len(set(jpeg)) == 24


def test_it_is_verified_exported_and_complete(extended, tmp_path, small_manifest, models, small_corpus_settings):
    assert CliRunner().invoke(main, ["verify", str(extended)]).exit_code == 0
    report = export.run(ExportConfig(format="png_folder", workers=0, allow_flagged=True), extended, tmp_path / "files")
    assert report.counts["samples"] == 47
    again = generate.run(GenerateConfig(**{**small_corpus_settings, "count": 47}), small_manifest, models, extended)
    assert "already complete" in again.lines[0]


def test_a_kill_while_it_takes_its_place_loses_nothing(extended, tmp_path):
    shutil.copytree(extended, tmp_path / ".corpus.replaced.building")
    restore_replaced(tmp_path / "corpus")
    assert len(open_corpus(tmp_path / "corpus")) == 47


def test_a_damaged_extended_corpus_is_repaired(extended, tmp_path, small_manifest, models):
    out = shutil.copytree(extended, tmp_path / "corpus")
    (out / "records" / "jpeg-00003.parquet").unlink()
    words = ["verify", str(out), "--repair", "--manifest", str(small_manifest), "--models", str(models)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert open_corpus(out).records == open_corpus(extended).records


def test_a_corpus_can_only_grow_and_only_with_the_same_settings(
    extended, small_manifest, models, small_corpus_settings
):
    fewer = GenerateConfig(**{**small_corpus_settings, "count": 45})
    with pytest.raises(PipelineError, match="--count 45 is less than the 47 samples of the finished corpus"):
        generate.run(fewer, small_manifest, models, extended)
    (extended / "labels").mkdir()
    with pytest.raises(PipelineError, match="has labels, which would lack the new samples"):
        generate.run(GenerateConfig(**{**small_corpus_settings, "count": 50}), small_manifest, models, extended)
    other = GenerateConfig(**{**small_corpus_settings, "count": 50, "seed": 1})
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        generate.run(other, small_manifest, models, extended)


def test_a_corpus_at_one_level_does_not_grow_to_several(small_manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "generate",
        str(small_manifest),
        "--tile-px",
        "128",
        "--distortions",
        "jpeg",
        "--workers",
        "0",
        "--out",
        "c",
    ]
    assert CliRunner().invoke(main, [*words, "--count", "2"]).exit_code == 0
    assert {record.level for record in open_corpus(tmp_path / "c").records} == {3}  # the default one
    grown = CliRunner().invoke(main, [*words, "--count", "10"])
    assert grown.exit_code == 2
    assert "began with 2 samples, at one level of each model" in grown.stderr
