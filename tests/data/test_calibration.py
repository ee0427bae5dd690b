"""Severity and quality in terms of each other."""

import numpy as np
import pytest

from distort_pipeline import config
from distort_pipeline.config import CALIBRATED
from distort_pipeline.data.severity_search import expected, monotone, reach, severity_for
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB

SEVERITY_SCALE = {
    "severity": [0, 0.25, 0.5, 0.75, 1],
    "psnr": [60, 40, 32, 32, 20],  # as pooling leaves it: level from 0.5 to 0.75
    "ssim": [1, 0.97, 0.9, 0.7, 0.4],
    "gmsd": [0, 0.01, 0.05, 0.12, 0.25],
}


@pytest.mark.parametrize("measure", CALIBRATED)
def test_the_severity_of_a_quality_has_the_expected_quality(measure):
    best, worst = reach(SEVERITY_SCALE, measure)
    for target in np.linspace(best, worst, 101):
        assert expected(SEVERITY_SCALE, measure, severity_for(SEVERITY_SCALE, measure, target)) == pytest.approx(
            target, abs=1e-12
        )


@pytest.mark.parametrize("measure", CALIBRATED)
def test_worse_is_more_severe_and_out_of_reach_is_clipped_at_severity_0_or_1(measure):
    best, worst = reach(SEVERITY_SCALE, measure)
    further = worst - best
    severities = [
        severity_for(SEVERITY_SCALE, measure, target) for target in np.linspace(best - further, worst + further, 301)
    ]
    assert severities == sorted(severities)
    assert severities[:101] == [0] * 101
    assert severities[200:] == pytest.approx([1] * 101)
    assert all(0 < severity < 1 for severity in severities[101:200])


def test_the_lowest_of_several_severities_is_taken():
    assert severity_for(SEVERITY_SCALE, "psnr", 32) == 0.5
    assert severity_for(SEVERITY_SCALE, "psnr", 31.999) == pytest.approx(0.75, abs=1e-4)


def test_pooling_changes_only_what_is_out_of_order():
    assert monotone("ssim", [0.9, 0.8, 0.85, 0.2]) == [0.9, 0.825, 0.825, 0.2]
    assert monotone("gmsd", SEVERITY_SCALE["gmsd"]) == SEVERITY_SCALE["gmsd"]


@pytest.mark.parametrize(("measure", "said"), [("simm", "did you mean ssim"), ("severity", "known are: gmsd, psnr")])
def test_another_measure_is_refused_with_the_known_names(measure, said):
    with pytest.raises(PipelineError, match=said):
        severity_for(SEVERITY_SCALE, measure, 0.5)


def test_the_settings_know_the_same_highest_psnr():
    assert config.HIGHEST_TARGETS["psnr"] == HIGHEST_PSNR_DB
