import numpy as np
import pytest
from scipy.stats import t

from distort_pipeline.reports.told_tables import lesson_words, trial_words
from distort_pipeline.statistics.told import Accuracy, Lesson, Trial, accuracy


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
    ("generated", "weaker", "state"),
    [(0.55, 0.9, "good"), (0.60, 0.61, "good"), (0.55, 0.55, "unknown"), (0.7, 0.55, "bad"), (0.7, 0.9, "bad")],
)
def test_silence_counts_only_from_a_classifier_that_notices(generated, weaker, state):
    trial = Trial(found(generated), found(0.5), True, found(weaker))
    assert trial.state == state
    assert ("no evidence" in trial_words(trial)) == (state == "unknown")


@pytest.mark.parametrize(
    ("by_generated", "by_true", "said"),
    [
        (0.98, 0.995, "Not meaningful"),
        (0.76, 0.80, "goal of 95% is reached"),
        (0.60, 0.80, "teach 75.0% of what true ones teach; the goal of 95% is not reached"),
    ],
)
def test_a_ratio_to_what_is_too_easy_is_not_meaningful_and_said_so(by_generated, by_true, said):
    assert said in lesson_words(Lesson(("pristine", "noise"), found(by_generated), found(by_true), {}))
