import json

import numpy as np
from damage import change_json, flip, only_problem, problems

from distort_pipeline.commands.check_pairs import PairColumn, PairShard, check_shard
from distort_pipeline.commands.verify import verify
from distort_pipeline.records import digest
from distort_pipeline.stores.arrays import create_group, pixel_digest, write_image
from distort_pipeline.stores.files import write_json

pytest_plugins = ["corpus_fixtures", "store_copies"]


def test_a_deleted_black_image_is_found(tmp_path):
    """Zarr reads a missing file as black, the lost pixels: the digest alone would not reveal the loss."""
    black = np.zeros((16, 16, 3), np.uint8)
    create_group(tmp_path)
    write_image(tmp_path, "val/a/pristine", black)
    metadata = {"format": "distort-pipeline/pairs", "version": 2, "shards": {"train": 0, "val": 1}}
    write_json(tmp_path / "store.json", metadata)
    entry = {"shard": "val-00000", "pairs": 0, "tiles": 1, "arrays": {"pristine": pixel_digest([black])}}
    entry |= {"records": digest([]), "missing": [{"image": "a", "distortion": "faded", "reason": "none"}]}
    write_json(tmp_path / "ledger" / "val-00000.json", {**entry, "digest": digest(entry)})
    shard = PairShard(tmp_path, "val", 0, 4, 256, (PairColumn("pristine", None, 0),), True)
    assert not any("pristine" in problem for problem in check_shard(shard).problems)
    (tmp_path / "pixels.zarr/val/a/pristine/c.0.0.0").unlink()
    assert any("val/a/pristine/c.0.0.0 is missing" in problem for problem in check_shard(shard).problems)


def test_damage_in_a_pair_store_is_found(pairs):
    group = create_group(pairs)
    array = group["train/white_noise"]
    tile = array[0, 1]
    tile[5, 5, 0] ^= 128
    array[0, 1] = tile
    (pairs / "pixels.zarr/train/pristine/c.0.1.0.0.0").unlink()
    flip(pairs / "pixels.zarr/train/jpeg/c.0.0.0.0.0", 99)
    flip(pairs / "pixels.zarr/val/hills-1/jpeg-1/c.0.0.0", 99)
    (pairs / "pixels.zarr/val/hills-1/pristine/c.0.0.0").unlink()
    (pairs / "records" / "val-00001.parquet").write_bytes(b"")
    change_json(pairs / "ledger" / "train-00001.json", pairs=1)
    found_problems = sorted(verify(pairs).problems)
    for message in (
        "ledger/train-00001.json was changed",
        "train-00000, white_noise-1: the digest of the pixels differs",
        "train-00000, jpeg-1: pixels of the array train/jpeg are damaged",
        "val-00000, jpeg-1: pixels of the array val/hills-1/jpeg-1 are damaged",
        "val/hills-1/pristine/c.0.0.0 is missing or empty",
        "val-00001: a record file is missing or damaged",
    ):
        assert any(message in problem for problem in found_problems), (message, found_problems)


def test_a_missing_training_shard_of_a_pair_store_is_found(pairs):
    (pairs / "pixels.zarr/train/pristine/c.0.1.0.0.0").unlink()
    assert only_problem(pairs).endswith("c.0.1.0.0.0 is missing or empty, its pixels would all be black")
    assert only_problem(pairs).startswith("train-00001, pristine: ")


def test_changed_metadata_of_a_pair_store_is_found(pairs):
    metadata = json.loads((pairs / "store.json").read_text())
    for changes, message in (
        ({"digest": "0"}, "its digest differs"),
        ({"counts": {**metadata["counts"], "pairs": 1}}, "store.json counts 1 pairs, there are"),
        ({"missing": [1]}, "do not agree on missing images"),
        ({"shards": {"train": 1, "val": "x"}}, "shards.val must be there, as int"),
        ({"recipes": [{}]}, "{} is no recipe"),
    ):
        write_json(pairs / "store.json", {**metadata, **changes})
        assert message in problems(pairs)
