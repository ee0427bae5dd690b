import shutil
import unicodedata
from pathlib import Path

import pytest

from distort_pipeline.data.external_pairs import match_levels, match_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord


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
    partners = match_pairs(folder, IMAGES, ROOT)
    assert partners.paths == {"a": "birds/owl.png", "b": "jay.png", "c": "deep/cat.jp2"}
    assert partners.root == folder
    assert partners.unused == ("other.png", "other/owl.png")


def test_an_ambiguous_stem_has_no_partner_and_a_reason(tmp_path):
    folder = fill(tmp_path / "bad", "1/jay.png", "2/jay.png", "birds/owl.png")
    partners = match_pairs(folder, IMAGES, ROOT)
    assert partners.paths == {"a": "birds/owl.png"}
    assert partners.reasons == {"b": "its partner is ambiguous: 1/jay.png, 2/jay.png"}


def test_sidecars_capitals_and_decomposed_letters_make_no_difference(tmp_path):
    images = [image("a", "Tür.png"), image("b", "birds/jay.jpg"), image("c", "cat.png")]
    folder = fill(
        tmp_path / "bad",
        unicodedata.normalize("NFD", "Tür.png"),
        "birds/JAY.JPG", "birds/JAY.xmp", "birds/jay.json", "jay.png",
        "cat.JPEG", "cat.CR2", "cat.txt", "._cat.jpg",
    )  # fmt: skip
    partners = match_pairs(folder, images, ROOT)
    assert partners.paths == {"a": unicodedata.normalize("NFD", "Tür.png"), "b": "birds/JAY.JPG", "c": "cat.JPEG"}


def test_names_that_differ_in_case_alone_have_partners_of_another_suffix(tmp_path):
    images = [image("a", "Owl.png"), image("b", "owl.png"), image("c", "x/JAY.png"), image("d", "x/jay.png")]
    folder = fill(tmp_path / "bad", "Owl.jpg", "owl.jpg", "JAY.jpg", "jay.jpg")
    assert match_pairs(folder, images, ROOT).paths == {"a": "Owl.jpg", "b": "owl.jpg", "c": "JAY.jpg", "d": "jay.jpg"}


def test_the_name_as_typed_comes_before_another_suffix_and_two_suffixes_are_ambiguous(tmp_path):
    images = [image("a", "owl.png"), image("b", "jay.png")]
    folder = fill(tmp_path / "bad", "owl.png", "OWL.PNG", "owl.jpg", "jay.jpg", "jay.tiff")
    partners = match_pairs(folder, images, ROOT)
    assert partners.paths == {"a": "owl.png"}
    assert partners.reasons == {"b": "its partner is ambiguous: jay.jpg, jay.tiff"}


@pytest.mark.parametrize("folders", [("level1", "level2"), ("1", "2", "3"), ("mild/x", "strong/x")])
def test_folders_of_levels_are_named(tmp_path, folders):
    names = [f"{folder}/{name}" for folder in folders for name in ("birds/owl.png", "birds/jay.jpg")]
    folder = fill(tmp_path / "levels", *names)
    first = folders[0].split("/")[0]
    message = rf"several times in .*, in {first}, .*: give each folder a name .* NAME={folder}/{first}, or all in order"
    with pytest.raises(PipelineError, match=message):
        match_pairs(folder, IMAGES, ROOT)


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_is_read_like_a_folder(tmp_path, form):
    folder = fill(tmp_path / "bad", "birds/owl.png", "jay.png")
    archive = Path(shutil.make_archive(str(tmp_path / "shots"), form, folder))
    partners = match_pairs(archive, IMAGES, ROOT)
    assert partners.paths == {"a": f"{archive.name}/birds/owl.png", "b": f"{archive.name}/jay.png"}
    assert partners.root == tmp_path


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "shots.zip").write_bytes(b"PK no more")
    with pytest.raises(PipelineError, match=r"no file in .*shots\.zip has .*; shots\.zip: not a readable archive"):
        match_pairs(tmp_path / "shots.zip", IMAGES, ROOT)


def test_a_csv_names_pairs_by_path_or_file_name(tmp_path):
    path = listed(
        tmp_path, "pristine,distorted,note\nbirds/owl.png,bad/1.png,x\njay.jpg,bad/2.png,\nnobody.png,3.png,\n"
    )
    partners = match_pairs(path, IMAGES, ROOT)
    assert partners.paths == {"a": "bad/1.png", "b": "bad/2.png"}
    assert partners.root == tmp_path
    assert partners.unused == ("nobody.png",)


def test_headings_in_any_case_and_spaces_around_cells_are_read(tmp_path):
    path = listed(tmp_path, "Pristine, DISTORTED \n birds/owl.png , bad/1.png\n")
    assert match_pairs(path, IMAGES, ROOT).paths == {"a": "bad/1.png"}
    lines = tmp_path / "pairs.jsonl"
    lines.write_text('{"pristine": "owl.png", "distorted": "bad/1.png"}\n', encoding="utf-8")
    assert match_pairs(lines, IMAGES, ROOT).paths == {"a": "bad/1.png"}


def test_both_columns_may_be_absolute_lead_up_or_have_backslashes(tmp_path):
    fill(tmp_path, "clean/birds/owl.png", "clean/birds/jay.jpg", "shots/1.png", "shots/more/2.png")
    (tmp_path / "lists").mkdir()
    for pristine, distorted in (
        ("../clean/birds/", "../shots/"),
        (f"{tmp_path}/clean/birds/", f"{tmp_path}/shots/"),
        ("..\\clean\\birds\\", "..\\shots\\"),
    ):
        rows = f"{pristine}owl.png,{distorted}1.png\n{pristine}jay.jpg,{distorted}more/2.png\n"
        table = listed(tmp_path / "lists", f"pristine,distorted\n{rows}")
        partners = match_pairs(table, IMAGES, tmp_path / "clean")
        assert partners.root == tmp_path / "shots"
        assert partners.paths == {"a": "1.png", "b": "more/2.png"}
    table = listed(tmp_path, "pristine,distorted\nbirds\\owl.png,shots\\1.png\n")
    assert match_pairs(table, IMAGES, ROOT).paths == {"a": "shots/1.png"}


def test_members_of_an_archive_elsewhere_may_be_listed(tmp_path):
    fill(tmp_path, "away/shots.zip")
    (tmp_path / "lists").mkdir()
    table = listed(tmp_path / "lists", "pristine,distorted\nowl.png,../away/shots.zip/deep/1.png\n")
    partners = match_pairs(table, IMAGES, ROOT)
    assert (partners.root, partners.paths) == (tmp_path / "away", {"a": "shots.zip/deep/1.png"})


def test_a_name_may_be_decomposed_on_disk_and_a_backslash_part_of_it(tmp_path):
    fill(tmp_path, unicodedata.normalize("NFD", "Tür.png"), "odd\\name.png")
    table = listed(tmp_path, "pristine,distorted\nowl.png,Tür.png\njay.jpg,odd\\name.png\n")
    expected = {"a": unicodedata.normalize("NFD", "Tür.png"), "b": "odd\\name.png"}
    assert match_pairs(table, IMAGES, ROOT).paths == expected


def test_a_csv_from_a_spreadsheet_may_start_with_a_byte_order_mark(tmp_path):
    path = listed(tmp_path, "\ufeffpristine,distorted\r\nowl.png,1.png\r\n")
    assert match_pairs(path, IMAGES, ROOT).paths == {"a": "1.png"}


def test_images_of_one_name_do_not_share_a_partner(tmp_path):
    images = [image("a", "day/1.png"), image("b", "night/1.png"), image("c", "night/2.png")]
    folder = fill(tmp_path / "bad", "day/1.jpg", "1.jpg", "2.jpg")
    assert match_pairs(folder, images, ROOT).paths == {"a": "day/1.jpg", "c": "2.jpg"}
    table = listed(tmp_path, "pristine,distorted\n1.png,x.png\n2.png,y.png\n")
    with pytest.raises(PipelineError, match=r"2 images of the manifest are called 1\.png: give the path"):
        match_pairs(table, images, ROOT)
    by_path = listed(tmp_path, "pristine,distorted\nday/1.png,x.png\n")
    assert match_pairs(by_path, images, ROOT).paths == {"a": "x.png"}
    at_the_top = [image("a", "1.png"), image("b", "night/1.png")]
    assert match_pairs(listed(tmp_path, "pristine,distorted\n1.png,x.png\n"), at_the_top, ROOT).paths == {"a": "x.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reference,distorted\na,b\n", "columns pristine and distorted; columns are: reference, distorted"),
        ("", "columns are: none"),
        ("pristine,distorted\nowl.png,\n", "line 2: a pair needs both"),
        ("pristine,distorted\nowl.png,1.png\nowl.png,2.png\n", "line 3: owl.png has a partner already"),
        ("pristine,distorted\nowl.png,1.png\nbirds/owl.png,2.png\n", "line 3: birds/owl.png has a partner already"),
        ("pristine,distorted\nowl.png\n", "line 2: a pair needs both"),
        ("pristine,distorted\nwolf.png,1.png\n", "no `pristine` of .* is an image of the manifest"),
    ],
)
def test_csvs_without_pairs_say_why(tmp_path, text, message):
    with pytest.raises(PipelineError, match=message):
        match_pairs(listed(tmp_path, text), IMAGES, ROOT)


def test_a_source_without_a_single_partner_is_a_mistake(tmp_path):
    with pytest.raises(PipelineError, match=r"no file in .* has the name of an image"):
        match_pairs(fill(tmp_path / "bad", "wolf.png"), IMAGES, ROOT)
    with pytest.raises(PipelineError, match="there is no folder, archive or CSV"):
        match_pairs(tmp_path / "none", IMAGES, ROOT)


def test_a_csv_may_name_images_relative_to_itself(tmp_path):
    table = listed(tmp_path, "pristine,distorted\nclean/birds/owl.png,bad/1.png\n")
    assert match_pairs(table, IMAGES, tmp_path / "clean").paths == {"a": "bad/1.png"}


def test_several_folders_in_order_of_severity_are_levels(tmp_path):
    mild, severe = fill(tmp_path / "mild", "owl.png"), fill(tmp_path / "severe", "owl.png", "jay.png")
    levels = match_levels(f"{mild}, {severe}", IMAGES, ROOT)
    assert [level.root for level in levels] == [mild, severe]
    assert [set(level.paths) for level in levels] == [{"a"}, {"a", "b"}]
    (alone,) = match_levels(str(severe), IMAGES, ROOT)
    assert alone.paths == levels[1].paths


def test_a_list_with_levels_has_the_pairs_of_all_and_parameters(tmp_path):
    rows = "owl.png,mild/1.png,1,400,x\nowl.png,bad/1.png,2,1600,y\njay.jpg,bad/2.png,2,1600,\n"
    table = listed(tmp_path, f"pristine,distorted,level,iso,note\n{rows}")
    mild, severe = match_levels(str(table), IMAGES, ROOT)
    assert (mild.paths, mild.parameters) == ({"a": "mild/1.png"}, {"iso": 400})
    assert (set(severe.paths), severe.parameters) == ({"a", "b"}, {"iso": 1600})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("owl.png,1.png,2\n", "has the levels 2: number them from 1"),
        ("owl.png,1.png,mild\n", "line 2: level must be a whole number from 1"),
        ("owl.png,1.png,1.5\n", "level must be a whole number from 1"),
        ("owl.png,1.png,1\nowl.png,2.png,1\n", "owl.png has a partner already"),
        ("owl.png,1.png,1,400\njay.jpg,2.png,1,800\n", "iso must be the same in all rows of level 1"),
    ],
)
def test_a_list_with_wrong_levels_is_refused(tmp_path, rows, message):
    table = listed(tmp_path, f"pristine,distorted,level,iso\n{rows}")
    with pytest.raises(PipelineError, match=message):
        match_levels(str(table), IMAGES, ROOT)
