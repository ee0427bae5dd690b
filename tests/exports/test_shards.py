"""Formats with a few large files, read without their usual tools."""

import csv
import errno
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from distort_pipeline.config import ExportConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures"]


def exported(corpus, out, name, **changes):
    export.run(ExportConfig(format=name, workers=0, **changes), corpus, out)
    return out


def pixels(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


def rows_of(out):
    with (out / "samples.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_tar_has_three_files_for_each_key_and_no_metadata_of_this_machine(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "webdataset")
    for row in rows_of(out):
        sample = corpus[int(row["sample"])]
        assert row["shard"].split("/")[0] == row["split"]
        assert row["key"] == f"sample-{int(row['sample']):08d}"  # no number, of which pandas would drop the zeros
        with tarfile.open(out / row["shard"]) as tar:
            names = [name for name in tar.getnames() if name.startswith(row["key"])]
            assert names == [f"{row['key']}.{ending}" for ending in ("ref.png", "dist.png", "json")]
            ref, dist, metadata = (tar.extractfile(name).read() for name in names)
            assert {(entry.mtime, entry.uid, entry.uname) for entry in tar.getmembers()} == {(0, 0, "")}
        np.testing.assert_array_equal(pixels(ref), sample.pristine)
        np.testing.assert_array_equal(pixels(dist), sample.distorted)
        assert json.loads(metadata)["ssim_higher_better"] == sample.record.ssim


def test_parquet_holds_images_declared_in_the_schema(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "parquet")
    seen = set()
    for path in out.rglob("*.parquet"):
        table = pq.read_table(path)
        declared = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert declared == {"reference": {"_type": "Image"}, "distorted": {"_type": "Image"}}
        for row in table.to_pylist():
            sample = corpus[row["sample"]]
            seen.add(row["sample"])
            np.testing.assert_array_equal(pixels(row["distorted"]["bytes"]), sample.distorted)
            np.testing.assert_array_equal(pixels(row["reference"]["bytes"]), sample.pristine)
            assert row["split"] == path.parent.name == sample.record.split
            assert row["ms_ssim_higher_better"] is None  # the tiles have 128 px
    assert seen == set(range(40))


def test_tfrecords_hold_images_and_columns(finished_corpus, corpus, tmp_path):
    tf = pytest.importorskip("tensorflow")
    out = exported(finished_corpus, tmp_path / "e", "tfrecord")
    seen = set()
    for path in out.rglob("*.tfrecord"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            number = feature["sample"].int64_list.value[0]
            seen.add(number)
            sample = corpus[number]
            np.testing.assert_array_equal(pixels(feature["distorted"].bytes_list.value[0]), sample.distorted)
            np.testing.assert_array_equal(pixels(feature["reference"].bytes_list.value[0]), sample.pristine)
            assert feature["split"].bytes_list.value[0].decode() == path.parent.name
            assert feature["accepted"].int64_list.value[0] == 1
            assert feature["ssim_higher_better"].float_list.value[0] == pytest.approx(sample.record.ssim)
            assert "ms_ssim_higher_better" not in feature  # the tiles have 128 px
    assert seen == set(range(40))


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["webdataset", "parquet", "tfrecord"])
def test_a_failed_shard_leaves_no_file(finished_corpus, tmp_path, monkeypatch, name):
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(PipelineError, match="No space left on device"):
        exported(finished_corpus, tmp_path / "e", name)
    assert not (tmp_path / "e").exists()
    leftovers = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert leftovers == []


def test_tensorflow_s_full_disk_is_reported_like_any_other(finished_corpus, tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")

    class Full(io.BytesIO):
        def __init__(self, _):
            super().__init__()

        def write(self, _):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    with pytest.raises(PipelineError, match=r"cannot write .*\.tfrecord: No space left on device"):
        exported(finished_corpus, tmp_path / "e", "tfrecord")
