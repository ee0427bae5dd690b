from pathlib import Path

import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord
from distort_pipeline.stores.external_pairs import match_pairs, pair_root


def image(name, path):
    return ImageRecord(name, path, name, name, 9, 9, "RGB", "CC0-1.0", "tests", "train")


ROOT = Path("photographs")  # root of the manifest's images
IMAGES = [image("a", "birds/owl.png"), image("b", "birds/jay.jpg"), image("c", "zoo.zip/cat.png")]


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def listed(tmp_path, text):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_is_matched_by_path_then_by_unique_stem(tmp_path):
    folder = fill(tmp_path / "bad", "birds/owl.png", "other/owl.png", "jay.png", "deep/cat.jp2", "other.png")
    assert match_pairs(folder, IMAGES, ROOT) == {"a": "birds/owl.png", "b": "jay.png", "c": "deep/cat.jp2"}
    assert pair_root(folder) == folder


def test_an_ambiguous_stem_has_no_partner(tmp_path):
    folder = fill(tmp_path / "bad", "1/jay.png", "2/jay.png", "birds/owl.png")
    assert match_pairs(folder, IMAGES, ROOT) == {"a": "birds/owl.png"}


def test_a_csv_names_pairs_by_path_or_file_name(tmp_path):
    path = listed(
        tmp_path, "pristine,distorted,note\nbirds/owl.png,bad/1.png,x\njay.jpg,bad/2.png,\nnobody.png,3.png,\n"
    )
    assert match_pairs(path, IMAGES, ROOT) == {"a": "bad/1.png", "b": "bad/2.png"}
    assert pair_root(path) == tmp_path


def test_a_csv_from_a_spreadsheet_may_start_with_a_byte_order_mark(tmp_path):
    path = listed(tmp_path, "\ufeffpristine,distorted\r\nowl.png,1.png\r\n")
    assert match_pairs(path, IMAGES, ROOT) == {"a": "1.png"}


def test_images_of_one_name_do_not_share_a_partner(tmp_path):
    images = [image("a", "day/1.png"), image("b", "night/1.png"), image("c", "night/2.png")]
    folder = fill(tmp_path / "bad", "day/1.jpg", "2.jpg")
    assert match_pairs(folder, images, ROOT) == {"c": "2.jpg"}
    table = listed(tmp_path, "pristine,distorted\n1.png,x.png\n2.png,y.png\n")
    with pytest.raises(PipelineError, match=r"2 images of the manifest are called 1\.png: give the path"):
        match_pairs(table, images, ROOT)
    by_path = listed(tmp_path, "pristine,distorted\nday/1.png,x.png\n")
    assert match_pairs(by_path, images, ROOT) == {"a": "x.png"}
    at_the_top = [image("a", "1.png"), image("b", "night/1.png")]
    assert match_pairs(listed(tmp_path, "pristine,distorted\n1.png,x.png\n"), at_the_top, ROOT) == {"a": "x.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reference,distorted\na,b\n", "columns pristine and distorted, it has: distorted, reference"),
        ("", "it has: none"),
        ("pristine,distorted\nowl.png,\n", "line 2: a pair needs both"),
        ("pristine,distorted\nowl.png,1.png\nowl.png,2.png\n", "line 3: owl.png has a partner already"),
        ("pristine,distorted\nowl.png\n", "line 2: a pair needs both"),
        ("pristine,distorted\nwolf.png,1.png\n", "no `pristine` of .* is an image of the manifest"),
    ],
)
def test_csvs_without_pairs_say_why(tmp_path, text, message):
    with pytest.raises(PipelineError, match=message):
        match_pairs(listed(tmp_path, text), IMAGES, ROOT)


def test_a_source_without_a_single_partner_is_a_mistake(tmp_path):
    with pytest.raises(PipelineError, match="has the name of an image"):
        match_pairs(fill(tmp_path / "bad", "wolf.png"), IMAGES, ROOT)
    with pytest.raises(PipelineError, match="there is no folder or CSV"):
        match_pairs(tmp_path / "none", IMAGES, ROOT)


def test_a_csv_may_name_images_relative_to_itself(tmp_path):
    table = listed(tmp_path, "pristine,distorted\nclean/birds/owl.png,bad/1.png\n")
    assert match_pairs(table, IMAGES, tmp_path / "clean") == {"a": "bad/1.png"}
