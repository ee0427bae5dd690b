"""Where a graded generator is judged: levels found by their parameters, and places between them."""

import pytest

from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.errors import PipelineError
from distort_pipeline.evaluation.dials import default_of, held_levels, plan_dial
from distort_pipeline.evaluation.plan import plan_of


def recipes(distortion, preset, brought=False):
    return [
        {"distortion": distortion, "level": number, "parameters": dict(parameters), "brought": brought}
        for number, parameters in enumerate(PRESETS[preset][distortion], start=1)
    ]


def card(distortion, levels):
    each = [
        {"level": rank, "parameters": dict(one), "severity": rank / len(levels)} for rank, one in enumerate(levels, 1)
    ]
    return {"distortion": distortion, "levels": each}


def test_levels_are_found_by_parameters_and_not_by_number():
    graded = card("jpeg", PRESETS["ladder"]["jpeg"])
    held = held_levels(graded, recipes("jpeg", "kadid"))  # 43 36 24 7 4
    assert [(one.step.parameters["quality"], one.stored) for one in held] == [(24, 3), (7, 4), (4, 5)]
    assert [one.step.severity for one in held] == [0.4, 0.8, 1.0]


def test_one_level_stands_for_all_the_usual_one_where_the_pairs_hold_it():
    graded = card("jpeg", PRESETS["ladder"]["jpeg"])
    assert default_of("jpeg", held_levels(graded, recipes("jpeg", "ladder"))).step.parameters == {"quality": 12}
    assert default_of("jpeg", held_levels(graded, recipes("jpeg", "kadid"))).step.parameters == {"quality": 7}


@pytest.mark.parametrize("distortion", sorted(PRESETS["ladder"]))
def test_there_is_a_place_between_every_two_levels_of_the_ladder(distortion):
    levels = PRESETS["ladder"][distortion]
    plan = plan_dial(card(distortion, levels), recipes(distortion, "ladder"), {})
    assert [(one.below, one.above) for one in plan.betweens] == [(k / 5, (k + 1) / 5) for k in range(1, 5)]
    for one in plan.betweens:
        assert one.below < one.step.severity < one.above
        assert one.step.parameters not in levels
        if distortion != "jpeg":  # whole qualities are seldom half-way
            assert one.step.severity == pytest.approx((one.below + one.above) / 2, abs=1e-6)


def test_two_neighbouring_qualities_have_nothing_between_them():
    plan = plan_dial(card("jpeg", [{"quality": 5}, {"quality": 4}]), recipes("jpeg", "kadid"), {})
    assert plan.betweens == ()


def test_a_distortion_of_brought_pairs_has_levels_only_and_no_second_draw():
    levels = [{"iso": 100}, {"iso": 800}]
    pairs = [{"distortion": "camera", "level": n, "parameters": one, "brought": True} for n, one in enumerate(levels)]
    plan = plan_dial(card("camera", levels), pairs, {"a": {0: "record", 1: "record"}, "b": {0: "record"}})
    assert (plan.betweens, plan.redrawn, plan.lacking, len(plan.held)) == ((), False, 0, 2)
    assert list(plan.images) == ["a"]  # one that lacks a level says nothing of the dial


class LadderPairs:
    folder = "pairs"
    distortions = ("jpeg",)

    def recipes(self, distortion):
        return recipes(distortion, "ladder")

    def levels(self, distortion):
        return [recipe["level"] for recipe in self.recipes(distortion)]


def test_a_model_of_other_levels_is_told_which_there_are():
    with pytest.raises(PipelineError, match=r"learned jpeg with \{'quality': 43\}, \{'quality': 13\}, pairs holds"):
        plan_of(LadderPairs(), {"odd": card("jpeg", [{"quality": 43}, {"quality": 13}])})
