import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from external_folders import external_only, write

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.external_pairs import Partners
from distort_pipeline.data.images import encode_png
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import apply
from distort_pipeline.distortions.presets import parameters
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import make_rng, sample_seed
from distort_pipeline.steps import pairs as step


@pytest.fixture
def plain(small_settings):
    """Settings for the small sample_images under JPEG and white noise."""
    return PairsConfig(**small_settings)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, small_settings, small_manifest):
    """The store of `plain`, made undisturbed in this process."""
    out = tmp_path_factory.mktemp("reference") / "pairs"
    step.run(PairsConfig(**small_settings), small_manifest, out)
    return open_pairs(out)


def true_image(sample_images, record):
    """The whole distorted image that a record says its tile is of."""
    pristine = sample_images[record.image.removesuffix("-1")]
    if record.distortion == "faded":
        return pristine // 2 + 100
    return apply(record.distortion, pristine, json.loads(record.parameters), make_rng(record.seed)).image


def test_tiles_are_cut_from_the_distorted_whole_image(pair_store, sample_images):
    for index, record in enumerate(pair_store.records()):
        pristine = sample_images[record.image.removesuffix("-1")]
        inside = (slice(record.y, record.y + record.height), slice(record.x, record.x + record.width))
        pair = pair_store[index]
        assert np.array_equal(pair.pristine, pristine[inside])
        assert np.array_equal(pair.distorted, true_image(sample_images, record)[inside])


def test_validation_images_are_whole_and_true(pair_store, sample_images):
    for distortion in pair_store.distortions:
        for record, pristine, bad in pair_store.validation(distortion):
            assert np.array_equal(pristine, sample_images[record.image.removesuffix("-1")])
            assert np.array_equal(bad, true_image(sample_images, record))
            assert (record.y, record.x, record.height, record.width) == (0, 0, *pristine.shape[:2])


def test_records_have_the_recipe_of_each_tile(pair_store, small_sizes):
    for record in pair_store.records() + pair_store.records("val"):
        if record.distortion == "faded":
            facts = json.loads(record.facts)
            assert facts["file"] == f"{record.image.removesuffix('-1')}.png"
            assert (facts["image_height"], facts["image_width"]) == small_sizes[record.image.removesuffix("-1")]
            assert (record.parameters, record.seed) == ("{}", 0)
            continue
        assert json.loads(record.parameters) == parameters("paper_like", record.distortion, record.level)
        assert record.seed == sample_seed(0, record.image_digest, record.distortion, record.level)
        assert record.distortion != "jpeg" or json.loads(record.facts)["bytes"] > 500


def test_slots_are_global_and_each_distortion_has_its_own(pair_store):
    for distortion in pair_store.distortions:
        records = [record for record in pair_store.records() if record.distortion == distortion]
        slots = [record.slot for record in records]
        assert len(set(slots)) == len(slots)
        assert all(record.slot // 4 == record.shard for record in records)
        assert max(slots) < pair_store.array(f"train/{distortion}").shape[1]
        assert Counter(record.image for record in records).keys() == {"wren-1", "osprey-1", "flower-1"}
    assert {record.shard for record in pair_store.records()} == {0, 1, 2}


def test_a_smaller_image_is_padded_and_its_record_has_the_extent(pair_store):
    small = [record for record in pair_store.records() if record.image == "flower-1"]
    assert {(record.y, record.height, record.width) for record in small} == {(0, 200, 256)}
    assert {record.x % 16 for record in small} == {0}


def test_the_metadata_describes_the_store(pair_store, small_manifest):
    metadata = pair_store.metadata
    tiles = metadata.counts.train_tiles
    assert metadata.counts.pairs == 3 * (tiles + 2) == len(pair_store) + len(pair_store.records("val"))
    assert [entry["shard"] for entry in pair_store.ledger()] == [f"train-0000{n}" for n in range(3)] + [
        "val-00000",
        "val-00001",
    ]
    assert metadata.codecs.keys() >= {"opencv", "libjpeg", "numpy"}
    assert {recipe.distortion: recipe.external for recipe in metadata.recipes} == {
        "jpeg": False,
        "white_noise": False,
        "faded": True,
    }
    assert metadata.manifest_digest == json.loads(small_manifest.read_text(encoding="utf-8").splitlines()[0])["digest"]
    assert not list(pair_store.folder.parent.glob(".*"))  # no work folder is left
    assert not {"seconds", "made_now"} & metadata.to_json().keys()  # what depends on the run is in run.json


def test_a_second_run_has_nothing_to_do(reference, plain, small_manifest):
    before = (reference.folder / "store.json").stat().st_mtime_ns
    report = step.run(plain, small_manifest, reference.folder)
    assert "nothing to do" in report.lines[0]
    assert (reference.folder / "store.json").stat().st_mtime_ns == before


def test_any_workers_make_the_same_store(reference, plain, small_manifest, tmp_path):
    # spawned processes, as `distort-pipeline pairs --workers 2` runs them
    report = step.run(plain, small_manifest, tmp_path / "pairs", workers=Workers(2))
    store = open_pairs(tmp_path / "pairs")
    assert store.metadata.digest == reference.metadata.digest
    assert store.ledger() == reference.ledger()
    assert report.counts == dataclasses.asdict(reference.metadata.counts)


def test_worker_settings_have_no_effect(reference, plain, small_manifest):
    report = step.run(dataclasses.replace(plain, workers=7), small_manifest, reference.folder)
    assert "nothing to do" in report.lines[0]


def test_after_a_kill_only_unfinished_shards_are_made_and_the_store_is_the_same(
    reference, plain, small_manifest, tmp_path, monkeypatch
):
    out = tmp_path / "pairs"
    written = []

    def killed(function, tasks, _):
        for task in sorted(tasks, key=lambda task: task.shard.name[::-1])[:4]:  # in another order
            entry = function(task)
            written.append(entry["shard"])
            yield entry
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("distort_pipeline.data.leases.run_tasks", killed)
        with pytest.raises(KeyboardInterrupt):
            step.run(plain, small_manifest, out)
    assert not out.exists()
    (work,) = tmp_path.glob(".pairs.*.building")
    # a shard was written but has no entry yet, and a writer died in the middle of two files
    (work / "ledger" / f"{written[0]}.json").unlink()
    # a power cut left the entry of a shard without the end of its pixels, and no metadata of a group
    pixels = next((work / "pixels.zarr").glob(f"train/jpeg/c.0.{int(written[1][-5:])}.*"), None) or next(
        work.glob("pixels.zarr/val/*/jpeg-1/c*")
    )
    pixels.write_bytes(pixels.read_bytes()[:1000])
    (work / "pixels.zarr" / "val" / "zarr.json").write_bytes(b"")
    (work / "pixels.zarr" / "train" / "jpeg" / "c.0123.partial").write_bytes(b"half")
    (work / "records" / ".train-00000.parquet.0123.partial").write_bytes(b"half")
    now = []
    original = step.make_shard
    monkeypatch.setattr(step, "make_shard", lambda task: now.append(task.shard.name) or original(task))
    step.run(plain, small_manifest, out)
    assert set(now) == {entry["shard"] for entry in reference.ledger()} - set(written[2:])
    assert open_pairs(out).metadata.digest == reference.metadata.digest
    assert not list(out.rglob("*.partial"))
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["made_now"] == len(now) == 3


def test_other_settings_make_another_store_and_never_replace_one(reference, plain, small_manifest, tmp_path):
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        step.run(dataclasses.replace(plain, seed=1), small_manifest, reference.folder)
    step.run(dataclasses.replace(plain, seed=1), small_manifest, tmp_path / "pairs")
    assert open_pairs(tmp_path / "pairs").metadata.digest != reference.metadata.digest


def test_levels_stand_side_by_side_over_one_pristine_tile(plain, small_manifest, sample_images, tmp_path):
    config = dataclasses.replace(plain, distortions=("jpeg",), preset="kadid", levels=(5, 1))
    step.run(config, small_manifest, tmp_path / "pairs")
    store = open_pairs(tmp_path / "pairs")
    assert store.levels("jpeg") == (5, 1)
    assert store.array("train/jpeg").shape[0] == 2
    for index, record in enumerate(store.records()):
        assert record.level_index == (5, 1).index(record.level)
        inside = (slice(record.y, record.y + record.height), slice(record.x, record.x + record.width))
        assert np.array_equal(store[index].distorted, true_image(sample_images, record)[inside])
    assert {record.level for record, _, _ in store.validation("jpeg", 1)} == {1}
    assert {json.loads(record.parameters)["quality"] for record in store.records()} == {4, 43}


def test_pairs_from_a_csv_with_gaps_are_counted_not_fatal(sample_images, make_manifest, small_settings, tmp_path):
    names = ["wren", "osprey", "flower", "maple"]
    manifest = make_manifest(
        tmp_path / "in", {name: (sample_images[name], "val" if name == "maple" else "train") for name in names}
    )
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "1.png").write_bytes(encode_png(255 - sample_images["wren"]))
    (bad / "2.png").write_bytes(encode_png(sample_images["osprey"][:-1]))  # a row short
    (bad / "3.png").write_bytes(b"no image")
    (bad / "pairs.csv").write_text(
        "pristine,distorted\nwren.png,1.png\nosprey.png,2.png\nflower.png,3.png\nmaple.png,4.png\n", encoding="utf-8"
    )
    config = PairsConfig(**{**small_settings, "distortions": ()}, external={"scan": str(bad / "pairs.csv")})
    report = step.run(config, manifest, tmp_path / "pairs")
    assert report.counts["missing"] == 3
    assert report.counts["pairs"] == 3  # the wren's tiles
    said = "\n".join(report.lines)
    assert "osprey-1: scan left out, its partner 2.png is 304 x 287 px, the image 304 x 288 px" in said
    assert "flower-1: scan left out, its partner 3.png cannot be used: text and no image: 'no image'" in said
    assert "maple-1: scan left out, its partner 4.png cannot be used: there is no such file" in said
    store = open_pairs(tmp_path / "pairs")
    assert {record.image for record in store.records()} == {"wren-1"}
    assert np.array_equal(store[0].distorted, 255 - store[0].pristine)
    assert store.records("val") == []


def test_images_without_a_partner_in_a_folder_are_counted(sample_images, small_manifest, small_settings, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "wren.png").write_bytes(encode_png(255 - sample_images["wren"]))
    config = PairsConfig(**{**small_settings, "distortions": ()}, external={"scan": str(bad)})
    report = step.run(config, small_manifest, tmp_path / "pairs")
    assert report.counts["missing"] == 4
    assert "flower-1: scan left out, no distorted partner" in "\n".join(report.lines)


def test_names_of_external_pairs_may_stand_among_the_distortions(small_settings):
    config = PairsConfig(**{**small_settings, "distortions": ("jpeg", "scan")}, external={"scan": "somewhere"})
    assert [
        (recipe.distortion, recipe.external) for recipe in step.recipes_of(config, {"scan": [Partners(Path(), {}, {})]})
    ] == [
        ("jpeg", False),
        ("scan", True),
    ]


def test_no_pair_at_all_is_an_error_before_any_work(sample_images, small_manifest, small_settings, tmp_path):
    narrow = write(tmp_path / "narrow", {name: image[:, 1:] for name, image in sample_images.items()})
    config = dataclasses.replace(external_only(small_settings, narrow), distortions=("jpeg",))
    with pytest.raises(PipelineError, match=r"scan has no usable pair among 5 images; the first is .* px, the image"):
        step.run(config, small_manifest, tmp_path / "pairs")
    assert [path.name for path in tmp_path.iterdir()] == ["narrow"]


def test_partners_of_other_images_mirrored_and_turned_are_reported(
    sample_images, small_manifest, small_settings, tmp_path
):
    images = {**sample_images, "maple": np.ascontiguousarray(sample_images["maple"][:, ::-1])}
    images["hills"] = np.ascontiguousarray(sample_images["hills"][::-1, ::-1])
    images["wren"] = cv2.resize(sample_images["osprey"], sample_images["wren"].shape[1::-1])
    wrong = write(tmp_path / "wrong", images)
    for _ in range(2):  # also where nothing is left to do
        said = "\n".join(step.run(external_only(small_settings, wrong), small_manifest, tmp_path / "pairs").lines)
        assert "3 of 5 partners of scan seem to be of another image, mirrored or turned" in said
        assert "maple-1: its partner maple.png in scan resembles its image mirrored" in said
        assert "hills-1: its partner hills.png in scan resembles its image turned by 180°" in said
        assert "wren-1: its partner wren.png" in said
    assert "nothing to do" in said
    assert not (tmp_path / "pairs" / "thumbnails").exists()


def test_files_without_an_image_are_counted(sample_images, small_manifest, small_settings, tmp_path):
    folder = write(tmp_path / "more", {**sample_images, "stranger": sample_images["wren"]})
    for _ in range(2):
        lines = step.run(external_only(small_settings, folder), small_manifest, tmp_path / "pairs").lines
        assert "1 of scan not used: no image of the manifest for stranger.png" in lines
        assert not any("warning" in line for line in lines)


def test_another_partner_makes_another_store(small_manifest, small_settings, sample_images, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "wren.png").write_bytes(encode_png(255 - sample_images["wren"]))
    config = PairsConfig(**{**small_settings, "distortions": ()}, external={"scan": str(bad)})
    step.run(config, small_manifest, tmp_path / "pairs")
    moved_folder = shutil.move(bad, tmp_path / "elsewhere")  # the path has no effect
    elsewhere = dataclasses.replace(config, external={"scan": str(moved_folder)})
    assert "nothing to do" in step.run(elsewhere, small_manifest, tmp_path / "pairs").lines[0]
    (tmp_path / "elsewhere" / "wren.png").write_bytes(encode_png(sample_images["wren"]))
    with pytest.raises(PipelineError, match="already exists"):
        step.run(elsewhere, small_manifest, tmp_path / "pairs")


def test_a_pristine_image_that_changed_since_ingest_stops_the_run(sample_images, make_manifest, plain, tmp_path):
    manifest = make_manifest(
        tmp_path / "in", {"wren": (sample_images["wren"], "train"), "x": (sample_images["hills"], "val")}
    )
    changed = sample_images["wren"].copy()
    changed[0, 0, 0] ^= 1
    (tmp_path / "in" / "wren.png").write_bytes(encode_png(changed))
    read_ingested.cache_clear()
    with pytest.raises(PipelineError, match=r"wren\.png .*other pixels than when it was ingested; run ingest again"):
        step.run(plain, manifest, tmp_path / "pairs")
    (tmp_path / "in" / "wren.png").unlink()
    with pytest.raises(PipelineError, match=r"wren\.png .*no such file"):
        step.run(plain, manifest, tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distortions": ("jpegg",)}, "'jpegg'.*did you mean jpeg"),
        ({"preset": "kadidd"}, r"no preset is called 'kadidd'; did you mean kadid\?"),
        ({"levels": (2,)}, "jpeg at level 1 only, got 2"),
        ({"distortions": ("pink_noise",), "preset": "kadid"}, "presets that have it: dbcnn, paper_like"),
        ({"min_tile_px": 384, "tile_px": 384}, "no training image is at least 384 px"),
        (
            {"external": {"jpeg": "nowhere"}},
            "pairs.external cannot have the name jpeg: a true distortion has this name",
        ),
        ({"external": {"scan": "nowhere"}}, "there is no folder, archive or CSV of distorted images at nowhere"),
    ],
)
def test_settings_that_cannot_be_met_leave_nothing_behind(plain, small_manifest, tmp_path, changes, said):
    config = dataclasses.replace(plain, **changes)
    with pytest.raises(PipelineError, match=said):
        step.run(config, small_manifest, tmp_path / "pairs")
    assert not list(tmp_path.iterdir())


def test_images_too_small_for_a_tile_are_counted(plain, small_manifest, tmp_path):
    report = step.run(dataclasses.replace(plain, min_tile_px=256), small_manifest, tmp_path / "pairs")
    assert report.counts["too_small"] == 1
    assert "1 training images are too small" in "\n".join(report.lines)
    assert "flower-1" not in {record.image for record in open_pairs(tmp_path / "pairs").records()}


def test_too_little_disk_is_said_before_the_work(plain, small_manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(PipelineError, match=r"needs about 0\.0\d GB and the disk has 0\.00 GB free"):
        step.run(plain, small_manifest, tmp_path / "pairs")
    assert not list(tmp_path.rglob("*.zarr"))
