import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.conditions import (
    SEVERITY,
    ModelCapabilities,
    SeverityRequest,
    build_conditions,
    levels_of,
    same_level,
    spread,
)

MULTI_LEVEL = ModelCapabilities(level=3, severity=0.6, multi_level=True, random=False)
MODELS = {
    "jpeg": MULTI_LEVEL,
    "noise": ModelCapabilities(level=3, severity=0.6, multi_level=True, random=True),
    "camera": ModelCapabilities(level=1, severity=1.0, multi_level=False, random=False),
}
BOTH = ["jpeg", "noise"]


def test_without_wishes_a_distortion_comes_at_its_models_own_level():
    series = build_conditions(MODELS, ["jpeg", "camera"])
    assert [(one.name, one.level, one.levels, one.request.first) for one in series] == [
        ("camera", 1, 1, 1.0),
        ("jpeg", 3, 1, 0.6),
    ]
    assert all(one.fixed_severity and not one.varies_per_draw for one in series)


def test_levels_are_series_of_their_own_from_the_weakest_up():
    series = build_conditions(MODELS, BOTH, levels=5)
    assert [one.name for one in series] == [f"{name}-{level}" for name in BOTH for level in range(1, 6)]
    assert [one.request.first for one in series[:5]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [one.distortion for one in series] == ["jpeg"] * 5 + ["noise"] * 5
    assert {one.random for one in series[5:]} == {True}


@pytest.mark.parametrize(
    ("wishes", "asked"),
    [
        ({"levels": 1}, [1.0]),
        ({"levels": 3, "severity": (0.2, 0.8)}, [0.2, 0.5, 0.8]),
    ],
)
def test_levels_lie_evenly_on_the_dial(wishes, asked):
    assert [one.request.first for one in build_conditions(MODELS, ["jpeg"], **wishes)] == asked


def test_one_level_has_no_range():
    for wish in ({"severity": (0.2, 0.8)}, {"target": {"ssim": (0.6, 0.9)}}):
        with pytest.raises(PipelineError, match="one level has one strength"):
            build_conditions(MODELS, ["jpeg"], levels=1, **wish)
    (series,) = build_conditions(MODELS, ["jpeg"], levels=1, severity=(0.4,))
    assert series.request.first == series.request.last == 0.4


def test_a_level_is_held_against_others_at_the_same_level_and_against_its_own_ladder():
    series = build_conditions(MODELS, BOTH, levels=2)
    second = series[1]
    assert same_level(second, series) == {"jpeg-2": "jpeg", "noise-2": "noise"}
    assert levels_of(second, series) == {"jpeg-1": 1, "jpeg-2": 2}
    assert levels_of(build_conditions(MODELS, BOTH)[0], build_conditions(MODELS, BOTH)) == {}


def test_a_model_of_one_level_is_named_when_more_is_asked_of_it():
    with pytest.raises(PipelineError, match=r"^camera has learned one level only.*train with --levels"):
        build_conditions(MODELS, ["camera", "jpeg"], levels=3)


def test_a_range_is_covered_evenly_in_an_order_that_the_seed_decides():
    asked = SeverityRequest(SEVERITY, 0.2, 0.9)
    values = spread(asked, 7, seed=1)
    assert [int((value - 0.2) / 0.1) for value in sorted(values)] == list(range(7))
    assert values != sorted(values)
    assert values == spread(asked, 7, seed=1) != spread(asked, 7, seed=2)
