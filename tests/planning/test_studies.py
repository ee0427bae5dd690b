from collections import Counter

import pytest

from distort_pipeline.exports.study import ANCHOR, REPEAT, SAMPLE, plan_sessions

GROUPS = {"jpeg": list(range(100, 140)), "jp2k": list(range(200, 240)), "noise": list(range(300, 320))}
ANCHORS = [1, 2, 3]


def shown(sessions=20, trials=60, seed=0, groups=GROUPS):
    return plan_sessions(groups, ANCHORS, sessions=sessions, trials=trials, seed=seed)


def by_session(trials):
    sessions = {}
    for trial in trials:
        sessions.setdefault(trial.session, []).append(trial)
    return list(sessions.values())


def test_each_session_has_its_trials_in_order():
    sessions = by_session(shown())
    assert len(sessions) == 20
    for session in sessions:
        assert [trial.position for trial in session] == list(range(57))  # 48 samples, 6 repeats, all 3 anchors
        kinds = Counter(trial.kind for trial in session)
        assert kinds == {SAMPLE: 48, REPEAT: 6, ANCHOR: 3}


def test_samples_recur_in_a_session_only_as_late_repeats():
    for session in by_session(shown()):
        firsts = {trial.stimulus: trial.position for trial in session if trial.kind == SAMPLE}
        assert len(firsts) == 48
        for trial in session:
            if trial.kind == REPEAT:
                assert trial.position - firsts[trial.stimulus] >= 51 // 4


@pytest.mark.parametrize("sessions", [1, 3, 7, 20])
def test_every_sample_is_shown_as_often_as_every_other(sessions):
    counts = Counter(trial.stimulus for trial in shown(sessions) if trial.kind == SAMPLE)
    often = [counts[number] for group in GROUPS.values() for number in group]
    assert max(often) - min(often) <= 1
    assert sum(often) == 48 * sessions


def test_each_session_has_each_distortion_in_its_share():
    for session in by_session(shown()):
        kinds = Counter(trial.stimulus // 100 for trial in session if trial.kind == SAMPLE)
        assert kinds[1] == pytest.approx(48 * 40 / 100, abs=4)
        assert kinds[3] == pytest.approx(48 * 20 / 100, abs=4)


def test_anchors_are_pristine_and_take_turns():
    counts = Counter(trial.stimulus for trial in shown(sessions=5) if trial.kind == ANCHOR)
    assert counts == {1: 5, 2: 5, 3: 5}


def test_the_seed_decides_and_nothing_else():
    assert shown(seed=3) == shown(seed=3)
    assert shown(seed=3) != shown(seed=4)
    orders = {tuple(trial.stimulus for trial in session) for session in by_session(shown())}
    assert len(orders) == 20


def test_few_stimuli_make_short_sessions():
    few = shown(sessions=2, groups={"jpeg": [1, 2, 3], "noise": []})
    kinds = Counter(trial.kind for trial in few if trial.session == 0)
    assert (kinds[SAMPLE], kinds[ANCHOR]) == (3, 3)
    assert kinds[REPEAT] <= 3
    assert {trial.kind for trial in shown(groups={})} == {ANCHOR}
