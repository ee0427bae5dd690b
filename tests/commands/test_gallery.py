"""gallery: contact sheets with exact pixels of the corpus."""

import csv

import numpy as np
import pytest

from distort_pipeline.commands.gallery import gallery, sweep
from distort_pipeline.data.images import decode
from distort_pipeline.errors import PipelineError

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


def sheet(path):
    return decode(path.read_bytes())[0]


def listed(folder):
    with (folder / "gallery.csv").open() as file:
        return list(csv.DictReader(file))


def holds(canvas, image):
    corners = np.argwhere((canvas == image[0, 0]).all(axis=2))
    height, width = image.shape[:2]
    return any(np.array_equal(canvas[y : y + height, x : x + width], image) for y, x in corners)


def test_sheets_show_the_samples_in_the_list(finished_corpus, corpus, tmp_path):
    report = gallery(finished_corpus, tmp_path / "out", rows=3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gallery.csv", "jpeg.png", "overview.png", "white_noise.png",
    ]  # fmt: skip
    assert report.counts == {"sheets": 3, "samples": 6}
    rows = listed(tmp_path / "out")
    assert len(rows) == 2 + 3 + 3
    assert [row["distortion"] for row in rows if row["file"] == "overview.png"] == ["jpeg", "white_noise"]
    assert len({row["sample"] for row in rows if row["file"] == "jpeg.png"}) == 3
    for row in rows:
        canvas, sample = sheet(tmp_path / "out" / row["file"]), corpus[int(row["sample"])]
        assert sample.record.image == row["image"]
        assert holds(canvas, sample.pristine)
        assert holds(canvas, sample.distorted)
    assert (canvas[0, 0] == 255).all()  # white, for paper


def test_columns_and_a_crop_without_captions(finished_corpus, corpus, tmp_path):
    gallery(
        finished_corpus, tmp_path / "out", distortions=["jpeg"], rows=1, columns=["generated", "true"], crop_px=50,
        captions=False,
    )  # fmt: skip
    assert not (tmp_path / "out" / "overview.png").exists()  # it would show the same row
    canvas = sheet(tmp_path / "out" / "jpeg.png")
    (row,) = listed(tmp_path / "out")
    assert holds(canvas, corpus[int(row["sample"])].distorted[39:89, 39:89])
    assert canvas.shape[1] < 2 * 50 + 20


def test_more_rows_than_true_images(finished_corpus, tmp_path):
    report = gallery(finished_corpus, tmp_path / "true", rows=9)
    assert len(listed(tmp_path / "true")) < 2 * 9
    assert any("keeps fewer than 9 true images of jpeg, white_noise" in line for line in report.lines)
    report = gallery(finished_corpus, tmp_path / "filled", rows=9, columns=["pristine", "generated"])
    names = [row["distortion"] for row in listed(tmp_path / "filled") if row["file"] != "overview.png"]
    assert (names.count("jpeg"), names.count("white_noise")) == (9, 9)
    assert len(report.lines) == 2


def test_one_image(finished_corpus, tmp_path):
    gallery(finished_corpus, tmp_path / "out", image="osprey-1")
    assert {row["image"] for row in listed(tmp_path / "out")} == {"osprey-1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distortions": ["jpg"]}, "has no distortion 'jpg'; did you mean jpeg"),
        ({"columns": ["truth"]}, "has no column 'truth'"),
        ({"rows": 0}, "must be positive"),
        ({"image": "nobody"}, "no sample of --image 'nobody'"),
    ],
)
def test_a_users_mistakes_are_named(finished_corpus, tmp_path, options, message):
    with pytest.raises(PipelineError, match=message):
        gallery(finished_corpus, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(finished_corpus, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        gallery(finished_corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_a_sweep_shows_one_tile_at_all_levels(multi_level_corpus, tmp_path):
    sweep(multi_level_corpus.folder, tmp_path / "out", crop_px=64)
    rows = listed(tmp_path / "out")
    assert [(row["distortion"], row["level"]) for row in rows] == [
        (name, str(level)) for name in ("jpeg", "white_noise") for level in (1, 2, 3)
    ]
    assert len({(row["image"], row["y"], row["x"]) for row in rows}) == 1
    canvas = sheet(tmp_path / "out" / "sweep-3.png")
    for row in rows:
        assert holds(canvas, multi_level_corpus[int(row["sample"])].distorted[32:96, 32:96])
    with pytest.raises(PipelineError, match="has no tile of --image 'none' at all levels of jpeg"):
        sweep(multi_level_corpus.folder, tmp_path / "none", image="none")
