import numpy as np
import pytest
from scipy.stats import spearmanr, t

from distort_pipeline.metrics.c2st import C2STResult, SeverityTSTR, TSTRResult
from distort_pipeline.metrics.classifier import (
    Accuracy,
    RankCorrelation,
    accuracy,
    rank_correlation,
    ratio_interval,
)
from distort_pipeline.reports.evaluation import tstr_text
from distort_pipeline.reports.evaluation_results import c2st_text


def accuracy_of(share):
    return Accuracy(share, share - 0.1, share + 0.1, 8, 160)


def test_the_interval_is_students_over_images_with_different_shares():
    right, tiles = [90, 60, 75, 55], [100] * 4
    result = accuracy(right, tiles)
    shares = np.divide(right, tiles)
    half = t.ppf(0.975, 3) * shares.std(ddof=1) / 2
    assert (result.share, result.images, result.tiles) == (0.7, 4, 400)
    assert result.high - result.share == pytest.approx(min(half, 0.3), abs=1e-3)
    assert result.share - result.low == pytest.approx(half, abs=1e-3)


def test_images_with_equal_shares_have_no_interval_of_width_0():
    result = accuracy([100, 100, 100], [100, 100, 100])
    assert (result.share, result.high) == (1, 1)
    assert 0.98 < result.low < 0.99  # Wilson's for 300 of 300 begins at 0.9874


def test_it_is_the_share_of_all_tiles_also_for_images_of_different_numbers():
    assert accuracy([1, 30], [2, 60]).share == 0.5
    assert accuracy([2, 30], [2, 60]).share == pytest.approx(32 / 62, abs=1e-6)


@pytest.mark.parametrize(
    ("generated", "positive_control", "state"),
    [
        (0.55, 0.9, "good"),
        (0.60, 0.61, "good"),
        (0.55, 0.55, "unknown"),
        (0.55, 0.599, "unknown"),
        (0.7, 0.55, "bad"),
        (0.7, 0.9, "bad"),
    ],
)
def test_a_generator_is_good_only_before_a_sensitive_classifier(generated, positive_control, state):
    result = C2STResult(accuracy_of(generated), accuracy_of(0.5), True, accuracy_of(positive_control))
    assert result.state == state
    assert ("inconclusive" in c2st_text(result)) == (state == "unknown")


@pytest.mark.parametrize(
    ("tstr", "trtr", "said"),
    [
        (0.98, 0.995, "Not meaningful"),
        (0.79, 0.80, "goal of 95% is reached"),
        (0.76, 0.80, "the goal of 95% is within the interval"),
        (
            0.60,
            0.80,
            "TSTR reaches 75.0% of TRTR (95 % interval 73.0% to 77.0% over 8 photographs); the goal",
        ),
    ],
)
def test_the_ratio_of_too_easy_a_task_is_called_not_meaningful(tstr, trtr, said):
    interval = (tstr / trtr - 0.02, tstr / trtr + 0.02)
    confusions = [np.eye(2, dtype=int)] * 2
    assert said in tstr_text(
        TSTRResult(("pristine", "noise"), accuracy_of(tstr), accuracy_of(trtr), *confusions, interval)
    )


def test_from_few_photographs_no_ratio_is_shown():
    few = Accuracy(0.7, 0.6, 0.8, 4, 80)
    result = TSTRResult(("pristine", "noise"), few, few, *[np.eye(2, dtype=int)] * 2, (0.9, 1.1))
    assert not result.meaningful
    assert tstr_text(result) == "No ratio: 4 photographs are too few, it takes 8."


def test_a_test_whose_interval_includes_chance_is_inconclusive():
    wide = Accuracy(0.65, 0.45, 0.85, 4, 80)
    assert C2STResult(wide, accuracy_of(0.5), True, accuracy_of(0.9)).state == "unknown"
    insensitive = C2STResult(accuracy_of(0.5), accuracy_of(0.5), True, wide)
    assert (insensitive.sensitive, insensitive.state) == (False, "unknown")
    assert "within the goal, but the positive control" in c2st_text(insensitive)


def test_the_interval_of_a_ratio_is_over_images():
    above, below = np.array([8, 9, 7, 8, 9, 7, 8, 8]), np.full(8, 10)
    low, high = ratio_interval(lambda r: above[r].sum(), lambda r: below[r].sum(), 8, np.random.default_rng(0))
    assert low < 0.8 < high
    assert high - low == pytest.approx(2 * 1.96 * above.std() / 10 / np.sqrt(8), rel=0.2)
    assert ratio_interval(lambda _: 1.0, lambda _: 0.0, 8, np.random.default_rng(0)) == (0, np.inf)


def test_a_rank_correlation_is_over_all_tiles_and_its_interval_over_images():
    rng = np.random.default_rng(0)
    severities = [np.linspace(0, 1, 30, dtype=np.float32)] * 6
    predicted = [true + 0.3 * rng.standard_normal(30).astype(np.float32) for true in severities]
    predicted[5] = -predicted[5]  # one image in opposite order
    correlation = rank_correlation(predicted, severities, np.random.default_rng(1))
    srcc = spearmanr(np.concatenate(predicted), np.concatenate(severities)).statistic
    assert correlation.value == pytest.approx(srcc, abs=1e-6)
    assert (correlation.images, correlation.tiles) == (6, 180)
    assert correlation.low < correlation.value < correlation.high
    assert correlation.high > 0.75  # images without the odd one
    assert correlation == rank_correlation(predicted, severities, np.random.default_rng(1))


def test_constant_predictions_have_a_correlation_of_0():
    correlation = rank_correlation(
        [np.ones(4, np.float32)] * 2, [np.arange(4, dtype=np.float32)] * 2, np.random.default_rng(0)
    )
    assert (correlation.value, correlation.low, correlation.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("tstr", "trtr", "said"),
    [
        (0.9, 0.995, "too easy"),
        (0.77, 0.8, "goal of 95% is reached"),
        (0.4, 0.8, "TSTR reaches 50.0% of TRTR (95 % interval 49.9% to 50.1% over 8 photographs)"),
        (0.1, -0.1, "cannot be learned from true tiles either"),
    ],
)
def test_severity_tstr_is_rated_by_its_mean_correlation(tstr, trtr, said):
    tstr_values, trtr_values = (
        {"a": RankCorrelation(value + 0.003, 0, 1, 8, 80), "b": RankCorrelation(value - 0.003, 0, 1, 8, 80)}
        for value in (tstr, trtr)
    )
    ratio = tstr / trtr if trtr > 0 else 1.0
    tstr_result = SeverityTSTR(tstr_values, trtr_values, (ratio - 0.001, ratio + 0.001))
    assert said in tstr_text(tstr_result)
    assert tstr_result.meaningful == (0 < trtr <= 0.99)
