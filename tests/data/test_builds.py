import errno
from pathlib import Path

import pytest

from distort_pipeline.data import builds
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.files import read_json, read_listing, sealed, write_bytes, write_json
from distort_pipeline.errors import PipelineError


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


def test_the_digests_of_published_files_are_kept(tmp_path):
    build = StagedStore(tmp_path / "out", "0" * 64, staging_dir=("checkpoints",))
    for name in ("plots/a.csv", "page.html", "run.json", "checkpoints/1", ".DS_Store"):
        write_bytes(build.work / name, b"a")
    build.publish({"format": "distort-pipeline/x"})
    assert set(read_json(build.out / "store.json")["files"]) == {"files.json"}
    assert set(read_listing(build.out)) == {"plots/a.csv", "page.html"}


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


def filled(out, key="a" * 64):
    """Return the staged store of `out`, with some finished files and leftovers of killed writers."""
    require_destination(out)
    build = StagedStore(out, key)
    assert not build.complete()
    for name in ("deep/c", "deep/c.0a1b.partial", "deep/.a.json.0a1b.partial", "page.html"):
        write_bytes(build.start() / name, b"a")
    return build


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


PUBLISHED = ["deep/c", "files.json", "page.html", "store.json"]


@pytest.mark.parametrize("litter", ["", ".DS_Store", "lost+found/", "Thumbs.db"])
def test_an_empty_folder_is_filled_and_killed_writers_leave_nothing_in_it(tmp_path, litter):
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    if litter:
        write_bytes(out / litter / "x", b"") if litter.endswith("/") else write_bytes(out / litter, b"")
    before = out.stat()
    build = filled(out)
    assert build.work.parent == out
    with build.writing():
        build.publish({})
    assert [name for name in names_in(out) if not name.startswith(litter or " ")] == PUBLISHED
    assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)
    assert build.complete()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["empty", "missing"])
def test_a_store_stands_where_a_link_points(tmp_path, target):
    (tmp_path / "disk").mkdir()
    if target == "empty":
        (tmp_path / "disk" / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "store")
    filled(tmp_path / "link").publish({})
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "disk" / "store") == PUBLISHED


def test_the_working_folder_is_a_place_also_if_it_changes_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (Path(), Path("../other/./store")):
        build = filled(out)
        monkeypatch.chdir(tmp_path)
        build.publish({})
        monkeypatch.chdir(tmp_path / "here")
    assert names_in(tmp_path / "here") == names_in(tmp_path / "other" / "store") == PUBLISHED


def test_a_kill_in_the_middle_of_publishing_is_finished_by_the_next_command(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    build = filled(out)
    rename = Path.rename

    def killed(path, target):
        if path.name == "page.html":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        build.publish({})
    monkeypatch.undo()
    assert "store.json" not in names_in(out)
    require_destination(out)
    assert StagedStore(out, build.config_hash).complete()
    assert names_in(out) == PUBLISHED


def test_work_beside_a_folder_made_meanwhile_is_continued_in_it(tmp_path):
    build = filled(tmp_path / "out")
    (tmp_path / "out").mkdir()
    continued = StagedStore(tmp_path / "out", build.config_hash)
    assert not continued.complete()
    assert (continued.work / "page.html").is_file()
    continued.publish({})
    assert names_in(tmp_path) == [f"out/{name}" for name in PUBLISHED]


def test_a_file_put_into_the_folder_meanwhile_stays(tmp_path):
    (tmp_path / "out").mkdir()
    build = filled(tmp_path / "out")
    (tmp_path / "out" / "page.html").write_text("mine")
    with pytest.raises(PipelineError, match=r"is finished and cannot be moved to .*out: File exists"):
        build.publish({})
    assert (tmp_path / "out" / "page.html").read_text() == "mine"


def test_a_place_without_permission_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    for out in (tmp_path / "file" / "out", tmp_path / "loop"):
        with pytest.raises(PipelineError, match="cannot write"):
            require_destination(out)
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        require_destination(tmp_path)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(PipelineError, match=r"cannot write .*out: Read-only file system"):
        require_destination(tmp_path / "out")


def test_a_finished_store_in_a_read_only_place_is_complete(tmp_path, monkeypatch):
    build = filled(tmp_path / "out")
    build.publish({"format": "distort-pipeline/x"})
    monkeypatch.setattr(Path, "mkdir", None)
    require_destination(tmp_path / "out")
    assert StagedStore(tmp_path / "out", build.config_hash).complete()


def test_a_place_inside_a_store_is_refused_but_for_labels_and_repairs(tmp_path):
    write_json(tmp_path / "corpus/store.json", {"format": "distort-pipeline/corpus"})
    for inside in ("corpus/export", "corpus/labels", "corpus/labels/a/b", "corpus/labels/../x"):
        with pytest.raises(PipelineError, match=r"is inside the store .*corpus; choose another folder with --out"):
            require_destination(tmp_path / inside)
    require_destination(tmp_path / "corpus/labels/rating")
    require_destination(tmp_path / "corpus/.repair.building/store")
    write_json(tmp_path / "shop/store.json", {"format": "of a shop"})
    require_destination(tmp_path / "shop/out")


def test_an_unwritable_output_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="cannot write in"):
        StagedStore(tmp_path / "file" / "out", "a" * 64).start()
