import json
import shutil

import numpy as np
import pytest
from small_models import INFERENCE_BATCH_SIZE, change_card

from distort_pipeline.commands.verify import verify
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.reports.corpus_page import write_page
from distort_pipeline.statistics.calibration import reach, severity_for
from distort_pipeline.statistics.ranks import spearman
from distort_pipeline.statistics.ssim import ssim
from distort_pipeline.stores.corpora import open_corpus
from distort_pipeline.stores.models import read_card
from distort_pipeline.trained import load_generator

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


@pytest.fixture(scope="module")
def ends(calibrated_models):
    """Two values of SSIM that both dials have between their ends."""
    sweeps = [read_card(calibrated_models / name)["calibration"] for name in ("jpeg", "white_noise")]
    best, worst = zip(*(reach(dial, "ssim") for dial in sweeps), strict=True)
    low, high = max(worst), min(best)
    return round(low + 0.3 * (high - low), 3), round(low + 0.7 * (high - low), 3)


@pytest.fixture(scope="module")
def aimed(tmp_path_factory, make_multi_level, calibrated_models, ends):
    """A corpus whose samples have targets of their own: nobody may change it."""
    out = tmp_path_factory.mktemp("aimed") / "corpus"
    make_multi_level(out, models=calibrated_models, target={"ssim": ends}, count=32)
    return open_corpus(out)


def test_each_image_comes_nearer_than_the_calibration_alone_would_bring_it(aimed, calibrated_models, ends):
    for name in aimed.distortions:
        model = load_generator(calibrated_models / name, batch_size=INFERENCE_BATCH_SIZE)
        dial = read_card(calibrated_models / name)["calibration"]
        own = [place for place, record in enumerate(aimed.records) if record.distortion == name]
        assert all(ends[0] <= aimed.record(place).target <= ends[1] for place in own)
        # below the first learned level, where also an untrained generator's strength grows with severity
        reachable = [aimed[place] for place in own if 0 < aimed.record(place).severity < 0.48]
        assert len(reachable) >= len(own) / 3
        errors = [abs(sample.record.ssim - sample.record.target) for sample in reachable]
        alone = []
        for sample in reachable:
            severity = severity_for(dial, "ssim", sample.record.target)
            made = model.predictor.distort_image(sample.pristine, sample.record.seed, severity)
            alone.append(abs(ssim(sample.pristine, made) - sample.record.target))
        assert np.mean(errors) < np.mean(alone) / 3


def test_targets_go_to_tiles_that_have_them_on_their_dial(aimed, calibrated_models, ends):
    for name in aimed.batch_names():
        records = aimed.batch_records(name)
        predictor = load_generator(calibrated_models / records[0].distortion, batch_size=INFERENCE_BATCH_SIZE).predictor
        worst = [
            ssim(sample.pristine, predictor.distort_image(sample.pristine, sample.record.seed))
            for sample in (aimed[record.sample] for record in records)
        ]
        lacking = [(r, end) for r, end in zip(records, worst, strict=True) if r.target < end]
        assert all(end > ends[1] for _, end in lacking)  # who has nothing of the range on his dial


def test_what_no_tile_can_have_is_drawn_anew(make_multi_level, calibrated_models, tmp_path):
    dial = read_card(calibrated_models / "jpeg")["calibration"]
    best, worst = reach(dial, "ssim")
    settings = {"target": {"ssim": (0.0, round((best + worst) / 2, 3))}, "count": 16, "distortions": ("jpeg",)}
    make_multi_level(tmp_path / "c", models=calibrated_models, **settings)
    corpus = open_corpus(tmp_path / "c")
    assert np.mean([report["target"]["moved"] for report in corpus.reports()]) > 0.2  # of which most is out of reach
    assert np.mean([report["target"]["at_limit"] for report in corpus.reports()]) < 0.5
    assert min(record.target for record in corpus.records) > 0.1 * worst


def test_a_sample_is_what_its_generator_makes_at_the_severity_that_was_found(aimed, calibrated_models):
    for place in (0, 9, 31):
        sample = aimed[place]
        predictor = load_generator(
            calibrated_models / sample.record.distortion, batch_size=INFERENCE_BATCH_SIZE
        ).predictor
        made = predictor.distort_image(sample.pristine, sample.record.seed, sample.record.severity)
        np.testing.assert_array_equal(made, sample.distorted)


def test_the_report_holds_reached_against_asked(aimed):
    for name, report in zip(aimed.batch_names(), aimed.reports(), strict=True):
        records, told = aimed.batch_records(name), report["target"]
        errors = [abs(record.target - record.ssim) for record in records]
        assert told["measure"] == "ssim"
        assert told["mean_abs_error"] == pytest.approx(np.mean(errors))
        assert told["spearman"] == spearman([r.target for r in records], [r.ssim for r in records])
        assert told["at_limit"] == np.mean([record.severity in (0, 1) for record in records])
        assert report["judged_by"] == "paired"
    assert "Quality asked for, and reached" in write_page(aimed.folder).read_text()
    assert verify(aimed.folder).problems == ()


def test_what_no_severity_gives_ends_at_the_end_of_the_dial(make_multi_level, calibrated_models, tmp_path):
    make_multi_level(tmp_path / "c", models=calibrated_models, target={"psnr": (59.9,)}, count=8, distortions=("jpeg",))
    make_multi_level(tmp_path / "d", models=calibrated_models, target={"gmsd": (0.9,)}, count=8, distortions=("jpeg",))
    (report,) = open_corpus(tmp_path / "d").reports()
    assert (report["target"]["at_limit"], report["target"]["spearman"]) == (1.0, None)
    assert all(record.severity < 0.3 for record in open_corpus(tmp_path / "c").records)


def test_levels_of_quality_start_with_the_least_distorted(make_multi_level, calibrated_models, ends, tmp_path):
    settings = {"levels": 3, "count": 24, "distortions": ("jpeg",)}
    make_multi_level(tmp_path / "c", models=calibrated_models, target={"ssim": ends}, **settings)
    corpus = open_corpus(tmp_path / "c")
    of_level = {level: {r.target for r in corpus.records if r.level == level} for level in (1, 2, 3)}
    assert {level: sorted(targets) for level, targets in of_level.items()} == {
        1: [ends[1]],
        2: [pytest.approx(sum(ends) / 2)],
        3: [ends[0]],
    }


def test_two_workers_find_the_same_severities(aimed, make_multi_level, calibrated_models, ends, tmp_path):
    out = tmp_path / "c"
    make_multi_level(out, models=calibrated_models, target={"ssim": ends}, count=32, workers=Workers(2))
    assert open_corpus(out).metadata["digest"] == aimed.metadata["digest"]


def test_whole_images_can_be_aimed_too(make_multi_level, calibrated_models, ends, tmp_path):
    settings = {"target": {"ssim": ends}, "count": 3, "distortions": ("jpeg",), "whole_images": True}
    make_multi_level(tmp_path / "c", models=calibrated_models, **settings)
    for record in open_corpus(tmp_path / "c").records:
        assert record.ssim == pytest.approx(record.target, abs=0.05)


def test_what_cannot_be_aimed_at_is_said(make_multi_level, multi_level_models, calibrated_models, models, tmp_path):
    uncalibrated = shutil.copytree(multi_level_models, tmp_path / "m")
    change_card(uncalibrated / "jpeg", calibration=None)
    for changes, words in (
        ({"target": {"lpips": (0.5,)}}, "one of psnr, ssim, gmsd"),
        ({"target": {"ssim": (0.9, 0.5)}}, "the smaller one first"),
        ({"target": {"ssim": (0.9,)}, "severity": (0.5,)}, "left out where generate.severity is given"),
        (
            {"target": {"ssim": (0.9,)}, "composite": ("jpeg+white_noise",)},
            "left out where generate.composite is given",
        ),
        ({"target": {"ssim": (0.9,)}, "metrics": ("psnr",)}, "among generate.metrics"),
        ({"target": {"ssim": (0.9,)}, "models": uncalibrated}, "the model of jpeg has no calibration"),
        ({"target": {"ssim": (0.9,)}, "models": models}, "have learned one level only"),
    ):
        with pytest.raises(PipelineError) as error:
            make_multi_level(tmp_path / "c", **{"models": calibrated_models, **changes})
        assert words in str(error.value)


def test_calibrated_measures_are_the_same_everywhere():
    from distort_pipeline import config
    from distort_pipeline.statistics import calibrated

    assert config.CALIBRATED == calibrated.CALIBRATED


def test_the_parameter_file_can_hold_a_target(tmp_path):
    from distort_pipeline.params import load_params

    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"distort_pipeline": 1, "generate": {"target": {"ssim": [0.5, 0.9]}}}))
    assert load_params(path).generate.target == {"ssim": (0.5, 0.9)}
