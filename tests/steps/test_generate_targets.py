import json
import shutil

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_models import INFERENCE_BATCH_SIZE, change_card

from distort_pipeline.commands.verify import verify
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.severity_search import reach, severity_for
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import ssim
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import load_generator
from distort_pipeline.reports.corpus_page import write_corpus_page

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


@pytest.fixture(scope="module")
def ends(calibrated_models):
    """Two values of SSIM within the range of both calibrations."""
    calibrations = [read_card(calibrated_models / name).calibration for name in ("jpeg", "white_noise")]
    best, worst = zip(*(reach(severity_sweep, "ssim") for severity_sweep in calibrations), strict=True)
    low, high = max(worst), min(best)
    return round(low + 0.3 * (high - low), 3), round(low + 0.7 * (high - low), 3)


@pytest.fixture(scope="module")
def targeted(tmp_path_factory, make_multi_level, calibrated_models, ends):
    """A corpus with a different target of every sample; not to be modified."""
    out = tmp_path_factory.mktemp("targeted") / "corpus"
    make_multi_level(out, models=calibrated_models, target={"ssim": ends}, count=32)
    return open_corpus(out)


def test_each_image_comes_nearer_than_the_calibration_alone_would_bring_it(targeted, calibrated_models, ends):
    for name in targeted.distortions:
        model = load_generator(calibrated_models / name, batch_size=INFERENCE_BATCH_SIZE)
        severity_sweep = read_card(calibrated_models / name).calibration
        indices = [index for index, record in enumerate(targeted.records) if record.distortion == name]
        assert all(ends[0] <= targeted.record(index).target <= ends[1] for index in indices)
        # below the first learned level, where also an untrained generator's distortion grows with severity
        reachable = [targeted[index] for index in indices if 0 < targeted.record(index).severity < 0.28]
        assert len(reachable) >= len(indices) / 3
        errors = [abs(sample.record.ssim - sample.record.target) for sample in reachable]
        alone = []
        for sample in reachable:
            severity = severity_for(severity_sweep, "ssim", sample.record.target)
            generated = model.predictor.distort_image(sample.pristine, sample.record.seed, severity)
            alone.append(abs(ssim(sample.pristine, generated) - sample.record.target))
        assert np.mean(errors) < np.mean(alone) / 3


def test_targets_are_assigned_to_tiles_within_reach(targeted, calibrated_models, ends):
    for name in targeted.batch_names():
        records = targeted.batch_records(name)
        predictor = load_generator(calibrated_models / records[0].distortion, batch_size=INFERENCE_BATCH_SIZE).predictor
        worst = [
            ssim(sample.pristine, predictor.distort_image(sample.pristine, sample.record.seed))
            for sample in (targeted[record.sample] for record in records)
        ]
        lacking = [(r, end) for r, end in zip(records, worst, strict=True) if r.target < end]
        assert all(end > ends[1] for _, end in lacking)  # without any target within reach


def test_targets_out_of_reach_of_all_tiles_are_resampled(make_multi_level, calibrated_models, tmp_path):
    severity_sweep = read_card(calibrated_models / "jpeg").calibration
    best, worst = reach(severity_sweep, "ssim")
    settings = {"target": {"ssim": (0.0, round((best + worst) / 2, 3))}, "count": 16, "distortions": ("jpeg",)}
    make_multi_level(tmp_path / "c", models=calibrated_models, **settings)
    corpus = open_corpus(tmp_path / "c")
    assert np.mean([report.target.resampled for report in corpus.reports()]) > 0.2  # of which most is out of reach
    assert np.mean([report.target.severity_clipped for report in corpus.reports()]) < 0.5
    assert min(record.target for record in corpus.records) > 0.1 * worst


def test_a_sample_is_what_its_generator_makes_at_its_severity(targeted, calibrated_models):
    for index in (0, 9, 31):
        sample = targeted[index]
        predictor = load_generator(
            calibrated_models / sample.record.distortion, batch_size=INFERENCE_BATCH_SIZE
        ).predictor
        generated = predictor.distort_image(sample.pristine, sample.record.seed, sample.record.severity)
        np.testing.assert_array_equal(generated, sample.distorted)


def test_the_report_compares_reached_with_requested(targeted):
    for name, report in zip(targeted.batch_names(), targeted.reports(), strict=True):
        records, target = targeted.batch_records(name), report.target
        errors = [abs(record.target - record.ssim) for record in records]
        assert target.measure == "ssim"
        assert target.mean_abs_error == pytest.approx(np.mean(errors))
        assert target.spearman == pytest.approx(
            spearmanr([r.target for r in records], [r.ssim for r in records]).statistic, abs=1e-6
        )
        assert target.severity_clipped == np.mean([record.severity in (0, 0.5) for record in records])
        assert report.comparison == "paired"
    assert "Requested and reached quality of each batch" in write_corpus_page(targeted.folder).read_text()
    assert verify(targeted.folder).problems == ()


def test_a_target_out_of_reach_is_clipped_at_severity_0_or_the_highest(make_multi_level, calibrated_models, tmp_path):
    make_multi_level(tmp_path / "c", models=calibrated_models, target={"psnr": (59.9,)}, count=8, distortions=("jpeg",))
    make_multi_level(tmp_path / "d", models=calibrated_models, target={"gmsd": (0.9,)}, count=8, distortions=("jpeg",))
    (report,) = open_corpus(tmp_path / "d").reports()
    assert (report.target.severity_clipped, report.target.spearman) == (1.0, None)
    assert all(record.severity < 0.15 for record in open_corpus(tmp_path / "c").records)


def test_levels_of_quality_start_with_the_least_distorted(make_multi_level, calibrated_models, ends, tmp_path):
    settings = {"num_levels": 3, "count": 24, "distortions": ("jpeg",)}
    make_multi_level(tmp_path / "c", models=calibrated_models, target={"ssim": ends}, **settings)
    corpus = open_corpus(tmp_path / "c")
    of_level = {level: {r.target for r in corpus.records if r.level == level} for level in (1, 2, 3)}
    assert {level: sorted(targets) for level, targets in of_level.items()} == {
        1: [ends[1]],
        2: [pytest.approx(sum(ends) / 2)],
        3: [ends[0]],
    }


def test_whole_images_can_have_targets_too(make_multi_level, calibrated_models, ends, tmp_path):
    settings = {"target": {"ssim": ends}, "count": 3, "distortions": ("jpeg",), "whole_images": True}
    make_multi_level(tmp_path / "c", models=calibrated_models, **settings)
    for record in open_corpus(tmp_path / "c").records:
        assert record.ssim == pytest.approx(record.target, abs=0.05)


def test_an_impossible_target_is_an_error(make_multi_level, multi_level_models, calibrated_models, models, tmp_path):
    uncalibrated = shutil.copytree(multi_level_models, tmp_path / "m")
    change_card(uncalibrated / "jpeg", calibration=None)
    for changes, message in (
        ({"target": {"lpips": (0.5,)}}, "one of psnr, ssim, gmsd"),
        ({"target": {"ssim": (0.9, 0.5)}}, "two in ascending order"),
        ({"target": {"ssim": (0.9,)}, "severity": (0.5,)}, "left out if generate.severity is given"),
        (
            {"target": {"ssim": (0.9,)}, "composite": ("jpeg+white_noise",)},
            "left out if generate.composite is given",
        ),
        ({"target": {"ssim": (0.9,)}, "metrics": ("psnr",)}, "among generate.metrics"),
        (
            {"target": {"ssim": (0.9,)}, "models": uncalibrated},
            "--target needs a calibration, and the model of jpeg has none",
        ),
        ({"target": {"ssim": (0.9,)}, "models": models}, "have learned one level only"),
    ):
        with pytest.raises(PipelineError) as error:
            make_multi_level(tmp_path / "c", **{"models": calibrated_models, **changes})
        assert message in str(error.value)


def test_the_parameter_file_can_hold_a_target(tmp_path):
    from distort_pipeline.commands.params import load_params

    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"distort_pipeline": 1, "generate": {"target": {"ssim": [0.5, 0.9]}}}))
    assert load_params(path).generate.target == {"ssim": (0.5, 0.9)}
