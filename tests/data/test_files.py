import shutil
from types import SimpleNamespace

import pytest

from distort_pipeline.data import files
from distort_pipeline.data.files import check_free_space, read_json, read_metadata, write_bytes, write_json
from distort_pipeline.data.leases import Ledger
from distort_pipeline.errors import PipelineError


def test_a_failed_write_leaves_the_old_file_and_no_partial_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.bin"
    write_bytes(path, b"old")

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(PipelineError, match=r"cannot write .*file\.bin: No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below.json", b"")


def test_a_link_to_a_missing_folder_gets_the_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "folder")
    write_bytes(tmp_path / "link" / "file", b"1")
    assert (tmp_path / "disk" / "folder" / "file").read_bytes() == b"1"


def test_json_comes_back_and_damage_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"é": [1.5, None]})
    assert read_json(path) == {"é": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})  # NaN is no JSON: other programs could not read it
    assert read_json(path) == {"é": [1.5, None]}
    path.write_text('{"a": ', encoding="utf-8")
    with pytest.raises(PipelineError, match=r"a\.json is damaged"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match=r"a\.json is damaged"):
        read_json(path)
    with pytest.raises(PipelineError, match="there is no file"):
        read_json(tmp_path / "b.json")
    with pytest.raises(PipelineError, match="cannot read"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "holds no corpus .* interrupted: run the same command again"),
        (
            {"format": "distort-pipeline/pairs", "version": 1},
            "is not a corpus: store.json says 'distort-pipeline/pairs'",
        ),
        ([1], "is not a corpus: store.json says something else"),
        (
            {"format": "distort-pipeline/corpus", "version": 9},
            "is a corpus of version 9, and this program reads version 1",
        ),
        ({"format": "distort-pipeline/corpus"}, "is a corpus of version None"),
    ],
)
def test_metadata_of_other_stores_and_versions_is_refused(tmp_path, metadata, message):
    if metadata is not None:
        write_json(tmp_path / "store.json", metadata)
    with pytest.raises(PipelineError, match=message):
        read_metadata(tmp_path, "corpus", 1)


def test_a_missing_store_is_not_called_interrupted(tmp_path):
    with pytest.raises(PipelineError, match="holds no corpus") as caught:
        read_metadata(tmp_path / "none", "corpus", 1)
    assert "interrupted" not in str(caught.value)
    assert str(caught.value).endswith("`distort-pipeline generate` makes one")


def test_free_space_is_of_the_disk_of_the_output(tmp_path, monkeypatch):
    requested = []

    def usage(path):
        requested.append(path)
        return SimpleNamespace(free=5e9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check_free_space(tmp_path / "a" / "b", 5_000_000_000)
    assert requested == [tmp_path]
    with pytest.raises(PipelineError, match=r"needs about 5\.01 GB and the disk has 5\.00 GB free"):
        check_free_space(tmp_path / "a", 5_010_000_000)


def test_the_ledger_knows_what_is_finished(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.finished(["a", "b"]) == set()
    ledger.note("a", {"pairs": 3})
    ledger.note("other", {"pairs": 1})
    (tmp_path / "ledger" / ".b.json.12345678.partial").write_text("{", encoding="utf-8")
    (tmp_path / "ledger" / "b.json").touch()  # as a power cut may leave it
    assert ledger.finished(["a", "b"]) == {"a"}
    assert [(entry["shard"], entry["pairs"]) for entry in ledger.entries(["a"])] == [("a", 3)]
    with pytest.raises(PipelineError, match=r"b\.json"):
        ledger.entries(["a", "b"])


@pytest.mark.parametrize(
    "cut",
    [("pixels", b"abcd"), ("pixels", b""), ("pixels", b"abXde"), ("folder/more", b"a"), ("ledger/a.json", b"x")],
)
def test_a_ledger_does_not_count_a_shard_whose_file_a_power_cut_has_changed(tmp_path, cut):
    ledger = Ledger(tmp_path)
    for name in ("pixels", "folder/more"):
        write_bytes(tmp_path / name, b"abcde")
    ledger.note("a", {"pairs": 3}, [tmp_path / "pixels", tmp_path / "folder"])
    ledger.note("b", {"pairs": 1})
    assert ledger.discard_damaged() == 0
    (tmp_path / cut[0]).write_bytes(cut[1])
    assert ledger.discard_damaged() == 1
    assert ledger.finished(["a", "b"]) == {"b"}
