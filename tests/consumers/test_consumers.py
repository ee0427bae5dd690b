"""Exports open in their tools without edits; `make consumers` installs the tools.

Tests of missing tools are skipped.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from distort_pipeline.config import ExportConfig
from distort_pipeline.execution import Workers
from distort_pipeline.exports import EXPORTS
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures"]
pytestmark = pytest.mark.consumers

SPLIT_SIZES = {"train": 24, "val": 16}  # of the small corpus's 40 samples


@pytest.fixture(scope="module")
def exported(finished_corpus, tmp_path_factory):
    """A function that returns the folder of an export in a format, each exported once."""
    folders = {}

    def folder_of(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name) / "export"
            export.run(ExportConfig(format=name), finished_corpus, folders[name], workers=Workers(0))
        return folders[name]

    return folder_of


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Hugging Face's tools, offline and with a temporary cache."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    return str(tmp_path / "cache")


@pytest.mark.parametrize("split", SPLIT_SIZES)
@pytest.mark.parametrize("splits_from", ["column", "pickle"])
def test_pyiqa_reads_pairs(exported, corpus, monkeypatch, split, splits_from):
    data = pytest.importorskip("pyiqa.data")
    monkeypatch.chdir(exported("pyiqa_fr"))
    options = yaml.safe_load(Path("options.yml").read_text())["datasets"][split]
    if splits_from == "pickle":
        options = {**options, "split_index": 1, "split_file": "splits.pkl"}
    dataset = data.build_dataset(options)
    assert type(dataset).__name__ == "GeneralFRDataset"
    assert len(dataset) == SPLIT_SIZES[split]
    for item in dataset:
        sample = corpus[int(Path(item["img_path"]).stem)]
        assert sample.record.split == split
        np.testing.assert_array_equal(pixels(item["img"]), sample.distorted)
        np.testing.assert_array_equal(pixels(item["ref_img"]), sample.pristine)
        assert item["mos_label"].item() == pytest.approx(sample.record.ssim, abs=1e-6)


def pixels(tensor):
    """The 8-bit pixels of pyiqa's tensor in [0, 1]."""
    return np.rint(tensor.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_pyiqa_reads_single_images(exported, corpus, monkeypatch, split):
    data = pytest.importorskip("pyiqa.data")
    monkeypatch.chdir(exported("pyiqa_nr"))
    dataset = data.build_dataset(yaml.safe_load(Path("options.yml").read_text())["datasets"][split])
    assert type(dataset).__name__ == "GeneralNRDataset"
    assert len(dataset) == SPLIT_SIZES[split]
    for item in dataset:
        sample = corpus[int(Path(item["img_path"]).stem)]
        np.testing.assert_array_equal(pixels(item["img"]), sample.distorted)
        assert item["mos_label"].item() == pytest.approx(sample.record.ssim, abs=1e-6)


def test_webdataset_reads_its_shards(exported, corpus):
    wds = pytest.importorskip("webdataset")
    seen = set()
    for split, size in SPLIT_SIZES.items():
        shards = sorted(str(path) for path in (exported("webdataset") / split).glob("*.tar"))
        samples = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
        assert len(samples) == size
        for item in samples:
            sample = corpus[item["json"]["sample"]]
            seen.add(item["json"]["sample"])
            assert item["__key__"] == f"sample-{sample.record.sample:08d}"
            assert item["json"]["split"] == split
            np.testing.assert_array_equal(item["dist.png"], sample.distorted)
            np.testing.assert_array_equal(item["ref.png"], sample.pristine)
    assert seen == set(range(40))


@pytest.mark.parametrize(("name", "column"), [("parquet", "distorted"), ("imagefolder", "distorted")])
def test_datasets_loads_the_folder(exported, corpus, offline, name, column):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(exported(name)), cache_dir=offline)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 24, "validation": 16}
    for rows in loaded.values():
        for row in rows:
            sample = corpus[row["sample"]]
            np.testing.assert_array_equal(np.asarray(row[column]), sample.distorted)
            np.testing.assert_array_equal(np.asarray(row["reference"]), sample.pristine)
            assert row["ssim_higher_better"] == pytest.approx(sample.record.ssim)
            assert row["seed"] == sample.record.seed  # more digits than a float has


def test_tf_data_parses_the_records(exported, corpus):
    tf = pytest.importorskip("tensorflow")
    features = {
        "reference": tf.io.FixedLenFeature([], tf.string),
        "distorted": tf.io.FixedLenFeature([], tf.string),
        "distortion": tf.io.FixedLenFeature([], tf.string),
        "sample": tf.io.FixedLenFeature([], tf.int64),
        "accepted": tf.io.FixedLenFeature([], tf.int64),
        "ssim_higher_better": tf.io.FixedLenFeature([], tf.float32, float("nan")),
        "ms_ssim_higher_better": tf.io.FixedLenFeature([], tf.float32, float("nan")),
    }
    for split, size in SPLIT_SIZES.items():
        shards = sorted(str(path) for path in (exported("tfrecord") / split).glob("*.tfrecord"))
        examples = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(shards)]
        assert len(examples) == size
        for example in examples:
            sample = corpus[int(example["sample"])]
            np.testing.assert_array_equal(tf.io.decode_png(example["distorted"]).numpy(), sample.distorted)
            np.testing.assert_array_equal(tf.io.decode_png(example["reference"]).numpy(), sample.pristine)
            assert example["distortion"].numpy().decode() == sample.record.distortion
            assert float(example["ssim_higher_better"]) == pytest.approx(sample.record.ssim, abs=1e-6)
            assert np.isnan(float(example["ms_ssim_higher_better"]))  # the tiles have 128 px


@pytest.mark.parametrize("name", EXPORTS.names())
def test_croissant_is_valid_and_gives_records(exported, corpus, name):
    mlc = pytest.importorskip("mlcroissant")
    document = exported(name) / "croissant.json"
    command = [Path(sys.executable).parent / "mlcroissant", "validate", "--jsonld", document]
    completed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CROISSANT_CACHE": "unused"})
    assert completed.returncode == 0, completed.stderr
    assert "Done" in completed.stderr + completed.stdout
    assert "WARNING" not in completed.stderr, completed.stderr
    records = list(mlc.Dataset(jsonld=str(document)).records("samples"))
    assert len(records) == 40
    for record in records:
        sample = corpus[int(record["samples/sample"])]
        assert record["samples/distortion"].decode() == sample.record.distortion
        assert record["samples/split"].decode() == sample.record.split
        assert record["samples/ssim_higher_better"] == pytest.approx(sample.record.ssim)


@pytest.mark.parametrize("metric", ["vsi", "ssim"])
def test_a_metric_of_pyiqa_becomes_a_label(damaged, metric):
    pyiqa = pytest.importorskip("pyiqa")
    torch = pytest.importorskip("torch")
    from distort_pipeline.commands.label import by_metric
    from distort_pipeline.data.corpora import open_corpus
    from distort_pipeline.data.labels import labels_of

    by_metric(damaged, metric)
    corpus = open_corpus(damaged)
    (label,) = labels_of(corpus)
    assert label.column == {"vsi": "vsi_higher_better", "ssim": "pyiqa_ssim_higher_better"}[metric]
    values = [row[label.column] for batch in corpus.batch_names() for row in label.rows(batch)]
    measure = pyiqa.create_metric(metric, device="cpu")
    for number in (0, 7, 39):
        pair = [torch.from_numpy(p.transpose(2, 0, 1)[None] / np.float32(255)) for p in
                (corpus[number].distorted, corpus[number].pristine)]  # fmt: skip
        assert values[number] == pytest.approx(measure(*pair).item(), abs=1e-5)


def test_a_metric_unknown_to_pyiqa_is_an_error(finished_corpus):
    pytest.importorskip("pyiqa")
    from distort_pipeline.commands.label import by_metric
    from distort_pipeline.errors import PipelineError

    with pytest.raises(PipelineError, match=r"pyiqa has no metric 'lpipps'; did you mean lpips"):
        by_metric(finished_corpus, "lpipps")


@pytest.mark.parametrize("number", [0, 9, 17])
def test_labels_agree_with_piq(sample, number):
    piq = pytest.importorskip("piq")
    torch = pytest.importorskip("torch")
    from distort_pipeline.metrics.full_reference import gmsd, ms_ssim, ssim

    image = cv2.cvtColor(cv2.imread(str(sorted(sample.glob("*.png"))[number])), cv2.COLOR_BGR2RGB)[:256, :256]
    for quality in (5, 12, 43):
        distorted = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
        x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float64)) for p in (image, distorted))
        expected = piq.ssim(x, y, data_range=255, downsample=False).item()
        assert ssim(image, distorted) == pytest.approx(expected, abs=1e-4)
        assert ms_ssim(image, distorted) == pytest.approx(piq.multi_scale_ssim(x, y, data_range=255).item(), abs=1e-4)
        assert gmsd(image, distorted) == pytest.approx(piq.gmsd(x, y, data_range=255).item(), abs=1e-4)


def test_hugging_face_reads_the_card(exported):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard((exported("parquet") / "README.md").read_text())
    assert card.data.license == "cc0-1.0"
    assert card.data.configs[0]["data_files"][1] == {"split": "validation", "path": "data/val/*.parquet"}
    assert json.loads((exported("parquet") / "croissant.json").read_text())["license"] == "cc0-1.0"
