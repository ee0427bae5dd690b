import errno
import json
import shutil

import pytest
from click.testing import CliRunner
from corpus_fixtures import lenient
from damage import change_json, flip

from distort_pipeline.cli import main
from distort_pipeline.commands.label import by_table
from distort_pipeline.commands.repair import Inputs, rebuilder, repair
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.leases import Ledger
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures", "store_copies"]


def times(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def repaired(path, **inputs):
    with lenient():
        make_again(path, rebuilder(path, Inputs(**inputs), Workers()))
    return verify(path)


def make_again(path, make):
    report = verify(path)
    repair(path, report.kind, report.changed, make)


def test_files_belong_to_shards_or_to_the_whole_store(damaged, pairs, exported):
    image = min((exported / "distorted/jpeg").iterdir()).relative_to(exported).as_posix()
    for store, name, shard in (
        (damaged, "records/tiles-00001.parquet", "tiles-00001"),
        (damaged, "truth/tiles-00000.npz", "tiles-00000"),
        (damaged, "index.html", None),
        (damaged, "pixels.zarr/distorted/jpeg/zarr.json", None),
        (damaged, "pixels.zarr/distorted/jpeg/c.1.0.0.0", "jpeg-00001"),
        (damaged, "reports/jpeg-00002.png", "jpeg-00002"),
        (pairs, "pixels.zarr/train/jpeg/c.0.1.0.0.0", "train-00001"),
        (pairs, "pixels.zarr/val/hills-1/jpeg-1/zarr.json", "val-00000"),
        (exported, "metadata.csv", "tables"),
        (exported, image, "jpeg-00000"),
    ):
        assert (store / name).is_file()
        assert {file: owner for owner, file, _ in Ledger(store).every_file()}.get(name) == shard


def test_only_the_damaged_shards_of_a_corpus_are_rebuilt(damaged, small_manifest, models, finished_corpus):
    before = times(damaged)
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    (damaged / "pixels.zarr/pristine/c.2.0.0.0").unlink()
    (damaged / "records/white_noise-00002.parquet").write_bytes(b"")
    flip(damaged / "pixels.zarr/distorted/white_noise/zarr.json", 10)  # a file of the whole corpus
    assert repaired(damaged, manifest=small_manifest, models=models).problems == ()
    metadata = json.loads((damaged / "store.json").read_text())
    assert metadata["digest"] == json.loads((finished_corpus / "store.json").read_text())["digest"]
    after = times(damaged)
    rebuilt = {path for path in after if before.get(path) != after[path] and path.endswith((".parquet", ".0"))}
    assert rebuilt == {
        "pixels.zarr/distorted/jpeg/c.1.0.0.0",
        "pixels.zarr/pristine/c.2.0.0.0",
        "records/white_noise-00002.parquet",
    }


def test_a_corpus_with_damaged_reports_is_repaired(damaged, small_manifest, models):
    (damaged / "reports/jpeg-00001.json").write_text('{"format": ')
    assert repaired(damaged, manifest=small_manifest, models=models).problems == ()


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


def test_a_corpus_is_repaired_in_place_through_a_link_with_its_labels(damaged, small_manifest, models, tmp_path):
    (tmp_path / "ratings.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "ratings.csv", name="rating")
    (damaged / "mine.txt").write_text("")
    link = tmp_path / "link"
    link.symlink_to(damaged)
    before = times(damaged)
    flip(damaged / "pixels.zarr/distorted/jpeg/c.1.0.0.0", 60)
    (damaged / "pixels.zarr/distorted/zarr.json").unlink()  # of a group, without a shard
    (only,) = repaired(link, manifest=small_manifest, models=models).problems
    assert only.endswith("mine.txt belongs to nothing in this store")
    assert link.is_symlink()
    after = times(damaged)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} >= {"pixels.zarr/distorted/jpeg/c.1.0.0.0"}
    assert [name for name in after if name.startswith("labels") and after[name] != before[name]] == []


def test_a_damaged_listing_is_made_again(damaged, small_manifest, models):
    before = times(damaged)
    flip(damaged / "files.json", 80)
    (damaged / "records/jpeg-00001.parquet").unlink()
    assert repaired(damaged, manifest=small_manifest, models=models).problems == ()
    after = times(damaged)
    assert "pixels.zarr/distorted/white_noise/c.2.0.0.0" in {name for name in before if after[name] == before[name]}


def refused(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_disk_without_hard_links_needs_room_for_copies(damaged, small_manifest, models, monkeypatch):
    flip(damaged / "records/jpeg-00001.parquet", 60)
    before = times(damaged)
    monkeypatch.setattr("os.link", refused)
    with monkeypatch.context() as full:
        full.setattr("distort_pipeline.data.files.free_bytes", lambda _: 1000)
        with pytest.raises(PipelineError, match=r"stays as it was: .* the disk has 0\.00 GB free"):
            repaired(damaged, manifest=small_manifest, models=models)
    assert times(damaged) == before
    assert repaired(damaged, manifest=small_manifest, models=models).problems == ()


def test_without_inputs_or_permission_every_store_stays_as_it_was(
    damaged, pairs, exported, small_manifest, models, faded, tmp_path, monkeypatch
):
    for store, name, inputs in (
        (damaged, "truth/tiles-00000.npz", {"manifest": small_manifest, "models": models}),
        (pairs, "records/train-00000.parquet", {"manifest": small_manifest, "external": {"faded": str(faded)}}),
        (exported, min((exported / "distorted/jpeg").iterdir()).relative_to(exported).as_posix(), {"corpus": damaged}),
    ):
        flip(store / name, 20)
        before = times(store)
        missing = tmp_path / "nothing"
        others = [{**inputs, key: missing} for key in inputs if key != "external"]
        others += [{**inputs, "root": missing}] if store is not exported else []
        for other in others:
            with pytest.raises(PipelineError, match="cannot be repaired and stays as it was: "):
                repaired(store, **other)
            assert times(store) == before
        with monkeypatch.context() as forbidden:
            forbidden.setattr("distort_pipeline.commands.repair.require_writable", refused)
            with pytest.raises(PipelineError, match=r"stays as it was: cannot write .*Operation not permitted"):
                repaired(store, **inputs)
        assert times(store) == before


def test_a_repair_with_another_digest_is_refused(damaged, small_manifest, models):
    flip(damaged / "records/jpeg-00001.parquet", 60)
    before = times(damaged)

    def make(out):
        if out != damaged:
            rebuilder(damaged, Inputs(manifest=small_manifest, models=models), Workers())(out)
            change_json(out / "store.json", digest="0")

    with pytest.raises(PipelineError, match="stays as it was: rebuilt, it has another digest"):
        make_again(damaged, make)
    assert times(damaged) == before


def test_an_intact_store_stays_unchanged(damaged):
    before = times(damaged)
    assert repaired(damaged).problems == ()
    assert times(damaged) == before


def test_a_store_that_cannot_be_repaired_does_not_keep_others_from_it(exported, model, small_manifest, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(small_manifest.parent, folder / "photos")
    (folder / "photos/wren.png").unlink()
    flip(model / "generator.safetensors", 2000)
    (exported / "metadata.csv").unlink()
    corpus = exported.parent / "nowhere"
    paths = [corpus, model, folder / "photos/manifest.jsonl", folder, exported]
    before = times(tmp_path)
    result = CliRunner().invoke(main, ["verify", *map(str, paths), "--repair", "--corpus", str(corpus)])
    assert result.exit_code == 2
    assert times(tmp_path) == before
    for reason in (
        f"there is nothing at {corpus}",
        f"{model / 'generator.safetensors'} was changed: its checksum differs",
        f"{model} has no shards to repair: move it away and train it again",
        "wren.png cannot be used any more: there is no such file",
        f"{folder / 'photos/manifest.jsonl'} has no shards to repair: ingest again",
        f"{folder} has no shards to repair: name the damaged store in it",
        f"{exported} cannot be repaired and stays as it was: {corpus} holds no corpus",
    ):
        assert reason in result.output


def test_stores_that_cannot_be_repaired_are_reported_and_stay_unchanged(
    damaged, model, small_manifest, models, tmp_path
):
    flip(model / "generator.safetensors", 2000)
    with pytest.raises(PipelineError, match="has no shards to repair: move it away and train it again"):
        make_again(model, lambda _: None)
    (damaged / "ledger/jpeg-00000.json").unlink()
    other = shutil.copytree(models, tmp_path / "models")
    change_json(other / "jpeg" / "store.json", weights_digest="0")
    with pytest.raises(PipelineError, match="was made with other settings or inputs"):
        repaired(damaged, manifest=small_manifest, models=other)
    change_json(damaged / "store.json", overlap={})
    with pytest.raises(PipelineError, match=r"store\.json is damaged, and with it the settings of the store"):
        repaired(damaged, manifest=small_manifest, models=models)
    assert damaged.is_dir()
