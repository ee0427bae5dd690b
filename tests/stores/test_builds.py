import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores import builds
from distort_pipeline.stores.builds import StagedStore
from distort_pipeline.stores.files import read_json, read_listing, sealed, write_bytes, write_json


def test_a_finished_store_left_in_staging_is_moved_by_the_next_command(tmp_path):
    build = StagedStore(tmp_path / "out", "a" * 64, staging_dir=("checkpoints",))
    (build.start() / "checkpoints").mkdir()
    write_json(build.work / "store.json", {"config_hash": build.config_hash})  # not sealed: not finished
    assert not build.complete()
    write_json(build.work / "store.json", sealed({"config_hash": build.config_hash}))  # a kill here
    assert build.complete()
    assert [path.name for path in build.out.iterdir()] == ["store.json"]
    assert not build.work.exists()


def test_a_second_writer_is_refused_and_the_first_deletes_files_of_killed_writers(tmp_path, monkeypatch, capsys):
    swept = iter([1, 0])
    monkeypatch.setattr(builds, "sweep", lambda: next(swept))
    build, other = StagedStore(tmp_path / "out", "a" * 64), StagedStore(tmp_path / "out", "b" * 64)
    (build.start() / "half.partial").write_bytes(b"")
    with build.writing() as work:
        assert list(work.iterdir()) == []
        assert "temporary files of a command that was killed were deleted" in capsys.readouterr().err
        with pytest.raises(PipelineError, match="out is being written by process"), other.writing():
            pass
    with other.writing():
        pass
    assert not list(tmp_path.glob("*.lease"))


def test_an_output_created_meanwhile_is_named_and_the_work_is_kept(tmp_path):
    build = StagedStore(tmp_path / "out", "a" * 64)
    build.start()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(PipelineError, match=r"is finished and cannot be moved to .*out: Directory not empty"):
        build.publish({})
    assert build.work.is_dir()


def test_a_store_is_at_out_only_when_complete(tmp_path):
    build = StagedStore(tmp_path / "out", "0123456789abcdef" * 4)
    assert not build.complete()
    work = build.start()
    (work / "part").write_text("1", encoding="utf-8")
    assert not build.out.exists()
    assert not build.complete()
    assert StagedStore(build.out, build.config_hash).start() == work  # the same command finds its work again
    assert (work / "part").exists()
    assert StagedStore(build.out, "f" * 64).start() != work  # and no other command does
    build.publish({"format": "distort-pipeline/x"})
    assert build.complete()
    assert not work.exists()
    metadata = read_json(build.out / "store.json")
    fields = {"format": "distort-pipeline/x", "config_hash": build.config_hash, "files": metadata["files"]}
    assert metadata == sealed(fields)
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        StagedStore(build.out, "f" * 64).complete()


def test_the_digests_of_published_files_are_kept_if_listed(tmp_path):
    for listed in (True, False):
        build = StagedStore(tmp_path / f"out-{listed}", "0" * 64, staging_dir=("checkpoints",))
        for name in ("plots/a.csv", "page.html", "run.json", "checkpoints/1"):
            write_bytes(build.work / name, b"a")
        build.publish({"format": "distort-pipeline/x"}, listed=listed)
        assert set(read_json(build.out / "store.json").get("files", {})) == ({"files.json"} if listed else set())
        assert set(read_listing(build.out)) == ({"plots/a.csv", "page.html"} if listed else set())


@pytest.mark.parametrize("content", ["[1]", '{"config_hash": "other"}', "{}"])
def test_an_existing_output_is_never_overwritten(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "store.json").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        StagedStore(out, "a" * 64).complete()
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        StagedStore(file, "a" * 64).complete()


def test_an_empty_folder_may_become_the_store_and_killed_writers_leave_nothing_in_it(tmp_path):
    out = tmp_path / "out"
    out.mkdir()  # as DVC leaves it
    build = StagedStore(out, "a" * 64)
    assert not build.complete()
    work = build.start()
    (work / "deep").mkdir()
    (work / "deep" / "c.0a1b.partial").write_bytes(b"half a shard")
    (work / "deep" / ".a.json.0a1b.partial").write_bytes(b"half a record")
    (work / "deep" / "c").write_bytes(b"whole")
    build.publish({})
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["c", "files.json", "store.json"]


def test_an_unwritable_output_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="cannot write in"):
        StagedStore(tmp_path / "file" / "out", "a" * 64).start()
