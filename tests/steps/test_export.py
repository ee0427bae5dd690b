import csv
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distort_pipeline.commands.label import by_table
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.arrays import create_group, read_records, write_table
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.labels import Rating, value_path
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import SampleRecord
from distort_pipeline.steps import export

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
    assert report.counts == {"samples": 40, "tiles": 20, "files": 40 + 20 + 5}
    assert report.lines == ("40 samples of 20 tiles as png_folder: 65 files", f"export: {out}")
    metadata = json.loads((out / "store.json").read_text())
    assert (metadata["format"], metadata["version"]) == ("distort-pipeline/export", 3)
    assert metadata["counts"] == report.counts
    assert len(list(out.rglob("*.png"))) == 60
    assert not [name for name in files_in(out) if name.endswith(".partial")]


def test_a_limit_takes_the_same_tiles_of_each_distortion_and_of_every_image(finished_corpus, corpus, tmp_path):
    assert run(finished_corpus, tmp_path / "e", limit=21).counts == {"samples": 21, "tiles": 11, "files": 21 + 11 + 5}
    with (tmp_path / "e" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        samples = [corpus.record(int(row["sample"])) for row in csv.DictReader(file)]
    tiles = {name: {record.tile for record in samples if record.distortion == name} for name in corpus.distortions}
    assert (len(tiles["jpeg"]), len(tiles["white_noise"])) == (11, 10)
    assert tiles["white_noise"] < tiles["jpeg"]
    assert {record.image for record in samples} == {record.image for record in corpus.records}


def test_a_selection_takes_what_fits(finished_corpus, corpus, tmp_path):
    run(finished_corpus, tmp_path / "e", distortions=("jpeg",), splits=("val",), levels=(1,))
    chosen = [r.sample for r in corpus.records if (r.distortion, r.split) == ("jpeg", "val")]
    with (tmp_path / "e" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        assert [int(row["sample"]) for row in csv.DictReader(file)] == chosen
    assert {path.parent.name for path in (tmp_path / "e" / "distorted").rglob("*.png")} == {"jpeg"}
    owed = (tmp_path / "e" / "attributions.csv").read_text()
    assert "maple-1" in owed
    assert "wren-1" not in owed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distortions": ("jepg",)}, r"no sample has the distortion 'jepg'; did you mean jpeg\?"),
        ({"levels": (3,)}, "no sample has the level 3; known are: 1"),
        ({"splits": ("test",)}, "no sample has the split 'test'; known are: train, val"),
        ({"label": "lpips"}, r"has no label 'lpips'; known are: gmsd, level, ms_ssim, psnr, severity, ssim"),
        ({"label": "ms_ssim", "format": "pyiqa_nr"}, "no sample has the label ms_ssim; choose another with --label"),
    ],
)
def test_an_impossible_selection_is_an_error_and_writes_nothing(finished_corpus, tmp_path, changes, said):
    with pytest.raises(PipelineError, match=said):
        run(finished_corpus, tmp_path / "e", **changes)
    assert not list(tmp_path.iterdir())


def flag(corpus, batch, *, accepted=False):
    """Mark a batch in the ledger as rejected, or as accepted."""
    path = corpus / "ledger" / f"{batch}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accepted": accepted}))


def test_records_that_rot_are_not_exported(damaged, tmp_path):
    path = damaged / "records" / "jpeg-00000.parquet"
    first, second, *others = read_records([path], SampleRecord)
    assert first.tile != second.tile
    write_table(path, [dataclasses.replace(first, tile=second.tile), second, *others], SampleRecord)
    with pytest.raises(PipelineError, match="the records of jpeg-00000 have changed since they were written"):
        run(damaged, tmp_path / "e", format="pyiqa_fr")
    run(damaged, tmp_path / "noise", format="pyiqa_fr", distortions=("white_noise",))


def test_labels_that_rot_are_not_exported(damaged, tmp_path):
    (tmp_path / "ratings.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "ratings.csv", name="rating", lower_better=False)
    path = value_path(damaged / "labels" / "rating", "jpeg-00000")
    values = read_records([path], Rating)
    write_table(path, [dataclasses.replace(values[0], mean=5.0, count=1), *values[1:]], Rating)
    with pytest.raises(PipelineError, match="rating: the values of jpeg-00000 have changed since they were written"):
        run(damaged, tmp_path / "e", label="rating")


def test_flagged_batches_stay_out_unless_they_are_allowed(damaged, tmp_path):
    flag(damaged, "jpeg-00001")
    report = run(damaged, tmp_path / "accepted")
    assert report.counts["samples"] == 40 - 8
    assert "8 samples of rejected batches are left out; --allow-flagged exports them" in report.lines
    with (tmp_path / "accepted" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        assert {row["accepted"] for row in csv.DictReader(file)} == {"True"}
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        run(damaged, tmp_path / "accepted", allow_flagged=True)
    for number in (0, 2):
        flag(damaged, f"jpeg-{number:05d}")
    with pytest.raises(PipelineError, match=r"all 20 selected samples .* rejected batches.* --allow-flagged"):
        run(damaged, tmp_path / "none", distortions=("jpeg",))
    assert not (tmp_path / "none").exists()
    for number in (0, 2):
        flag(damaged, f"jpeg-{number:05d}", accepted=True)
    run(damaged, tmp_path / "e", allow_flagged=True)
    with (tmp_path / "e" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        flagged = [int(row["sample"]) for row in csv.DictReader(file) if row["accepted"] == "False"]
    assert flagged == list(range(8, 16))
    assert "**8 samples are of rejected batches**" in (tmp_path / "e" / "README.md").read_text()


def test_a_disk_that_fills_up_is_said_and_the_export_goes_on_when_there_is_room(
    finished_corpus, whole_export, tmp_path, monkeypatch
):
    real, remaining = os.fsync, [30]

    def full_soon(descriptor):
        remaining[0] -= 1
        if remaining[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_soon)
    with pytest.raises(PipelineError, match=r"cannot write .*: No space left on device"):
        run(finished_corpus, tmp_path / "e")
    assert not (tmp_path / "e").exists()
    monkeypatch.setattr(os, "fsync", real)
    run(finished_corpus, tmp_path / "e")
    assert files_in(tmp_path / "e") == files_in(whole_export[0])


def test_an_added_label_is_a_column_and_another_export(damaged, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("sample,score\n0,4\n0,5\n3,1\n")
    run(damaged, tmp_path / "before")
    by_table(damaged, table, name="rating")
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        run(damaged, tmp_path / "before")
    report = run(damaged, tmp_path / "e", format="pyiqa_nr", label="rating")
    assert report.counts["samples"] == 2
    assert "38 samples have no rating and are left out" in report.lines
    with (tmp_path / "e" / "meta_info.csv").open(newline="", encoding="utf-8") as file:
        assert [row["rating_mean_higher_better"] for row in csv.DictReader(file)] == ["4.5", "1.0"]
    assert "ratings by people; higher is better" in (tmp_path / "e" / "README.md").read_text()


def test_an_interrupted_export_goes_on_and_gives_the_same_files(finished_corpus, whole_export, tmp_path):
    out = tmp_path / "again"
    metadata = json.loads((whole_export[0] / "store.json").read_text())
    work = StagedStore(out, metadata["config_hash"]).work
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


def test_a_killed_export_goes_on_where_it_was(finished_corpus, whole_export, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "distort_pipeline", "export", finished_corpus, "--out", out, "--workers", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".killed.*.building/ledger/*.json")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not out.exists()
    run(finished_corpus, out)
    assert files_in(out) == files_in(whole_export[0])
    assert json.loads((out / "run.json").read_text())["made_now"] < 6


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
    (damaged / "pixels.zarr/pristine/c.0.0.0.0").unlink()
    with pytest.raises(PipelineError, match=r"pristine/c\.0\.0\.0\.0 is missing"):
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
    assert open_corpus(Path(finished_corpus)).metadata.digest in (tmp_path / "e" / "README.md").read_text()
