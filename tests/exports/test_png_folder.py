import csv
import hashlib

import cv2
import numpy as np
import pytest

from distort_pipeline.exports import EXPORTS, ExportSource, Part
from distort_pipeline.exports.croissant import write_documents
from distort_pipeline.exports.png_folder import PngFolder

pytest_plugins = ["corpus_fixtures"]


def read_png(path):
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


@pytest.fixture
def parts():
    """The beginning of a batch and a whole batch with shared reference tiles."""
    return (
        Part("jpeg-00000", "jpeg", (0, 1, 2), (0, 1, 2)),
        Part("white_noise-00000", "white_noise", tuple(range(8)), (3, 4, 5, 6, 7)),
    )


@pytest.fixture
def source(finished_corpus):
    return ExportSource(finished_corpus, "ssim")


@pytest.fixture
def written(source, parts, tmp_path):
    """The folder of the exported parts."""
    for part in parts:
        PngFolder().write_part(source, part, tmp_path)
    write_documents(PngFolder(), source, parts, tmp_path, "png_folder", date=None)
    return tmp_path


def test_the_format_is_registered():
    assert EXPORTS.get("png_folder") is PngFolder


def test_each_part_writes_and_returns_its_samples_and_its_new_tiles(source, parts, tmp_path):
    for part in parts:
        before = set(tmp_path.rglob("*.png"))
        files = PngFolder().write_part(source, part, tmp_path)
        assert set(files) == set(tmp_path.rglob("*.png")) - before
        assert len(files) == part.samples + len(part.new_tiles)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names[:3] == [f"distorted/jpeg/{number:08d}.png" for number in range(3)]
    assert names[3:11] == [f"distorted/white_noise/{number:08d}.png" for number in range(20, 28)]
    assert names[11:] == [f"pristine/{number:08d}.png" for number in range(8)]


def test_the_table_leads_to_the_pixels_of_the_corpus(written, corpus):
    with (written / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == [0, 1, 2, *range(20, 28)]
    assert list(rows[0])[:6] == ["file_name", "reference", "distortion", "level", "severity", "sample"]
    for row in rows:
        sample = corpus[int(row["sample"])]
        np.testing.assert_array_equal(read_png(written / row["file_name"]), sample.distorted)
        np.testing.assert_array_equal(read_png(written / row["reference"]), sample.pristine)
        for name in ("distortion", "image", "split", "model", "pixel_digest"):
            assert row[name] == getattr(sample.record, name)
        assert int(row["seed"]) == sample.record.seed  # more digits than a float has
        for name in ("level", "tile", "y", "x", "height", "width", "draw", "clipped"):
            assert float(row[name]) == getattr(sample.record, name)
        assert float(row["psnr_higher_better"]) == sample.record.psnr
        assert float(row["gmsd_lower_better"]) == sample.record.gmsd
        assert row["ms_ssim_higher_better"] == ""  # the tiles have 128 px
        shape = repr(sample.distorted.shape).encode()
        pixels = read_png(written / row["file_name"]).tobytes()
        assert hashlib.sha256(shape + pixels).hexdigest() == row["pixel_digest"]


def test_whole_images_are_written_too(whole_corpus, tmp_path):
    source = ExportSource(whole_corpus, "ssim")
    files = PngFolder().write_part(source, Part("jpeg-00000", "jpeg", (0, 1), (0, 1)), tmp_path / "out")
    for number in range(2):
        np.testing.assert_array_equal(read_png(files[number]), source.corpus[number].pristine)
        np.testing.assert_array_equal(read_png(files[2 + number]), source.corpus[number].distorted)
