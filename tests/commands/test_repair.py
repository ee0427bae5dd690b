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


def mended(path, **inputs):
    return repair(path, verify(path), rebuilder(path, Inputs(**inputs), Workers()))


def test_exactly_the_damaged_shards_of_a_corpus_are_made_again(damaged, small_manifest, models, finished_corpus):
    before = times(damaged)
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    (damaged / "pixels.zarr/pristine/c.2.0.0.0").unlink()
    (damaged / "records/white_noise-00002.parquet").write_bytes(b"")
    flip(damaged / "pixels.zarr/distorted/white_noise/zarr.json", 10)  # of no single shard
    assert verify(damaged).damaged >= {"jpeg-00001", "tiles-00002", "white_noise-00002"}
    assert mended(damaged, manifest=small_manifest, models=models).problems == ()
    metadata = json.loads((damaged / "store.json").read_text())
    assert metadata["digest"] == json.loads((finished_corpus / "store.json").read_text())["digest"]
    after = times(damaged)
    again = {path for path in after if before.get(path) != after[path] and path.endswith((".parquet", ".0"))}
    assert again == {
        *("pixels.zarr/distorted/jpeg/c.1.0.0.0", "records/jpeg-00001.parquet"),
        *("pixels.zarr/pristine/c.2.0.0.0", "records/tiles-00002.parquet"),
        *("pixels.zarr/distorted/white_noise/c.2.0.0.0", "records/white_noise-00002.parquet"),
    }


def test_a_pair_store_is_repaired_with_the_images_that_were_brought(pairs, small_manifest, faded):
    digest = json.loads((pairs / "store.json").read_text())["digest"]
    flip(pairs / "pixels.zarr/train/faded/c.0.1.0.0.0", 99)
    flip(pairs / "pixels.zarr/val/hills-1/jpeg-1/zarr.json", 3)
    (pairs / "ledger/train-00000.json").unlink()
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        mended(pairs, manifest=small_manifest)
    assert (pairs / "store.json").is_file()
    assert mended(pairs, manifest=small_manifest, external={"faded": str(faded)}).problems == ()
    assert json.loads((pairs / "store.json").read_text())["digest"] == digest


def test_an_export_is_repaired_from_its_corpus(exported, finished_corpus):
    flip(min((exported / "distorted/jpeg").iterdir()), 100)
    (exported / "metadata.csv").unlink()
    (exported / "ledger/white_noise-00000.json").write_text("{")
    assert mended(exported, corpus=finished_corpus).problems == ()


def test_labels_that_came_later_are_no_part_of_an_export_that_is_repaired(damaged, tmp_path):
    out = tmp_path / "export"
    export.run(ExportConfig(workers=0), damaged, out, workers=Workers(0))
    (tmp_path / "answers.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "answers.csv", name="rating", lower_better=False)
    flip(out / "distorted/jpeg/00000001.png", 100)
    assert mended(out, corpus=damaged).problems == ()


def test_damaged_labels_are_to_be_made_again_and_the_corpus_is_left_as_it_is(damaged, tmp_path):
    (tmp_path / "answers.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "answers.csv", name="rating", lower_better=False)
    (damaged / "labels/rating/values/jpeg-00000.parquet").write_bytes(b"")
    before = times(damaged)
    with pytest.raises(PipelineError, match=r"labels are not repaired: delete the damaged folder in .*labels"):
        mended(damaged)
    assert times(damaged) == before


def test_an_export_of_flagged_batches_is_repaired_as_it_was_allowed(damaged, tmp_path):
    report = damaged / "reports" / "jpeg-00001.json"
    report.write_text(report.read_text().replace('"within_bounds": true', '"within_bounds": false'))
    out = tmp_path / "export"
    export.run(ExportConfig(workers=0, allow_flagged=True), damaged, out, workers=Workers(0))
    flip(out / "distorted/jpeg/00000001.png", 100)
    assert mended(out, corpus=damaged).problems == ()


def test_labels_of_a_corpus_are_not_listed_when_it_is_repaired(damaged, small_manifest, models):
    (damaged / "labels" / "mine").mkdir(parents=True)
    (damaged / "labels" / "mine" / "store.json").write_text("{}")
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    make = rebuilder(damaged, Inputs(manifest=small_manifest, models=models), Workers())
    reopen(damaged, verify(damaged))
    make()
    assert not [name for name in json.loads((damaged / "files.json").read_text()) if name.startswith("labels")]


def test_a_sound_store_is_left_alone(damaged):
    before = times(damaged)
    assert mended(damaged).problems == ()
    assert times(damaged) == before


def test_what_cannot_be_repaired_is_said_and_left_as_it_is(damaged, model, small_manifest, models, tmp_path):
    flip(model / "generator.safetensors", 2000)
    with pytest.raises(PipelineError, match="has no shards to repair: train it again"):
        repair(model, verify(model), lambda: None)
    (damaged / "ledger/jpeg-00000.json").unlink()
    other = shutil.copytree(models, tmp_path / "models")
    change_json(other / "jpeg" / "store.json", weights_digest="0")
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        mended(damaged, manifest=small_manifest, models=other)
    change_json(damaged / "store.json", overlap={})
    with pytest.raises(PipelineError, match=r"store\.json is damaged, and nothing else says how the store was made"):
        mended(damaged, manifest=small_manifest, models=models)
    assert damaged.is_dir()
