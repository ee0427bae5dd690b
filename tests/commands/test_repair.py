import json
import shutil

import pytest
from damage import change_json, flip

from distort_pipeline.commands.label import by_table
from distort_pipeline.commands.repair import reopen, repair
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.rebuild import Inputs, rebuilder
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures", "store_copies"]


def times(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def repaired(path, **inputs):
    return repair(path, verify(path), rebuilder(path, Inputs(**inputs), Workers()))


def test_only_the_damaged_shards_of_a_corpus_are_rebuilt(damaged, small_manifest, models, finished_corpus):
    before = times(damaged)
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    (damaged / "pixels.zarr/pristine/c.2.0.0.0").unlink()
    (damaged / "records/white_noise-00002.parquet").write_bytes(b"")
    flip(damaged / "pixels.zarr/distorted/white_noise/zarr.json", 10)  # a file of the whole corpus
    assert verify(damaged).damaged >= {"jpeg-00001", "tiles-00002", "white_noise-00002"}
    assert repaired(damaged, manifest=small_manifest, models=models).problems == ()
    metadata = json.loads((damaged / "store.json").read_text())
    assert metadata["digest"] == json.loads((finished_corpus / "store.json").read_text())["digest"]
    after = times(damaged)
    rebuilt = {path for path in after if before.get(path) != after[path] and path.endswith((".parquet", ".0"))}
    assert rebuilt == {
        *("pixels.zarr/distorted/jpeg/c.1.0.0.0", "records/jpeg-00001.parquet"),
        *("pixels.zarr/pristine/c.2.0.0.0", "records/tiles-00002.parquet"),
        *("pixels.zarr/distorted/white_noise/c.2.0.0.0", "records/white_noise-00002.parquet"),
    }


def test_a_pair_store_is_repaired_with_its_external_pairs(pairs, small_manifest, faded):
    digest = json.loads((pairs / "store.json").read_text())["digest"]
    flip(pairs / "pixels.zarr/train/faded/c.0.1.0.0.0", 99)
    flip(pairs / "pixels.zarr/val/hills-1/jpeg-1/zarr.json", 3)
    (pairs / "ledger/train-00000.json").unlink()
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        repaired(pairs, manifest=small_manifest)
    assert (pairs / "store.json").is_file()
    assert repaired(pairs, manifest=small_manifest, external={"faded": str(faded)}).problems == ()
    assert json.loads((pairs / "store.json").read_text())["digest"] == digest


def test_an_export_is_repaired_from_its_corpus(exported, finished_corpus):
    flip(min((exported / "distorted/jpeg").iterdir()), 100)
    (exported / "metadata.csv").unlink()
    (exported / "ledger/white_noise-00000.json").write_text("{")
    assert repaired(exported, corpus=finished_corpus).problems == ()


def test_later_labels_are_left_out_of_a_repaired_export(damaged, tmp_path):
    out = tmp_path / "export"
    export.run(ExportConfig(workers=0), damaged, out, workers=Workers(0))
    (tmp_path / "ratings.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "ratings.csv", name="rating", lower_better=False)
    flip(out / "distorted/jpeg/00000001.png", 100)
    assert repaired(out, corpus=damaged).problems == ()


def test_damaged_labels_are_reported_and_the_corpus_stays_unchanged(damaged, tmp_path):
    (tmp_path / "ratings.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "ratings.csv", name="rating", lower_better=False)
    (damaged / "labels/rating/values/jpeg-00000.parquet").write_bytes(b"")
    before = times(damaged)
    with pytest.raises(PipelineError, match=r"labels are not repaired: delete the damaged folder in .*labels"):
        repaired(damaged)
    assert times(damaged) == before


def test_an_export_of_flagged_batches_is_repaired_with_them(damaged, tmp_path):
    report = damaged / "reports" / "jpeg-00001.json"
    report.write_text(report.read_text().replace('"accepted": true', '"accepted": false'))
    out = tmp_path / "export"
    export.run(ExportConfig(workers=0, allow_flagged=True), damaged, out, workers=Workers(0))
    flip(out / "distorted/jpeg/00000001.png", 100)
    assert repaired(out, corpus=damaged).problems == ()


def test_labels_are_not_listed_in_a_repaired_corpus(damaged, small_manifest, models):
    (damaged / "labels" / "mine").mkdir(parents=True)
    (damaged / "labels" / "mine" / "store.json").write_text("{}")
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    make = rebuilder(damaged, Inputs(manifest=small_manifest, models=models), Workers())
    reopen(damaged, verify(damaged))
    make()
    assert not [name for name in json.loads((damaged / "files.json").read_text()) if name.startswith("labels")]


def test_an_intact_store_stays_unchanged(damaged):
    before = times(damaged)
    assert repaired(damaged).problems == ()
    assert times(damaged) == before


def test_stores_that_cannot_be_repaired_are_reported_and_stay_unchanged(
    damaged, model, small_manifest, models, tmp_path
):
    flip(model / "generator.safetensors", 2000)
    with pytest.raises(PipelineError, match="has no shards to repair: train it again"):
        repair(model, verify(model), lambda: None)
    (damaged / "ledger/jpeg-00000.json").unlink()
    other = shutil.copytree(models, tmp_path / "models")
    change_json(other / "jpeg" / "store.json", weights_digest="0")
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        repaired(damaged, manifest=small_manifest, models=other)
    change_json(damaged / "store.json", overlap={})
    with pytest.raises(PipelineError, match=r"store\.json is damaged, and with it the settings of the store"):
        repaired(damaged, manifest=small_manifest, models=models)
    assert damaged.is_dir()
