import csv
import json
import shutil
from pathlib import Path

import pytest

from distort_pipeline.config import ExportConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.steps import export
from distort_pipeline.stores.arrays import create_group
from distort_pipeline.stores.builds import Build
from distort_pipeline.stores.corpora import open_corpus

pytest_plugins = ["corpus_fixtures"]


def run(corpus, out, **changes):
    return export.run(ExportConfig(**{"workers": 0, **changes}), corpus, out, workers=Workers(0))


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


@pytest.fixture(scope="module")
def whole_export(finished_corpus, tmp_path_factory):
    """An export of everything, and its report."""
    out = tmp_path_factory.mktemp("export") / "export"
    return out, run(finished_corpus, out)


def test_everything_is_exported_and_counted(whole_export):
    out, report = whole_export
    assert report.counts == {"samples": 40, "tiles": 20, "files": 40 + 20 + 3}
    assert report.lines == ("40 samples of 20 tiles as png_folder: 63 files", f"export: {out}")
    header = json.loads((out / "store.json").read_text())
    assert (header["format"], header["version"]) == ("distort-pipeline/export", 1)
    assert header["counts"] == report.counts
    assert len(list(out.rglob("*.png"))) == 60
    assert not [name for name in files_in(out) if name.endswith(".partial")]


def test_a_limit_takes_the_first_samples_of_each_distortion(finished_corpus, tmp_path):
    assert run(finished_corpus, tmp_path / "e", limit=21).counts == {"samples": 21, "tiles": 11, "files": 35}
    with (tmp_path / "e" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        samples = [int(row["sample"]) for row in csv.DictReader(file)]
    assert samples == [*range(11), *range(20, 30)]


def test_parts_share_tiles_and_a_limit_beyond_all_is_all(corpus):
    parts = export.plan_parts(corpus, None)
    assert [part.batch for part in parts] == corpus.batch_names()
    assert [part.samples for part in parts] == [8, 8, 4, 8, 8, 4]
    assert [part.new_tiles for part in parts[:3]] == [tuple(range(8)), tuple(range(8, 16)), tuple(range(16, 20))]
    assert all(part.new_tiles == () for part in parts[3:])
    assert export.plan_parts(corpus, 10_000) == parts
    assert [(part.batch, part.samples) for part in export.plan_parts(corpus, 1)] == [("jpeg-00000", 1)]


def test_an_interrupted_export_goes_on_and_gives_the_same_files(finished_corpus, whole_export, tmp_path):
    out = tmp_path / "again"
    header = json.loads((whole_export[0] / "store.json").read_text())
    work = Build(out, header["key"]).work
    shutil.copytree(whole_export[0], work)
    kept = work / "distorted" / "jpeg" / "00000000.png"
    times = kept.stat().st_mtime_ns
    for lost in ("ledger/white_noise-00001.json", "ledger/tables.json", "metadata.csv", "store.json"):
        (work / lost).unlink()
    (work / "distorted" / "white_noise" / "00000030.png").write_bytes(b"half a file")
    run(finished_corpus, out)
    assert files_in(out) == files_in(whole_export[0])
    assert json.loads((out / "run.json").read_text())["made_now"] == 1
    assert (out / "distorted" / "jpeg" / "00000000.png").stat().st_mtime_ns == times


def test_a_finished_export_is_left_alone_and_another_is_refused(finished_corpus, whole_export):
    out, _ = whole_export
    before = files_in(out)
    assert run(finished_corpus, out).lines == (f"{out} is already complete; nothing to do",)
    with pytest.raises(PipelineError, match="already exists and was made with other settings or inputs"):
        run(finished_corpus, out, limit=3)
    assert files_in(out) == before


def test_a_folder_that_is_no_export_is_not_touched(finished_corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        run(finished_corpus, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_format_and_a_missing_corpus_are_said(finished_corpus, tmp_path):
    with pytest.raises(PipelineError, match=r"no export format is called 'png_foldr'; did you mean png_folder\?"):
        run(finished_corpus, tmp_path / "e", format="png_foldr")
    with pytest.raises(PipelineError, match="holds no corpus"):
        run(tmp_path / "nowhere", tmp_path / "e")
    assert not list(tmp_path.iterdir())


def test_a_damaged_corpus_is_not_exported(damaged, tmp_path):
    group = create_group(damaged)
    tiles = group["distorted/jpeg"][:8]
    tiles[2] = 0
    group["distorted/jpeg"][:8] = tiles
    with pytest.raises(PipelineError, match="sample 2 has other pixels than when it was made"):
        run(damaged, tmp_path / "e")
    (damaged / "pixels.zarr/pristine/c/0/0/0/0").unlink()
    with pytest.raises(PipelineError, match="pristine/c/0/0/0/0 is missing or empty"):
        run(damaged, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_disk_that_is_too_small_is_said_before_the_work(finished_corpus, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 60 * 128**2 - 1))
    with pytest.raises(PipelineError, match="make room"):
        run(finished_corpus, tmp_path / "e")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 60 * 128**2))
    run(finished_corpus, tmp_path / "e")


def test_worker_processes_write_the_same_files(finished_corpus, whole_export, tmp_path):
    settings = ExportConfig()
    export.run(settings, finished_corpus, tmp_path / "e", workers=Workers(1))
    assert files_in(tmp_path / "e") == files_in(whole_export[0])
    assert open_corpus(Path(finished_corpus)).header["digest"] in (tmp_path / "e" / "README.md").read_text()
