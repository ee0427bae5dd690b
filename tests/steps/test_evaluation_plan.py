"""The sweep of a multi-level generator: levels found by their parameters, and midpoints."""

from itertools import pairwise

import pytest
from small_models import card_of

from distort_pipeline.data.pairs import Recipe
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps.evaluation_plan import default_level, plan_of, plan_sweep, shared_levels


def recipes(distortion, preset, external=False):
    return [
        Recipe(distortion, number, number - 1, dict(parameters), external)
        for number, parameters in enumerate(PRESETS[preset][distortion], start=1)
    ]


def test_levels_are_found_by_parameters_and_not_by_number():
    multi_level = card_of("jpeg", PRESETS["five_levels"]["jpeg"])
    levels = shared_levels(multi_level.levels, recipes("jpeg", "kadid"))  # 43 36 24 7 4
    assert [(level.point.parameters["quality"], level.level) for level in levels] == [(24, 3), (7, 4), (4, 5)]
    assert [level.point.severity for level in levels] == [0.3736, 0.6043, 0.716]


def test_the_default_level_is_that_of_the_distortion_if_the_pairs_have_it():
    multi_level = card_of("jpeg", PRESETS["five_levels"]["jpeg"])
    assert default_level(
        "jpeg", shared_levels(multi_level.levels, recipes("jpeg", "five_levels"))
    ).point.parameters == {"quality": 12}
    assert default_level("jpeg", shared_levels(multi_level.levels, recipes("jpeg", "kadid"))).point.parameters == {
        "quality": 7
    }


@pytest.mark.parametrize("distortion", sorted(PRESETS["five_levels"]))
def test_there_is_a_midpoint_of_every_two_levels(distortion):
    levels = PRESETS["five_levels"][distortion]
    plan = plan_sweep(card_of(distortion, levels), recipes(distortion, "five_levels"), {})
    severities = card_of(distortion, levels).scale.severities
    assert [(midpoint.below, midpoint.above) for midpoint in plan.midpoints] == list(pairwise(severities))
    for midpoint in plan.midpoints:
        assert midpoint.below < midpoint.point.severity < midpoint.above
        assert midpoint.point.parameters not in levels
        if distortion != "jpeg":  # whole qualities are seldom half-way
            assert midpoint.point.severity == pytest.approx((midpoint.below + midpoint.above) / 2, abs=1e-4)


def test_two_neighbouring_qualities_have_nothing_between_them():
    plan = plan_sweep(card_of("jpeg", [{"quality": 5}, {"quality": 4}]), recipes("jpeg", "kadid"), {})
    assert plan.midpoints == ()


def test_a_distortion_of_external_pairs_has_levels_only_and_no_second_draw():
    levels = [{"iso": 100}, {"iso": 800}]
    pairs = [Recipe("camera", n, n - 1, parameters, external=True) for n, parameters in enumerate(levels, start=1)]
    plan = plan_sweep(card_of("camera", levels), pairs, {"a": {1: "record", 2: "record"}, "b": {1: "record"}})
    assert (plan.midpoints, plan.redrawn, plan.lacking, len(plan.shared_levels)) == ((), False, 0, 2)
    assert list(plan.images) == ["a"]  # an image without all levels is left out


class FiveLevelPairs:
    folder = "pairs"
    distortions = ("jpeg",)

    def recipes(self, distortion):
        return recipes(distortion, "five_levels")

    def levels(self, distortion):
        return [recipe.level for recipe in self.recipes(distortion)]


def test_the_error_for_a_model_of_other_levels_names_the_levels():
    with pytest.raises(PipelineError, match=r"learned jpeg with \{'quality': 43\}, \{'quality': 13\}, pairs has"):
        plan_of(FiveLevelPairs(), {"odd": card_of("jpeg", [{"quality": 43}, {"quality": 13}])})
