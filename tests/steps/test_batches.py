import dataclasses
import json

import numpy as np
import pytest
from corpus_fixtures import lenient
from small_models import INFERENCE_BATCH_SIZE, write_model

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.conditions import Condition, FixedSeverity
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_metadata import PooledHistograms
from distort_pipeline.data.corpus_pixels import read_truth
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.plans import Batch, PlannedSample, ReferenceTile
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import Tile, digest
from distort_pipeline.steps.batches import BatchTask, make_batch

pytest_plugins = ["corpus_fixtures"]


@pytest.fixture
def task_of(damaged, models, small_manifest):
    """A function that gives the task of a batch of a finished corpus again."""
    store = open_corpus(damaged)
    images = {record.id: record for record in read_manifest(small_manifest).records}
    tiles = [
        ReferenceTile(tile.tile, images[tile.image], Tile(tile.y, tile.x, tile.height, tile.width))
        for tile in store.tiles()
    ]

    conditions = tuple(
        Condition(name, (name,), 1, 1, FixedSeverity("severity", 1.0, 1.0), False) for name in ("jpeg", "white_noise")
    )
    plain = {"samples_per_shard": 8, "inference_batch_size": INFERENCE_BATCH_SIZE, "truth_images": 1}
    plain |= {"tiles_per_chunk": 4}

    def make(batch, *, models=models, **settings):
        records = store.batch_records(batch)
        name = records[0].distortion
        samples = tuple(PlannedSample(r.sample, r.slot, tiles[r.tile], r.draw, r.seed, r.severity) for r in records)
        (condition,) = (condition for condition in conditions if condition.name == name)
        return BatchTask(
            work=damaged,
            root=small_manifest.parent,
            models={name: models / name},
            batch=Batch(condition, records[0].batch, samples),
            conditions=conditions,
            config=GenerateConfig(**{**plain, **settings}),
            threads=1,
        )

    return make


def test_a_batch_made_again_is_the_same_batch(task_of, damaged, corpus):
    for name in ("jpeg-00001", "white_noise-00002"):
        task = task_of(name)
        before = json.loads((damaged / "ledger" / f"{name}.json").read_text())
        for lost in (f"ledger/{name}.json", f"records/{name}.parquet", f"reports/{name}.json", f"reports/{name}.png"):
            (damaged / lost).unlink()
        with lenient():
            assert make_batch(task) == before
        assert json.loads((damaged / "ledger" / f"{name}.json").read_text()) == before
    np.testing.assert_array_equal(open_corpus(damaged)[:].distorted, corpus[:].distorted)


def test_the_ledger_covers_pixels_records_and_report_but_not_the_drawing(task_of):
    entry = make_batch(task_of("jpeg-00000"))
    covered = {"shard", "samples", "pixels", "records", "report", "accepted"}
    assert set(entry) == covered | {"digest", "files"}
    assert "reports/jpeg-00000.png" in entry["files"]
    assert entry["digest"] == digest({name: entry[name] for name in covered})


def test_the_report_compares_the_same_tiles(task_of, damaged):
    make_batch(task_of("jpeg-00001"))
    store, truth = open_corpus(damaged), read_truth(damaged, "tiles-00001")
    report = store.reports()[1]
    of_truth = [product_histogram(store[8 + row].distorted) for row in truth.rows]
    generated, pristine = np.sum(of_truth, 0), truth.pristine[truth.rows].sum(0)
    true = truth.jsd_nss("jpeg").sum(0)
    assert report.divergence.samples == len(truth.rows) < 8
    assert report.divergence.jsd_bits == jsd_bits(true, generated)
    assert report.against["pristine"] == jsd_bits(pristine, generated)
    assert report.against["white_noise"] == jsd_bits(truth.jsd_nss("white_noise").sum(0), generated)
    histograms = [tuple(counts.tolist()) for counts in (pristine, true, generated)]
    assert report.histograms == PooledHistograms(*histograms)
    assert report.psnr.true_mean == pytest.approx(truth.statistics["jpeg"].values[:, 0].mean())


def test_metrics_that_are_not_requested_are_left_out(task_of, damaged):
    make_batch(task_of("jpeg-00000", metrics=()))
    record = open_corpus(damaged).batch_records("jpeg-00000")[0]
    assert (record.psnr, record.ssim) == (None, None)
    assert json.loads((damaged / "reports" / "jpeg-00000.json").read_text())["psnr"] is None


def test_another_model_in_the_same_folder_is_noticed(task_of, tmp_path, histograms_of, truly):
    histograms, reports = histograms_of(truly("jpeg"), truly("jpeg")), []
    for noise_channels in (0, 3):
        write_model(tmp_path / "jpeg", "jpeg", histograms, noise_channels=noise_channels)
        assert make_batch(task_of("jpeg-00000", models=tmp_path))["samples"] == 8
        reports.append(json.loads((tmp_path / "corpus" / "reports" / "jpeg-00000.json").read_text()))
    first, second = reports
    assert first["model"] != second["model"]
    assert first["statistics"] != second["statistics"]


def test_a_batch_that_starts_again_at_the_first_tile_gets_the_right_ones(task_of, damaged):
    task = task_of("white_noise-00002")
    store = open_corpus(damaged)
    tiles = {
        sample.tile.number: sample.tile
        for name in ("jpeg-00000", "jpeg-00002")
        for sample in task_of(name).batch.samples
    }
    numbers = [18, 19, 0, 1]
    samples = tuple(
        dataclasses.replace(sample, tile=tiles[number])
        for sample, number in zip(task.batch.samples, numbers, strict=True)
    )
    make_batch(dataclasses.replace(task, batch=dataclasses.replace(task.batch, samples=samples)))
    rebuilt = open_corpus(damaged)
    records = rebuilt.batch_records("white_noise-00002")
    assert [record.tile for record in records] == numbers
    assert records[2].image == store.tiles()[0].image
    predictor = load_generator(*task.models.values(), batch_size=INFERENCE_BATCH_SIZE).predictor
    for record in records:
        expected = predictor.distort_image(store.pristine(record.tile), record.seed)
        np.testing.assert_array_equal(rebuilt[record.sample].distorted, expected)
