import json
import shutil
from types import SimpleNamespace

import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores import files
from distort_pipeline.stores.files import (
    Build,
    Ledger,
    check_free_space,
    read_header,
    read_json,
    sealed,
    write_bytes,
    write_json,
)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.bin"
    write_bytes(path, b"old")

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(PipelineError, match=r"cannot write .*file\.bin: No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below.json", b"")


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
    ("header", "said"),
    [
        (None, "holds no corpus .* interrupted: run the same command again"),
        (
            {"format": "distort-pipeline/pairs", "version": 1},
            "is not a corpus: store.json says 'distort-pipeline/pairs'",
        ),
        ([1], "is not a corpus: store.json says something else"),
        ({"format": "distort-pipeline/corpus", "version": 9}, "is a corpus of version 9; this program reads version 1"),
        ({"format": "distort-pipeline/corpus"}, "is a corpus of version None"),
    ],
)
def test_headers_of_other_stores_and_versions_are_refused(tmp_path, header, said):
    if header is not None:
        write_json(tmp_path / "store.json", header)
    with pytest.raises(PipelineError, match=said):
        read_header(tmp_path, "corpus", 1)


def test_a_missing_store_is_not_called_interrupted(tmp_path):
    with pytest.raises(PipelineError, match="holds no corpus") as caught:
        read_header(tmp_path / "none", "corpus", 1)
    assert "interrupted" not in str(caught.value)


def test_free_space_is_asked_of_the_disk_that_will_be_written(tmp_path, monkeypatch):
    asked = []

    def usage(place):
        asked.append(place)
        return SimpleNamespace(free=5e9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check_free_space(tmp_path / "a" / "b", 5_000_000_000)
    assert asked == [tmp_path]
    with pytest.raises(PipelineError, match=r"needs about 5\.01 GB and the disk has 5\.00 GB free"):
        check_free_space(tmp_path / "a", 5_010_000_000)


def test_a_build_is_at_out_only_when_whole(tmp_path):
    build = Build(tmp_path / "out", "0123456789abcdef" * 4)
    assert not build.complete()
    work = build.start()
    (work / "part").write_text("1", encoding="utf-8")
    assert not build.out.exists()
    assert not build.complete()
    assert Build(build.out, build.key).start() == work  # the same command finds its work again
    assert (work / "part").exists()
    assert Build(build.out, "f" * 64).start() != work  # and no other command does
    build.publish({"format": "distort-pipeline/x"})
    assert build.complete()
    assert not work.exists()
    assert read_json(build.out / "store.json") == sealed({"format": "distort-pipeline/x", "key": build.key})
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        Build(build.out, "f" * 64).complete()


def test_the_digests_of_published_files_are_kept_if_wanted(tmp_path):
    build = Build(tmp_path / "out", "0" * 64)
    (build.start() / "plots").mkdir()
    (build.work / "plots" / "a.csv").write_text("a", encoding="utf-8")
    (build.work / "page.html").write_text("b", encoding="utf-8")
    build.publish({"format": "distort-pipeline/x"}, files=("plots/*", "*.html"))
    assert set(read_json(build.out / "store.json")["files"]) == {"plots/a.csv", "page.html"}


@pytest.mark.parametrize("content", ["[1]", '{"key": "other"}', "{}"])
def test_what_stands_at_out_is_never_overwritten(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "store.json").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        Build(out, "a" * 64).complete()
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        Build(file, "a" * 64).complete()


def test_an_empty_folder_may_become_the_store_and_killed_writers_leave_nothing_in_it(tmp_path):
    out = tmp_path / "out"
    out.mkdir()  # as DVC leaves it
    build = Build(out, "a" * 64)
    assert not build.complete()
    work = build.start()
    (work / "deep").mkdir()
    (work / "deep" / "c.0a1b.partial").write_bytes(b"half a shard")
    (work / "deep" / ".a.json.0a1b.partial").write_bytes(b"half a record")
    (work / "deep" / "c").write_bytes(b"whole")
    build.publish({})
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["c", "store.json"]


def test_a_place_where_no_work_can_be_done_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="cannot write in"):
        Build(tmp_path / "file" / "out", "a" * 64).start()


def test_the_ledger_knows_what_is_finished(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.finished(["a", "b"]) == set()
    ledger.note("a", {"pairs": 3})
    ledger.note("other", {"pairs": 1})
    (tmp_path / "ledger" / ".b.json.12345678.partial").write_text("{", encoding="utf-8")
    assert ledger.finished(["a", "b"]) == {"a"}
    assert ledger.entries(["a"]) == [{"pairs": 3}]
    with pytest.raises(PipelineError, match=r"b\.json"):
        ledger.entries(["a", "b"])
    assert json.loads((tmp_path / "ledger" / "a.json").read_text(encoding="utf-8")) == {"pairs": 3}
