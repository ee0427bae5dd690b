import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
from corpus_fixtures import lenient
from small_models import INFERENCE_BATCH_SIZE, PARAMETERS, TILE_PX, write_model

from distort_pipeline.commands.verify import verify
from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.arrays import pixel_digest
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.files import read_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.models.store import load_generator
from distort_pipeline.steps import generate

pytest_plugins = ["corpus_fixtures"]


@pytest.fixture(scope="module")
def make(small_manifest, models, small_corpus_settings):
    """A function that makes a corpus with changed settings, here unless workers are named."""

    def run(out, *, models=models, workers=None, strict=False, **changes):
        config = GenerateConfig(**{**small_corpus_settings, **changes})
        with nullcontext() if strict else lenient():
            return generate.run(config, small_manifest, models, out, workers=workers)

    return run


def test_samples_are_split_evenly_and_each_batch_has_one_distortion(corpus):
    assert corpus.metadata.samples == {"jpeg": 20, "white_noise": 20}
    assert corpus.metadata.batches == {"jpeg": 3, "white_noise": 3}
    counts = corpus.metadata.counts
    assert (counts.samples, counts.tiles, counts.batches) == (40, 20, 6)
    sizes = Counter((record.distortion, record.batch) for record in corpus.records)
    assert list(sizes.values()) == [8, 8, 4, 8, 8, 4]
    for name in corpus.batch_names():
        assert {f"{record.distortion}-{record.batch:05d}" for record in corpus.batch_records(name)} == {name}
    assert [record.sample for record in corpus.records] == list(range(40))


def test_an_uneven_count_gives_the_first_model_one_more(make, tmp_path):
    assert make(tmp_path / "c", count=5).counts["samples"] == 5
    assert open_corpus(tmp_path / "c").metadata.samples == {"jpeg": 3, "white_noise": 2}


def test_records_agree_with_the_pixels(corpus):
    tiles = corpus.tiles()
    for sample in map(corpus.__getitem__, range(len(corpus))):
        record, tile = sample.record, tiles[sample.record.tile]
        assert record.pixel_digest == pixel_digest([sample.distorted])
        assert record.psnr == pytest.approx(psnr(sample.pristine, sample.distorted))
        newly = (np.isin(sample.distorted, (0, 255)) & (sample.distorted != sample.pristine)).mean()
        assert record.clipped == pytest.approx(newly)
        assert (record.y, record.x, record.image, record.split) == (tile.y, tile.x, tile.image, tile.split)
        assert sample.pristine.shape == (record.height, record.width, 3) == (TILE_PX, TILE_PX, 3)


def test_the_models_share_the_reference_tiles(corpus):
    by_model = {name: [r.tile for r in corpus.records if r.distortion == name] for name in corpus.distortions}
    assert by_model["jpeg"] == by_model["white_noise"] == list(range(20))
    assert corpus.array("pristine").shape == (20, TILE_PX, TILE_PX, 3)


@pytest.mark.parametrize("index", [0, 13, 19, 20, 27, 39])
def test_a_sample_is_what_its_generator_makes_of_its_tile_with_its_seed(corpus, models, index):
    sample = corpus[index]
    model = load_generator(models / sample.record.distortion, batch_size=INFERENCE_BATCH_SIZE)
    generated = model.predictor.distort_image(sample.pristine, sample.record.seed)
    np.testing.assert_array_equal(generated, sample.distorted)
    assert sample.record.model == model.digest
    assert (generated != sample.pristine).any()


def test_seeds_differ_and_decide_the_noise(corpus, models):
    assert len({record.seed for record in corpus.records}) == 40
    sample = corpus[25]
    model = load_generator(models / "white_noise", batch_size=INFERENCE_BATCH_SIZE)
    assert (model.predictor.distort_image(sample.pristine, sample.record.seed + 1) != sample.distorted).any()


def test_every_batch_has_a_report_and_a_side_by_side(corpus):
    for name, report in zip(corpus.batch_names(), corpus.reports(), strict=True):
        assert f"{report.distortion}-{report.batch:05d}" == name
        assert report.comparison == "paired"
        assert report.accepted
        assert not report.reasons
        assert report.samples == len(corpus.batch_records(name))
        assert set(report.against) == {"pristine", "jpeg", "white_noise"}
        side_by_side = cv2.imread(str(corpus.folder / "reports" / f"{name}.png"))
        assert side_by_side is not None
        assert side_by_side.std() > 0
    assert (corpus.folder / "index.html").stat().st_size > 1000
    assert corpus.metadata.counts.flagged == 0


def test_an_interrupted_run_goes_on_and_gives_the_same_corpus(make, corpus, tmp_path, monkeypatch, capsys):
    out = tmp_path / "corpus"
    work = StagedStore(out, read_json(corpus.folder / "store.json")["config_hash"]).work

    def powerless(*_):  # a power cut before the pages are written
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(generate, "write_corpus_page", powerless)
        with pytest.raises(KeyboardInterrupt):
            make(out)
    for lost in ("ledger/jpeg-00001.json", "pixels.zarr/distorted/jpeg/c.1.0.0.0", "store.json"):
        (work / lost).unlink()
    for cut in (
        "pixels.zarr/pristine/c.2.0.0.0",
        "pixels.zarr/distorted/jpeg/c.0.0.0.0",
        "records/white_noise-00000.parquet",
        "reports/white_noise-00001.json",
        "truth/tiles-00001.npz",
        "ledger/tiles-00000.json",
    ):
        (work / cut).write_bytes((work / cut).read_bytes()[:-1])
    make(out)
    assert "6 damaged shards are made again" in capsys.readouterr().err
    assert open_corpus(out).metadata.digest == corpus.metadata.digest
    assert json.loads((out / "run.json").read_text())["batches_now"] == 4
    assert not verify(out).problems
    np.testing.assert_array_equal(open_corpus(out)[8:16].distorted, corpus[8:16].distorted)
    np.testing.assert_array_equal(open_corpus(out)[16:20].pristine, corpus[16:20].pristine)
    assert not work.exists()


def test_a_worker_process_makes_the_same_corpus_as_none(make, corpus, tmp_path):
    make(tmp_path / "corpus", workers=Workers(1))  # more, in `make faults`; each imports TensorFlow
    make(tmp_path / "strict", strict=True)  # as in a worker, where nothing is patched
    other = open_corpus(tmp_path / "corpus")
    assert other.metadata.digest == open_corpus(tmp_path / "strict").metadata.digest
    assert other.table().equals(corpus.table())


def test_a_finished_corpus_is_left_alone_and_another_is_refused(make, corpus):
    before = (corpus.folder / "store.json").stat().st_mtime_ns
    assert "nothing to do" in make(corpus.folder).lines[0]
    with pytest.raises(PipelineError, match="already exists and was made with other settings"):
        make(corpus.folder, seed=1)
    assert (corpus.folder / "store.json").stat().st_mtime_ns == before


def test_a_deterministic_model_does_not_repeat_itself_unless_allowed(make, tmp_path):
    few = {"splits": ("val",), "tile_px": 256, "count": 16, "distortions": ("jpeg",)}
    with pytest.raises(
        PipelineError, match=r"^7 different tiles are available and jpeg would need 16;.*--allow-repeats"
    ):
        make(tmp_path / "c", **few)
    both = {**few, "count": 18, "distortions": (), "allow_repeats": True}
    make(tmp_path / "c", **both)
    corpus = open_corpus(tmp_path / "c")
    assert corpus.metadata.counts.tiles == 7
    for name in ("jpeg", "white_noise"):
        draws = [(record.tile, record.draw) for record in corpus.records if record.distortion == name]
        assert draws == [(index % 7, index // 7) for index in range(9)]
    assert corpus.metadata.counts.duplicates == 2  # of the deterministic model; the other is random
    np.testing.assert_array_equal(corpus[7].distorted, corpus[0].distorted)
    assert (corpus[9 + 7].distorted != corpus[9].distorted).any()
    np.testing.assert_array_equal(corpus[9 + 7].pristine, corpus[9].pristine)


def test_whole_images_keep_their_sizes(make, tmp_path, sample_images):
    make(tmp_path / "c", whole_images=True, count=5, distortions=("jpeg",))
    corpus = open_corpus(tmp_path / "c")
    assert corpus.whole_images
    assert corpus.metadata.counts.samples == 5
    for sample in map(corpus.__getitem__, range(5)):
        image = sample_images[sample.record.image.removesuffix("-1")]
        np.testing.assert_array_equal(sample.pristine, image)
        assert sample.distorted.shape == image.shape
        assert sample.record.pixel_digest == pixel_digest([sample.distorted])
    assert {report.tile_px for report in corpus.reports()} == {None}
    with pytest.raises(PipelineError, match="whole images of different sizes"):
        corpus[:2]


def test_a_model_of_external_pairs_is_compared_with_its_stored_histogram(make, tmp_path, histograms_of):
    fade = histograms_of(lambda image: image // 2 + 100, lambda image: image // 4 + 100)
    write_model(tmp_path / "m" / "faded", "faded", fade, external=True)
    cautioned = make(tmp_path / "c", models=tmp_path / "m", count=8)
    (report,) = open_corpus(tmp_path / "c").reports()
    assert (report.comparison, report.accepted) == ("none", None)  # the model has no statistics of its pairs
    assert report.external is True
    assert report.divergence.identity_bits > 0 < report.noise_floors.between_content_bits
    assert report.noise_floors.redraw_bits is None
    assert report.histograms.true == tuple(fade.true.sum(0).tolist())
    assert "The only batch is not judged: there is no truth at this severity" in " ".join(cautioned.lines)


def test_the_name_of_a_model_need_not_be_that_of_its_distortion(make, tmp_path, models):
    shutil.copytree(models / "jpeg", tmp_path / "m" / "jpeg_small")
    make(tmp_path / "c", models=tmp_path / "m", count=8)
    corpus = open_corpus(tmp_path / "c")
    (report,) = corpus.reports()
    assert (report.distortion, report.comparison) == ("jpeg_small", "paired")
    assert report.parameters == PARAMETERS["jpeg"]
    assert set(corpus.metadata.codecs) >= {"opencv"}


@pytest.mark.parametrize("name", ["tiles", "pristine", "a model"])
def test_a_model_with_a_reserved_name_is_refused(make, tmp_path, models, name):
    shutil.copytree(models / "jpeg", tmp_path / "m" / name)
    with pytest.raises(PipelineError, match=f"'{name}' cannot be the name of a model.*rename the folder"):
        make(tmp_path / "c", models=tmp_path / "m", count=8)
    assert not list(tmp_path.glob(".c.*"))


def test_a_rejected_batch_is_flagged_or_stops_the_run_without_loss_of_work(make, tmp_path):
    rejected = {"distortions": ("jpeg",), "count": 16, "strict": True}
    for _ in range(2):  # running again does not hide the rejection
        with pytest.raises(PipelineError, match=r"batch jpeg-00000 is rejected: strength: .* --on-fail flag"):
            make(tmp_path / "c", **rejected, on_fail="stop")
        assert not (tmp_path / "c").exists()
    report = make(tmp_path / "c", **rejected)
    (batch, other) = open_corpus(tmp_path / "c").reports()
    failing = [each for each in batch.statistics if abs(each.difference) > each.threshold]
    assert set(batch.reasons) == set(map(str, failing))
    assert batch.reasons[0] == str(max(failing, key=lambda each: abs(each.difference) / each.threshold))
    worst = max((batch, other), key=lambda each: each.statistics and max(s.excess for s in each.statistics)).reasons[0]
    assert f"All 2 batches are rejected; farthest out is {worst}." in report.lines
    assert json.loads((tmp_path / "c" / "run.json").read_text())["batches_now"] == 1
    assert open_corpus(tmp_path / "c").metadata.counts.flagged == 2


def test_an_impossible_request_is_an_error_before_anything_is_written(make, tmp_path):
    for changes, message in (
        ({"distortions": ("jpge",)}, "no model of 'jpge' is trained; did you mean jpeg?"),
        ({"splits": ("test",)}, "has no image in --splits test"),
        ({"tile_px": 512}, "no image is at least 512 px on both sides"),
    ):
        with pytest.raises(PipelineError) as error:
            make(tmp_path / "c", **changes)
        assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_the_work(make, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 60 * TILE_PX**2 - 1))
    with pytest.raises(PipelineError, match=r"needs about 0\.00 GB and the disk has"):
        make(tmp_path / "c")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 60 * TILE_PX**2))
    monkeypatch.setattr(generate, "create_arrays", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # it got past the check
        make(tmp_path / "c")


def test_an_image_that_has_changed_since_ingest_is_named(tmp_path, small_manifest, models, small_corpus_settings):
    copied = shutil.copytree(small_manifest.parent, tmp_path / "images")
    for path in copied.glob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path)) ^ 1)
    with pytest.raises(PipelineError, match="has other pixels than when it was ingested"):
        generate.run(GenerateConfig(**small_corpus_settings), copied / "manifest.jsonl", models, tmp_path / "c")


def test_runtime_settings_do_not_make_another_corpus(make, corpus):
    for changes in ({"threads_per_worker": 2}, {"on_fail": "stop"}):
        assert "nothing to do" in make(corpus.folder, **changes).lines[0]
    assert "nothing to do" in make(corpus.folder, workers=Workers(5)).lines[0]


def test_planning_and_reading_need_neither_tensorflow_nor_dask():
    code = (
        "import sys; import distort_pipeline.steps.generate, distort_pipeline.data.corpora;"
        "print([name for name in ('tensorflow', 'keras', 'dask', 'distributed') if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"
