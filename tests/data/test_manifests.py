import csv
import dataclasses
import json

import pytest

from distort_pipeline.data.manifests import is_manifest, read_manifest, write_manifest, write_rejected
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord, Rejected, digest_rows


def record(name, **changes):
    plain = ImageRecord(
        id=f"{name}-01234567",
        path=f"folder/{name}.png",
        image_digest="a" * 64,
        file_digest="b" * 64,
        width=300,
        height=400,
        mode="RGB",
        licence="CC0-1.0",
        source="a walk, with \u2028 in its name",  # U+2028 ends a line for str.splitlines, not for JSON
        split="train",
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lists" / "manifest.jsonl"
    root = tmp_path / "images"
    root.mkdir()
    write_manifest(path, [record("b"), record("a", split="val")], root)
    return path


def test_records_are_read_back_sorted_by_path(written, tmp_path):
    manifest = read_manifest(written)
    assert manifest.records == (record("a", split="val"), record("b"))
    assert manifest.root == tmp_path / "images"
    assert manifest.digest == digest_rows(manifest.records)


def test_the_metadata_name_format_and_relative_root(written):
    first = written.read_text(encoding="utf-8").split("\n")[0]
    metadata = json.loads(first)
    assert list(metadata) == ["format", "version", "root", "digest"]
    assert metadata["root"] == "../images"
    assert is_manifest(first)


@pytest.mark.usefixtures("written")
def test_a_manifest_moves_with_its_images(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("lists", "images"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert read_manifest(tmp_path / "elsewhere/lists/manifest.jsonl").root == tmp_path / "elsewhere/images"


def test_a_link_to_a_manifest_has_its_images_beside_itself_or_beside_the_manifest(written, tmp_path):
    link = tmp_path / "work" / "links" / "m.jsonl"
    link.parent.mkdir(parents=True)
    link.symlink_to(written)
    assert read_manifest(link).root == tmp_path / "images"
    (tmp_path / "work" / "images").mkdir()  # the link stands for the file, as in a folder of DVC
    assert read_manifest(link).root == tmp_path / "work" / "images"


def test_writing_leaves_nothing_else_behind_and_replaces(written, tmp_path):
    write_manifest(written, [record("c")], tmp_path)
    assert [path.name for path in written.parent.iterdir()] == ["manifest.jsonl"]
    assert [row.path for row in read_manifest(written).records] == ["folder/c.png"]


def changed_row(lines, **changes):
    return [lines[0], json.dumps({**json.loads(lines[1]), **changes}), *lines[2:]]


def without(lines, name):
    return [
        lines[0],
        json.dumps({key: value for key, value in json.loads(lines[1]).items() if key != name}),
        *lines[2:],
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [lines[0].replace('"version": 2', '"version": 3'), *lines[1:]], "line 1: manifest version 3"),
        (lambda lines: lines[1:], "line 1: no metadata"),
        (lambda _: [""], "line 1: no metadata"),
        (lambda lines: [lines[0].replace('"root"', '"origin"'), *lines[1:]], "line 1: the metadata must have"),
        (lambda lines: [lines[0].replace("../images", "/images"), *lines[1:]], "line 1: root must be relative"),
        (lambda lines: [lines[0], lines[1][:40], *lines[2:]], "line 2: not a line of JSON"),
        (lambda lines: [*lines[:2], "[]"], "line 3: not a mapping"),
        (lambda lines: [*lines[:2], "", lines[2]], "line 3: not a line of JSON"),
        (lambda lines: changed_row(lines, colour="red"), "line 2: unknown field 'colour'"),
        (lambda lines: changed_row(lines, width="300"), "line 2: width must be present, as int"),
        (lambda lines: changed_row(lines, width=True), "line 2: width must be present, as int"),
        (lambda lines: changed_row(lines, licence="\ud800"), "line 2: text that is not Unicode"),
        (lambda lines: without(lines, "licence"), "line 2: licence must be present, as str"),
        (lambda lines: changed_row(lines, split="vale"), "line 2: split must be one of train, val, test, got 'vale'"),
        (lambda lines: [*lines[:2], lines[1]], "line 3: id 'a-01234567' is already in line 2"),
        (lambda lines: changed_row(lines, licence="MIT"), "line 1: the rows do not match the digest"),
        (lambda lines: lines[:2], "line 1: the rows do not match the digest"),
    ],
)
def test_damage_names_the_line_and_the_remedy(written, damage, message):
    lines = written.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    written.write_text("\n".join(damage(lines)) + "\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=message) as refusal:
        read_manifest(written)
    assert str(written) in str(refusal.value)
    assert "distort-pipeline ingest" in str(refusal.value)


def test_files_other_than_manifests_are_errors(tmp_path):
    with pytest.raises(PipelineError, match="there is no manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PipelineError, match="not UTF-8"):
        read_manifest(tmp_path / "binary.jsonl")


def test_rejected_files_are_a_table(tmp_path):
    rows = [Rejected("a,b.png", 'says "no"'), Rejected("c.png", "too small")]
    write_rejected(tmp_path / "new" / "rejected.csv", rows)
    with (tmp_path / "new" / "rejected.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["path", "reason"], ["a,b.png", 'says "no"'], ["c.png", "too small"]]
