import json
import shutil

import numpy as np
import pytest
from multi_level_corpus_fixtures import LEARNED
from small_models import INFERENCE_BATCH_SIZE, write_model

from distort_pipeline.commands.gallery import gallery
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_metadata import Range
from distort_pipeline.data.corpus_pixels import read_truth
from distort_pipeline.data.files import read_json
from distort_pipeline.distortions import LevelScale, apply, declared_scale
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import canonical, derive_seed, make_rng
from distort_pipeline.reports.corpus_page import write_corpus_page
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


@pytest.fixture(scope="module")
def varied(tmp_path_factory, make_multi_level):
    """A corpus with a different severity of every sample; not to be modified."""
    out = tmp_path_factory.mktemp("varied") / "corpus"
    make_multi_level(out, severity=(0.1, 0.45), count=32)
    return open_corpus(out)


@pytest.fixture(scope="module")
def composite(tmp_path_factory, make_multi_level):
    """A corpus of JPEG alone, and of JPEG followed by noise, at two levels."""
    out = tmp_path_factory.mktemp("composite") / "corpus"
    make_multi_level(out, num_levels=2, composite=("jpeg+white_noise",), distortions=("jpeg",), count=32)
    return open_corpus(out)


def test_each_batch_covers_the_range_evenly(varied):
    assert varied.metadata.samples == {"jpeg": 16, "white_noise": 16}
    for name in varied.batch_names():
        severities = sorted(record.severity for record in varied.batch_records(name))
        assert [int((severity - 0.1) / 0.35 * len(severities)) for severity in severities] == list(range(8))
    for record in varied.records:
        name = record.distortion
        expected = LevelScale(name, tuple(LEARNED[name]), declared_scale(name)).parameters_at(record.severity)
        assert record.parameters == canonical(expected)
    assert {record.level for record in varied.records} == {1}


@pytest.mark.parametrize("index", [0, 9, 31])
def test_a_sample_is_what_its_generator_makes_at_its_severity(varied, multi_level_models, index):
    sample = varied[index]
    predictor = load_generator(multi_level_models / sample.record.distortion, batch_size=INFERENCE_BATCH_SIZE).predictor
    generated = predictor.distort_image(sample.pristine, sample.record.seed, sample.record.severity)
    np.testing.assert_array_equal(generated, sample.distorted)


def test_a_batch_is_compared_with_the_truth_of_its_samples(varied, sample_images):
    for name, report in zip(varied.batch_names(), varied.reports(), strict=True):
        truth, records = read_truth(varied.folder, name), varied.batch_records(name)
        assert report.comparison == "paired"
        assert report.divergence.samples == len(truth.rows) > 1
        chosen = [records[row] for row in truth.rows]
        assert {record.image for record in chosen} == {records[0].image}
        generated = np.sum([product_histogram(varied[record.sample].distorted) for record in chosen], 0)
        true = truth.jsd_nss(report.distortion).sum(0)
        assert report.divergence.jsd_bits == jsd_bits(true, generated)
        assert set(report.against) == {"pristine", report.distortion}
        severities = [record.severity for record in records]
        assert report.severity == Range(min(severities), max(severities))
        (ends,) = report.parameters.values()
        assert ends[0] < ends[1]
    name = "jpeg-00000"
    truth, records = read_truth(varied.folder, name), varied.batch_records(name)
    for row, histogram in zip(truth.rows, truth.jsd_nss("jpeg"), strict=True):
        record = records[row]
        true_image = apply("jpeg", sample_images[record.image.removesuffix("-1")], json.loads(record.parameters), None)
        tile = true_image.image[record.y : record.y + 128, record.x : record.x + 128]
        np.testing.assert_array_equal(histogram, product_histogram(tile))


def test_a_range_lets_a_deterministic_model_see_a_tile_again(make_multi_level, tmp_path):
    make_multi_level(
        tmp_path / "c", severity=(0.25, 0.5), count=12, splits=("val",), tile_px=256, distortions=("jpeg",)
    )
    corpus = open_corpus(tmp_path / "c")
    assert corpus.metadata.counts.tiles == 7
    assert corpus[0].record.tile == corpus[7].record.tile
    assert corpus[0].record.severity != corpus[7].record.severity


def test_one_severity_for_all_is_no_range(make_multi_level, tmp_path):
    make_multi_level(tmp_path / "c", severity=(0.5,), count=16)
    corpus = open_corpus(tmp_path / "c")
    assert {record.severity for record in corpus.records} == {0.5}
    assert {report.parameters.get("quality", 12) for report in corpus.reports()} == {12}
    assert not any(condition.sample_truths for condition in corpus.metadata.conditions.values())


def test_a_parameter_has_one_severity_in_corpora_of_models_of_different_levels(make_multi_level, models, tmp_path):
    make_multi_level(tmp_path / "two", count=8, distortions=("jpeg",))
    make_multi_level(tmp_path / "one", models=models, count=4, distortions=("jpeg",))
    two, one = (open_corpus(tmp_path / name).records for name in ("two", "one"))
    assert {(record.parameters, record.severity) for record in one} == {('{"quality":12}', 0.5)}
    assert {record.severity for record in two if record.parameters == '{"quality":12}'} == {0.5}
    assert {record.severity for record in two if record.parameters == '{"quality":40}'} == {0.2891}


def test_a_composite_is_one_generator_after_the_other_on_8_bits(composite, multi_level_models):
    assert list(composite.metadata.samples) == ["jpeg-1", "jpeg-2", "jpeg+white_noise-1", "jpeg+white_noise-2"]
    samples = [composite[index] for index in range(32) if composite.record(index).distortion == "jpeg+white_noise"]
    assert len(samples) == 16
    jpeg, noise = (
        load_generator(multi_level_models / name, batch_size=INFERENCE_BATCH_SIZE).predictor
        for name in ("jpeg", "white_noise")
    )
    for sample in samples[::5]:
        seed, severity = sample.record.seed, sample.record.severity
        first = jpeg.distort_image(sample.pristine, seed, severity)
        second = noise.distort_image(first, derive_seed(seed, 1), severity)
        np.testing.assert_array_equal(second, sample.distorted)
        assert set(json.loads(sample.record.parameters)) == {"jpeg quality", "white_noise sigma_8bit"}
        assert sample.record.model.count("+") == 1


def test_a_composite_is_compared_with_the_true_composite_and_its_parts(composite, sample_images):
    reports = {f"{r.distortion}-{r.level}": r for r in composite.reports() if r.batch == 0}
    report = reports["jpeg+white_noise-2"]
    assert set(report.against) == {"pristine", "jpeg", "white_noise", "jpeg+white_noise"}
    assert report.against["jpeg+white_noise"] == report.divergence.jsd_bits
    assert report.comparison == "paired"
    truth, records = (
        read_truth(composite.folder, "jpeg+white_noise-2-00000"),
        composite.batch_records("jpeg+white_noise-2-00000"),
    )
    record = records[truth.rows[0]]
    true_image = apply("jpeg", sample_images[record.image.removesuffix("-1")], {"quality": 12}, None).image
    digest = next(tile.image_digest for tile in composite.tiles() if tile.tile == record.tile)
    seed = derive_seed(0, "truth", digest, "white_noise", 1, canonical({"sigma_8bit": 19}))
    true_image = apply("white_noise", true_image, {"sigma_8bit": 19}, make_rng(seed)).image
    tile = true_image[record.y : record.y + 128, record.x : record.x + 128]
    np.testing.assert_array_equal(truth.jsd_nss("jpeg+white_noise")[0], product_histogram(tile))


@pytest.mark.parametrize("severity", [(0.5, 1.0), (0.75,)])
def test_between_levels_of_external_pairs_a_batch_is_not_judged(make_multi_level, histograms_of, tmp_path, severity):
    fade = histograms_of(lambda image: image // 2 + 100, lambda image: image // 4 + 100)
    write_model(tmp_path / "m" / "faded", "faded", fade, external=True, levels=2, parameters=[{}, {}])
    report = make_multi_level(tmp_path / "c", models=tmp_path / "m", severity=severity, count=8)
    assert "is not judged: there is no truth at this severity" in " ".join(report.lines)
    (stored,) = open_corpus(tmp_path / "c").reports()
    assert (stored.comparison, stored.accepted, stored.statistics, stored.divergence) == ("none", None, (), None)
    assert {record.parameters for record in open_corpus(tmp_path / "c").records} == {"{}"}
    assert not verify(tmp_path / "c").problems


@pytest.mark.parametrize("kind", ["varied", "composite"])
def test_pages_checks_and_exports_know_such_corpora(kind, request, tmp_path):
    corpus = request.getfixturevalue(kind)
    assert verify(corpus.folder).problems == ()
    page = write_corpus_page(corpus.folder).read_text()
    assert "true residual" in page
    config = ExportConfig(format="png_folder", workers=0)
    assert export.run(config, corpus.folder, tmp_path / "e").counts["samples"] == 32
    assert "`severity` is the position" in (tmp_path / "e" / "README.md").read_text()
    gallery(corpus.folder, tmp_path / "g", rows=2)
    truth = next(path for path in (corpus.folder / "truth").iterdir() if "jpeg" in path.name)
    damaged = shutil.copytree(corpus.folder, tmp_path / "damaged")
    (damaged / "truth" / truth.name).unlink()
    assert any(truth.name in problem for problem in verify(damaged).problems)


@pytest.mark.parametrize("kind", ["varied", "composite"])
def test_an_interrupted_run_goes_on(kind, request, make_multi_level, tmp_path):
    corpus = request.getfixturevalue(kind)
    settings = corpus.metadata.settings.generate
    changes = {name: settings[name] for name in ("num_levels", "count")}
    changes |= {name: tuple(settings[name]) for name in ("severity", "composite", "distortions")}
    out = tmp_path / "corpus"
    work = StagedStore(out, read_json(corpus.folder / "store.json")["config_hash"]).work
    shutil.copytree(corpus.folder, work)
    for batch in corpus.batch_names()[:3]:
        (work / "ledger" / f"{batch}.json").unlink()
        (work / "reports" / f"{batch}.json").unlink()
    (work / "store.json").unlink()
    make_multi_level(out, **changes)
    assert open_corpus(out).metadata.digest == corpus.metadata.digest
    assert json.loads((out / "run.json").read_text())["batches_now"] == 3


def test_models_of_one_level_can_be_composed(make_multi_level, models, tmp_path):
    make_multi_level(tmp_path / "c", models=models, composite=("white_noise+jpeg",), count=8)
    corpus = open_corpus(tmp_path / "c")
    assert corpus.distortions == ("white_noise+jpeg",)
    assert {report.comparison for report in corpus.reports()} == {"paired"}


def test_an_impossible_composite_or_severity_is_an_error(
    make_multi_level, multi_level_models, tmp_path, histograms_of, truly
):
    models = shutil.copytree(multi_level_models, tmp_path / "m")
    write_model(models / "camera", "camera", histograms_of(truly("jpeg"), truly("jpeg")), external=True)
    for changes, message in (
        ({"composite": ("jpeg+nois",)}, "no model of 'nois' is trained"),
        ({"composite": ("jpeg+jpeg",)}, "names of different models joined by +"),
        ({"severity": (0.9, 0.2)}, "two in ascending order"),
        ({"severity": (0.2, 1.5)}, "from 0 to 1"),
        ({"severity": (0.5,), "num_levels": 3}, "a range if generate.num_levels is above 1"),
        ({"severity": (0.2, 0.4)}, "camera has learned one level only"),
        ({"severity": (0.2, 0.9), "distortions": ("jpeg",)}, "jpeg was learned up to severity 0.5, and 0.9 was"),
    ):
        with pytest.raises(PipelineError) as error:
            make_multi_level(tmp_path / "c", models=models, **changes)
        assert message in str(error.value)


def test_a_composite_with_a_model_of_external_pairs_keeps_its_level_and_is_not_judged(
    make_multi_level, multi_level_models, tmp_path, histograms_of, truly
):
    models = shutil.copytree(multi_level_models, tmp_path / "m")
    write_model(models / "camera", "camera", histograms_of(truly("jpeg"), truly("jpeg")), external=True)
    make_multi_level(tmp_path / "c", models=models, count=8, composite=("jpeg+camera",), severity=(0.5,))
    corpus = open_corpus(tmp_path / "c")
    (report,) = corpus.reports()
    assert (report.comparison, report.accepted) == ("none", None)
    sample = corpus[3]
    assert json.loads(sample.record.parameters).keys() == {"jpeg quality"}
    jpeg, camera = (
        load_generator(models / name, batch_size=INFERENCE_BATCH_SIZE).predictor for name in ("jpeg", "camera")
    )
    first = jpeg.distort(sample.pristine[None], [sample.record.seed], [0.5])
    second = camera.distort(first, [derive_seed(sample.record.seed, 1)])
    np.testing.assert_array_equal(second[0], sample.distorted)
