import shutil
import subprocess
import sys

import pytest
from damage import change_json, flip, only_problem, problems

from distort_pipeline.commands.verify import verify
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers

pytest_plugins = ["corpus_fixtures", "store_copies"]

JPEG_SHARD = "pixels.zarr/distorted/jpeg/c.1.0.0.0"


def test_new_stores_have_no_problems(finished_corpus, pair_store, models, exported, small_manifest):
    for path, kind, counts in (
        (finished_corpus, "corpus", {"samples": 40, "shards": 9, "images": 60, "records": 60, "listed files": 49}),
        (pair_store.folder, "pairs", {"shards": 5, "records": 30, "pairs": 30, "arrays": 20}),
        (models / "jpeg", "model", {"histograms": 20}),
        (models / "white_noise", "model", {"histograms": 20}),
        (exported, "export", {"files": 11}),
        (small_manifest, "manifest", {"images": 5}),
    ):
        report = verify(path)
        assert report.problems == ()
        assert report.kind == kind
        assert {name: report.counts[name] for name in counts} == counts
        assert report.summary.startswith(f"{kind}: all as it was made; checked ")


def test_missing_workers_are_an_error_and_no_finding(finished_corpus, monkeypatch):
    monkeypatch.setattr("distort_pipeline.execution.CONNECT_SECONDS", 1)
    with pytest.raises(WorkersError, match="no Dask scheduler with a worker answers"):
        verify(finished_corpus, workers=Workers(scheduler="tcp://127.0.0.1:1"))
    with pytest.raises(WorkersError, match="--workers must be 0 or more, got -1"):
        Workers(-1)


def test_leftovers_and_foreign_files_are_named(damaged):
    (damaged / "reports" / ".jpeg-00000.json.1234.partial").write_text("")
    (damaged / "records" / "jpeg-00009.parquet").write_text("")
    work = damaged.parent / f".{damaged.name}.0123456789abcdef.building"
    work.mkdir()
    text = problems(damaged)
    assert "jpeg-00000.json.1234.partial was left behind" in text
    assert "jpeg-00009.parquet belongs to nothing in this store" in text
    assert f"{work} is left of an interrupted run" in text


def test_all_problems_are_named_and_workers_find_the_same(damaged):
    flip(damaged / JPEG_SHARD, 60)
    (damaged / "records" / "white_noise-00002.parquet").unlink()
    change_json(damaged / "store.json", digest="0")
    report = verify(damaged)
    assert len(report.problems) == 3
    assert report.summary.startswith("corpus: 3 problems; checked ")
    assert sorted(verify(damaged, workers=Workers(1)).problems) == sorted(report.problems)


def test_a_store_of_another_manifest_is_a_problem(damaged, pairs, small_manifest, tmp_path, make_manifest, photographs):
    assert problems(damaged, manifest=small_manifest) == problems(pairs, manifest=small_manifest) == ""
    other = make_manifest(tmp_path / "other", {"a": (photographs["wren"], "train")})
    assert only_problem(damaged, manifest=other).endswith("was made of another manifest")
    assert only_problem(pairs, manifest=other).endswith("was made of another manifest")


def test_a_folder_of_stores_is_checked_store_by_store(model, damaged, small_manifest, tmp_path):
    build = tmp_path / "build"
    (build / "models").mkdir(parents=True)
    shutil.move(model, build / "models" / "jpeg")
    shutil.move(damaged, build / "corpus")
    shutil.copytree(small_manifest.parent, build / "images")
    report = verify(build)
    assert (report.kind, report.problems) == ("folder", ())
    assert report.counts == {"model": 1, "corpus": 1, "manifest": 1}
    flip(build / "models" / "jpeg" / "generator.safetensors", -1)
    flip(build / "corpus" / JPEG_SHARD, 8)
    (build / ".pairs.0123456789abcdef.building").mkdir()
    found_problems = verify(build).problems
    assert len(found_problems) == 3
    assert found_problems[0].endswith(
        ".pairs.0123456789abcdef.building is left of an interrupted run; repeat its command, or delete the folder"
    )
    assert found_problems[1].startswith("corpus: jpeg-00001: ")
    assert found_problems[2].startswith("models/jpeg: ")


def test_verify_needs_neither_tensorflow_nor_dask(finished_corpus, models):
    code = (
        "import sys; from pathlib import Path; from distort_pipeline.commands.verify import verify;"
        f"print(verify(Path({str(finished_corpus)!r})).problems, verify(Path({str(models)!r})).problems,"
        "[name for name in ('tensorflow', 'keras', 'dask', 'distributed') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "() () []"


def test_a_path_without_our_stores_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for path, message in (
        (tmp_path / "nowhere", "there is nothing at"),
        (tmp_path, "no manifest, and no store.json of ours"),
        (tmp_path / "notes.txt", "`verify` cannot check .*notes.txt"),
    ):
        with pytest.raises(PipelineError, match=message):
            verify(path)


def test_a_metadata_field_outside_all_digests_is_sealed(model):
    change_json(model / "store.json", network={"base_filters": 5, "noise_channels": 0})
    assert only_problem(model) == "store.json was changed: its seal differs from the digest of its fields"
