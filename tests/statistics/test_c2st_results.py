import numpy as np
import pytest
from scipy.stats import spearmanr, t

from distort_pipeline.reports.c2st_tables import c2st_text, severity_tstr_text, tstr_text
from distort_pipeline.statistics.c2st import (
    Accuracy,
    C2STResult,
    RankCorrelation,
    SeverityTSTR,
    TSTRResult,
    accuracy,
    rank_correlation,
)


def found(share):
    return Accuracy(share, share - 0.1, share + 0.1, 4, 80)


def test_the_interval_is_students_over_photographs_where_they_differ():
    right, tiles = [90, 60, 75, 55], [100] * 4
    got = accuracy(right, tiles)
    shares = np.divide(right, tiles)
    half = t.ppf(0.975, 3) * shares.std(ddof=1) / 2
    assert (got.share, got.photographs, got.tiles) == (0.7, 4, 400)
    assert got.high - got.share == pytest.approx(min(half, 0.3), abs=1e-3)
    assert got.share - got.low == pytest.approx(half, abs=1e-3)


def test_photographs_that_agree_by_chance_leave_no_interval_of_width_0():
    got = accuracy([100, 100, 100], [100, 100, 100])
    assert (got.share, got.high) == (1, 1)
    assert 0.98 < got.low < 0.99  # Wilson's for 300 of 300 begins at 0.9874


def test_it_is_the_share_of_all_tiles_also_where_photographs_have_different_numbers():
    assert accuracy([1, 30], [2, 60]).share == 0.5
    assert accuracy([2, 30], [2, 60]).share == pytest.approx(32 / 62, abs=1e-6)


@pytest.mark.parametrize(
    ("generated", "positive_control", "state"),
    [(0.55, 0.9, "good"), (0.60, 0.61, "good"), (0.55, 0.55, "unknown"), (0.7, 0.55, "bad"), (0.7, 0.9, "bad")],
)
def test_silence_counts_only_from_a_classifier_that_notices(generated, positive_control, state):
    trial = C2STResult(found(generated), found(0.5), True, found(positive_control))
    assert trial.state == state
    assert ("no evidence" in c2st_text(trial)) == (state == "unknown")


@pytest.mark.parametrize(
    ("tstr", "trtr", "said"),
    [
        (0.98, 0.995, "Not meaningful"),
        (0.76, 0.80, "goal of 95% is reached"),
        (0.60, 0.80, "teach 75.0% of what true ones teach; the goal of 95% is not reached"),
    ],
)
def test_a_ratio_to_what_is_too_easy_is_not_meaningful_and_said_so(tstr, trtr, said):
    assert said in tstr_text(TSTRResult(("pristine", "noise"), found(tstr), found(trtr), {}))


def test_a_rank_correlation_is_over_all_tiles_and_its_interval_over_photographs():
    rng = np.random.default_rng(0)
    severities = [np.linspace(0, 1, 30, dtype=np.float32)] * 6
    told = [own + 0.3 * rng.standard_normal(30).astype(np.float32) for own in severities]
    told[5] = -told[5]  # one photograph is seen the wrong way round
    got = rank_correlation(told, severities, np.random.default_rng(1))
    assert got.value == pytest.approx(spearmanr(np.concatenate(told), np.concatenate(severities)).statistic, abs=1e-6)
    assert (got.photographs, got.tiles) == (6, 180)
    assert got.low < got.value < got.high
    assert got.high > 0.75  # photographs without the odd one
    assert got == rank_correlation(told, severities, np.random.default_rng(1))


def test_who_tells_one_severity_for_all_tells_nothing():
    got = rank_correlation([np.ones(4, np.float32)] * 2, [np.arange(4, dtype=np.float32)] * 2, np.random.default_rng(0))
    assert (got.value, got.low, got.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("tstr", "trtr", "said"),
    [
        (0.9, 0.995, "too easy"),
        (0.77, 0.8, "goal of 95% is reached"),
        (0.4, 0.8, "teach 50.0% of what true ones teach; the goal of 95% is not reached"),
        (0.1, -0.1, "true tiles do not teach it either"),
    ],
)
def test_a_lesson_on_severity_is_judged_by_its_mean_correlation(tstr, trtr, said):
    trained_on, truly = (
        {"a": RankCorrelation(value + 0.003, 0, 1, 4, 80), "b": RankCorrelation(value - 0.003, 0, 1, 4, 80)}
        for value in (tstr, trtr)
    )
    tstr_result = SeverityTSTR(trained_on, truly)
    assert said in severity_tstr_text(tstr_result)
    assert tstr_result.meaningful == (0 < trtr <= 0.99)
