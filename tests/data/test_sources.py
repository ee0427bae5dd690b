import io
import json
import os
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from distort_pipeline.data import lists
from distort_pipeline.data.containers import InvalidImage
from distort_pipeline.data.images import encode_png, image_digest
from distort_pipeline.data.manifests import write_manifest
from distort_pipeline.data.sources import Entry, open_source, read_bytes, read_image
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord

PIXELS = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
PNG = encode_png(PIXELS)
TARS = {
    "photos.tar": "w:",
    "photos.tar.gz": "w:gz",
    "photos.tgz": "w:gz",
    "photos.tar.bz2": "w:bz2",
    "p.tar.xz": "w:xz",
}


def put(path, data=PNG):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def make_tar(path, members, mode="w:"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def paths(source):
    return [entry.path for entry in source.entries()]


def reasons(source):
    return {row.path: row.reason for row in source.refused}


def test_a_folder_is_walked_in_the_order_of_paths(tmp_path):
    for name in ("b/z.png", "b.png", "a/deep/er.jpg", "strange", "movie.mp4"):
        put(tmp_path / name)
    source = open_source(tmp_path)
    assert paths(source) == ["a/deep/er.jpg", "b.png", "b/z.png", "movie.mp4", "strange"]
    assert source.refused == ()
    assert source.root == tmp_path


def test_text_and_data_files_are_ignored(tmp_path):
    for name in ("README", "LICENSE", "notes.txt", "About.MD", "SOURCES.csv", "a.png.dvc", "dvc.lock", ".gitignore",
                 ".git/HEAD", ".dvc/config", "__MACOSX/._a.png", "Thumbs.db", "labels.json", "_a.png", "licensed.png",
                 ):  # fmt: skip
        put(tmp_path / name, b"path\n")
    source = open_source(tmp_path)
    assert paths(source) == ["_a.png", "licensed.png"]
    assert source.refused == ()


def test_links_to_folders_are_refused_and_links_to_files_are_followed(tmp_path):
    put(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "file.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    source = open_source(folder)
    assert paths(source) == ["file.png"]
    assert "give it as the source" in reasons(source)["linked"]
    (tmp_path / "door").symlink_to(folder)
    assert read_bytes(open_source(tmp_path / "door").root, "file.png") == PNG


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_no_text_are_refused(tmp_path):
    put(tmp_path / os.fsdecode(b"caf\xe9.png"))
    source = open_source(tmp_path)
    assert paths(source) == []
    assert reasons(source) == {"caf\\udce9.png": "its name is not UTF-8; rename it"}


def test_a_sources_table_says_licence_and_source(tmp_path):
    table = (
        "file,Licence,package,version,author\na.png,CC0-1.0,walks,2.1,Ann\nin/b.png,MIT,,,\nc.png,,,,\ngone.png,X,,,\n"
    )
    put(tmp_path / "SOURCES.csv", b"\xef\xbb\xbf" + table.encode())
    for name in ("a.png", "in/b.png", "c.png", "d.png"):
        put(tmp_path / name)
    put(tmp_path / "sub/SOURCES.csv", b"path,license,source,split\r\ne.png,ODbL,the attic,val\r\n")
    put(tmp_path / "sub/e.png")
    assert open_source(tmp_path).entries() == [
        Entry("a.png", "CC0-1.0", "walks; 2.1; Ann"),
        Entry("c.png"),
        Entry("d.png"),
        Entry("in/b.png", "MIT"),
        Entry("sub/e.png", "ODbL", "the attic", "val"),
    ]
    assert [row.path for row in open_source(tmp_path).unmatched] == ["gone.png"]


def test_rows_of_a_sources_table_are_understood_in_other_spellings(tmp_path):
    rows = "path,licence\nsub\\a.PNG,A\n./Sub/CAFE\u0301.png,B\nsub/c.png,C\nsub\\gone.png,D\n"
    put(tmp_path / "Sources.csv", rows.encode())
    for name in ("sub/a.png", "sub/caf\u00e9.png", "sub/c.png", "sub/C.png"):
        put(tmp_path / name)
    source = open_source(tmp_path)
    assert {entry.path: entry.licence for entry in source.entries()} == {
        "sub/a.png": "A",
        "sub/caf\u00e9.png": "B",
        "sub/c.png": "C",
        "sub/C.png": None,
    }
    assert [row.path for row in source.unmatched] == ["sub\\gone.png"]


def test_a_zip_is_a_folder(tmp_path):
    make_zip(tmp_path / "Photos.ZIP", {"inner/a.png": PNG, "SOURCES.csv": b"file,licence\ninner/a.png,CC0-1.0\n",
                                       "inner/.hidden.png": PNG, "__MACOSX/inner/._a.png": b""})  # fmt: skip
    for path in (tmp_path, tmp_path / "Photos.ZIP"):
        source = open_source(path)
        assert source.entries() == [Entry("Photos.ZIP/inner/a.png", "CC0-1.0")]
        assert source.refused == ()
        assert read_bytes(source.root, "Photos.ZIP/inner/a.png") == PNG


@pytest.mark.parametrize("name", TARS)
def test_a_tar_is_a_folder_in_any_order_of_reading(tmp_path, name):
    members = {f"./shots/{letter}.png": PNG + letter.encode() for letter in "cab"}
    make_tar(tmp_path / name, members, TARS[name])
    source = open_source(tmp_path / name)
    assert paths(source) == [f"{name}/shots/{letter}.png" for letter in "abc"]
    for letter in "abca":
        assert read_bytes(source.root, f"{name}/shots/{letter}.png") == PNG + letter.encode()


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    put(tmp_path / "photos.zip" / "a.png")
    assert paths(open_source(tmp_path)) == ["photos.zip/a.png"]
    assert read_bytes(tmp_path, "photos.zip/a.png") == PNG


def test_a_changed_archive_is_opened_again(tmp_path):
    make_zip(tmp_path / "p.zip", {"a.png": PNG})
    assert read_bytes(tmp_path, "p.zip/a.png") == PNG
    make_zip(tmp_path / "p.zip", {"a.png": PNG + b"more"})
    assert read_bytes(tmp_path, "p.zip/a.png") == PNG + b"more"


def test_members_that_lead_outside_and_links_are_refused(tmp_path):
    make_zip(tmp_path / "z.zip", {"../up.png": PNG, "/etc/top.png": PNG, "fine.png": PNG, "old.zip": b"x"})
    with zipfile.ZipFile(tmp_path / "z.zip", "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "fine.png")
    make_tar(tmp_path / "t.tar", {"../up.png": PNG, "fine.png": PNG})
    with tarfile.open(tmp_path / "t.tar", "a") as tar:
        for kind, name in (
            (tarfile.SYMTYPE, "soft.png"),
            (tarfile.LNKTYPE, "hard.png"),
            (tarfile.FIFOTYPE, "pipe.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "fine.png"
            tar.addfile(info)
    source = open_source(tmp_path)
    assert paths(source) == ["t.tar/fine.png", "z.zip/fine.png"]
    assert reasons(source) == {
        "t.tar/../up.png": "its name leads out of the archive",
        "t.tar/hard.png": "a link or a device",
        "t.tar/pipe.png": "a link or a device",
        "t.tar/soft.png": "a link or a device",
        "z.zip/../up.png": "its name leads out of the archive",
        "z.zip//etc/top.png": "its name leads out of the archive",
        "z.zip/link.png": "a link",
        "z.zip/old.zip": "an archive inside an archive; unpack the outer one",
    }


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_a_broken_archive_is_one_rejected_file(tmp_path, name):
    put(tmp_path / name, b"not an archive at all" * 50)
    source = open_source(tmp_path)
    assert paths(source) == []
    assert reasons(source)[name].startswith("not a readable archive")


def test_a_damaged_member_is_invalid(tmp_path):
    make_zip(tmp_path / "a.zip", {"a.png": PNG})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InvalidImage, match="cannot be unpacked"):
        read_bytes(tmp_path, "a.zip/a.png")


def test_size_is_limited_before_reading(tmp_path, monkeypatch):
    make_zip(tmp_path / "bomb.zip", {"a.png": bytes(5000)})
    make_tar(tmp_path / "bomb.tar", {"a.png": bytes(5000)})
    put(tmp_path / "a.png", bytes(5000))
    monkeypatch.setattr(lists, "MAX_FILE_BYTES", 4999)
    monkeypatch.setattr("distort_pipeline.data.sources.MAX_FILE_BYTES", 4999)
    for path in ("bomb.zip/a.png", "bomb.tar/a.png", "a.png"):
        with pytest.raises(InvalidImage, match="too large"):
            read_bytes(tmp_path, path)


def test_a_compressed_tar_is_not_unpacked_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "MAX_UNPACKED_BYTES", 2**20)
    make_tar(tmp_path / "bomb.tar.gz", {"a.png": bytes(5 * 2**20)}, "w:gz")
    assert "unpacks to more than" in reasons(open_source(tmp_path))["bomb.tar.gz"]


@pytest.mark.parametrize("path", ["../a.png", "x/../../a.png", "/etc/hostname", "", ".", "a\0b", "p.zip/../../a.png"])
def test_no_path_leads_out_of_the_root(tmp_path, path):
    put(tmp_path / "a.png")
    root = tmp_path / "root"
    make_zip((root.mkdir(), root / "p.zip")[1], {"a.png": PNG})
    with pytest.raises(InvalidImage, match="leads out"):
        read_bytes(root, path)


@pytest.mark.parametrize("path", ["gone.png", "folder", "p.zip/gone.png", "gone.zip/a.png"])
def test_missing_files_are_errors(tmp_path, path):
    (tmp_path / "folder").mkdir()
    make_zip(tmp_path / "p.zip", {"a.png": PNG})
    with pytest.raises(InvalidImage, match=r"there is no such|not a plain file"):
        read_bytes(tmp_path, path)


def test_every_file_in_a_csv_list_is_taken(tmp_path):
    make_zip(tmp_path / "p.zip", {"m.png": PNG})
    rows = "path,license,source,split,other\n./b.png,MIT,Ann,val,7\np.zip/m.png,,,,\n.odd.txt,,,,\nb.png,,,train,\n"
    put(tmp_path / "list.csv", rows.encode())
    source = open_source(tmp_path / "list.csv")
    assert source.entries() == [Entry(".odd.txt"), Entry("b.png", "MIT", "Ann", "val"), Entry("p.zip/m.png")]
    assert reasons(source) == {"b.png": "listed twice"}
    assert source.root == tmp_path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_list_of_any_spreadsheet_is_read(tmp_path, delimiter, newline):
    rows = [
        ["\ufeffFile ", "Licence", "Source"],
        ['"a, b; c.png"', "MIT", '"Ann, ""A"" B"'],
        [" d.png ", "", ""],
        [""] * 3,
    ]
    put(tmp_path / "l.csv", newline.join(map(delimiter.join, rows)).encode())
    assert open_source(tmp_path / "l.csv").entries() == [Entry("a, b; c.png", "MIT", 'Ann, "A" B'), Entry("d.png")]


def test_a_jsonl_list_is_a_list_too(tmp_path):
    lines = [{"file": "b\u2028.png", "licence": "MIT"}, {"path": "a.png", "split": "test"}]
    put(tmp_path / "l.jsonl", "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode() + b"\n\n")
    assert open_source(tmp_path / "l.jsonl").entries() == [
        Entry("a.png", split="test"),
        Entry("b\u2028.png", "MIT"),
    ]


def test_an_earlier_manifest_is_a_source(tmp_path):
    put(tmp_path / "images/a.png")
    row = ImageRecord("a-0", "a.png", image_digest(PIXELS), "f", 16, 12, "RGB", "MIT", "Ann", "test")
    write_manifest(tmp_path / "m.jsonl", [row], tmp_path / "images")
    source = open_source(tmp_path / "m.jsonl")
    assert source.entries() == [Entry("a.png", "MIT", "Ann", "test", row.image_digest)]
    assert source.root == tmp_path / "images"
    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(PipelineError, match=r"its root .* is no folder"):
        open_source(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "l.csv",
            b"name,licence\na.png,MIT\n",
            "line 1: there must be columns path, or file; columns are: name, licence",
        ),
        ("l.csv", b"", "line 1: there must be columns path, or file; columns are: none"),
        ("l.csv", b"path,split\na.png,vale\n", "line 2: no split is called 'vale'; did you mean val?"),
        ("l.csv", b"path,split\na.png,val\n,val\n", "line 3: path or file is empty"),
        ("l.csv", b"path,split\na, b.png,val\n", "line 2: 3 cells for 2 headings; put quotation marks around"),
        ("l.csv", "path\nä.png\n".encode("latin-1"), "is not UTF-8 text"),
        ("l.jsonl", b'{"path": "a.png"}\n{"path"\n', "line 2: not a line of JSON"),
        ("l.jsonl", b'["a.png"]\n', "line 1: not a mapping"),
        ("l.jsonl", b'{"path": 7}\n', "line 1: path must be text, got 7"),
        ("l.jsonl", b'{"path": "\\ud800.png"}\n', "line 1: path is not Unicode text"),
        ("l.xlsx", b"PK", "is no source"),
    ],
)
def test_a_bad_list_names_its_line(tmp_path, name, data, message):
    put(tmp_path / name, data)
    with pytest.raises(PipelineError, match=message):
        open_source(tmp_path / name)


def test_a_missing_source_is_said(tmp_path):
    with pytest.raises(PipelineError, match=r"there is no source .*give a folder"):
        open_source(tmp_path / "nowhere")


def test_stores_are_no_photographs(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "corpus/reports/jpeg-00000.png")
    put(tmp_path / "other/b.png")
    put(tmp_path / "corpus/store.json", b'{"format": "distort-pipeline/corpus"}')
    put(tmp_path / "other/store.json", b'{"format": "of another program"}')
    assert [entry.path for entry in open_source(tmp_path).entries()] == ["a.png", "other/b.png"]
    assert [(row.path, row.reason) for row in open_source(tmp_path).passed_over] == [
        ("corpus", "a store of this program (corpus), no photographs")
    ]
    for folder in ("corpus", "corpus/reports"):
        with pytest.raises(PipelineError, match=r"a store of this program \(corpus\), no photographs; give the photo"):
            open_source(tmp_path / folder)


def test_stores_in_an_archive_are_no_photographs(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/a.png", b"")
        archive.writestr("in/export/images/b.png", b"")
        archive.writestr("in/export/store.json", '{"format": "distort-pipeline/export"}')
        archive.writestr("store.json", "{}")
    source = open_source(tmp_path)
    assert [entry.path for entry in source.entries()] == ["all.zip/in/a.png"]
    assert [row.path for row in source.passed_over] == ["all.zip/in/export"]


def test_later_steps_get_exactly_the_ingested_pixels(tmp_path):
    make_zip(tmp_path / "p.zip", {"a.png": PNG})
    np.testing.assert_array_equal(read_image(tmp_path, "p.zip/a.png"), PIXELS)
    assert read_image(tmp_path, "p.zip/a.png", expected=image_digest(PIXELS)).shape == (12, 16, 3)
    with pytest.raises(PipelineError, match=r"p\.zip/a\.png under .* has other pixels .*run ingest again"):
        read_image(tmp_path, "p.zip/a.png", expected="0" * 64)
    with pytest.raises(PipelineError, match=r"gone\.png under .*there is no such file; run ingest again, or .*--root"):
        read_image(tmp_path, "gone.png")
