import csv
import hashlib
import os

import cv2
import numpy as np
import pytest

from distort_pipeline.exports import EXPORTS, Part
from distort_pipeline.exports.png_folder import PngFolder
from distort_pipeline.stores.corpora import open_corpus

pytest_plugins = ["corpus_fixtures"]


def read_png(path):
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


@pytest.fixture
def parts():
    """The beginning of one batch and one whole batch, whose reference tiles they share."""
    return (Part("jpeg-00000", "jpeg", 3, (0, 1, 2)), Part("white_noise-00000", "white_noise", 8, (3, 4, 5, 6, 7)))


@pytest.fixture
def written(corpus, parts, tmp_path):
    """What the format wrote of the parts."""
    for part in parts:
        PngFolder().write_part(corpus, part, tmp_path)
    PngFolder().finish(corpus, parts, tmp_path)
    return tmp_path


def test_the_format_is_registered():
    assert EXPORTS.get("png_folder") is PngFolder


def test_each_part_writes_its_samples_and_its_new_tiles_and_says_so(corpus, parts, tmp_path):
    for part in parts:
        before = set(tmp_path.rglob("*.png"))
        files = PngFolder().write_part(corpus, part, tmp_path)
        assert set(files) == set(tmp_path.rglob("*.png")) - before
        assert len(files) == part.samples + len(part.new_tiles)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names[:3] == [f"distorted/jpeg/{number:08d}.png" for number in range(3)]
    assert names[3:11] == [f"distorted/white_noise/{number:08d}.png" for number in range(20, 28)]
    assert names[11:] == [f"pristine/{number:08d}.png" for number in range(8)]


def test_a_part_written_again_gives_the_same_files(corpus, parts, tmp_path):
    first = [path.read_bytes() for path in PngFolder().write_part(corpus, parts[0], tmp_path)]
    assert [path.read_bytes() for path in PngFolder().write_part(corpus, parts[0], tmp_path)] == first


def test_the_table_leads_to_the_very_pixels_of_the_corpus(written, corpus):
    with (written / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == [0, 1, 2, *range(20, 28)]
    assert list(rows[0])[:6] == ["file_name", "reference", "distortion", "level", "sample", "tile"]
    for row in rows:
        sample = corpus[int(row["sample"])]
        np.testing.assert_array_equal(read_png(written / row["file_name"]), sample.distorted)
        np.testing.assert_array_equal(read_png(written / row["reference"]), sample.pristine)
        for name in ("distortion", "picture", "split", "model", "pixel_digest"):
            assert row[name] == getattr(sample.record, name)
        assert int(row["seed"]) == sample.record.seed  # more digits than a float has
        for name in ("level", "tile", "y", "x", "height", "width", "draw", "psnr", "ssim", "clipped"):
            assert float(row[name]) == getattr(sample.record, name)
        shape = repr(sample.distorted.shape).encode()
        pixels = read_png(written / row["file_name"]).tobytes()
        assert hashlib.sha256(shape + pixels).hexdigest() == row["pixel_digest"]


def test_a_label_that_is_not_there_is_an_empty_cell(written, corpus, parts, monkeypatch):
    import dataclasses

    record = dataclasses.replace(corpus.records[0], psnr=None)
    monkeypatch.setattr(Part, "records", lambda *_: [record])
    PngFolder().finish(corpus, parts[:1], written)
    with (written / "metadata.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["psnr"] == ""


def test_the_readme_says_what_lies_here_and_what_does_not(written, corpus):
    text = (written / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# 11 distorted pictures of 8 pristine ones")
    assert corpus.header["digest"] in text
    for name, samples in (("jpeg", 3), ("white_noise", 8)):
        assert f"| {name} | {samples} |" in text
        assert corpus.header["models"][name]["digest"] in text
    assert "There are no human scores here" in text
    assert "MOS" not in text
    assert "- CC0-1.0: 5" in text
    assert (written / "LICENCES.csv").read_text(encoding="utf-8") == "licence,pictures\nCC0-1.0,5\n"
    assert os.sep + "tmp" not in text


def test_whole_pictures_are_written_too(small_manifest, models, small_corpus_settings, tmp_path):
    from distort_pipeline.config import GenerateConfig
    from distort_pipeline.steps import generate

    settings = {**small_corpus_settings, "whole_pictures": True, "count": 2, "distortions": ("jpeg",)}
    generate.run(GenerateConfig(**settings), small_manifest, models, tmp_path / "c")
    whole = open_corpus(tmp_path / "c")
    files = PngFolder().write_part(whole, Part("jpeg-00000", "jpeg", 2, (0, 1)), tmp_path / "out")
    for number in range(2):
        np.testing.assert_array_equal(read_png(files[number]), whole[number].pristine)
        np.testing.assert_array_equal(read_png(files[2 + number]), whole[number].distorted)
