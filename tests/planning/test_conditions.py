import pytest

from distort_pipeline.data.conditions import (
    FixedSeverity,
    ModelCapabilities,
    QualityTarget,
    SeverityRange,
    build_conditions,
    levels_of,
    request_for,
    same_level,
)
from distort_pipeline.errors import PipelineError

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
MULTI_LEVEL = ModelCapabilities(level=3, severity=0.6, any_severity=True, random=False, severities=LEVELS)
MODELS = {
    "jpeg": MULTI_LEVEL,
    "noise": ModelCapabilities(level=3, severity=0.6, any_severity=True, random=True, severities=LEVELS),
    "camera": ModelCapabilities(level=1, severity=1.0, any_severity=False, random=False, severities=(1.0,)),
}
BOTH = ["jpeg", "noise"]


def test_by_default_a_distortion_has_all_levels_of_its_model():
    conditions = build_conditions(MODELS, ["jpeg", "camera"])
    assert [(item.name, item.level, item.levels, item.request.first) for item in conditions] == [
        ("camera", 1, 1, 1.0),
        *((f"jpeg-{level}", level, 5, level / 5) for level in range(1, 6)),
    ]
    assert conditions[1:] == build_conditions(MODELS, ["jpeg"], levels=5)
    assert all(item.fixed_severity and not item.varies_per_draw for item in conditions)


def test_each_level_is_a_condition_from_the_mildest_up():
    conditions = build_conditions(MODELS, BOTH, levels=5)
    assert [item.name for item in conditions] == [f"{name}-{level}" for name in BOTH for level in range(1, 6)]
    assert [item.request.first for item in conditions[:5]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [item.distortion for item in conditions] == ["jpeg"] * 5 + ["noise"] * 5
    assert {item.random for item in conditions[5:]} == {True}


@pytest.mark.parametrize(
    ("options", "requested"),
    [
        ({"levels": 1}, [1.0]),
        ({"levels": 3, "severity": (0.2, 0.8)}, [0.2, 0.5, 0.8]),
    ],
)
def test_levels_are_evenly_spaced_on_the_severity_scale(options, requested):
    assert [item.request.first for item in build_conditions(MODELS, ["jpeg"], **options)] == requested


def test_levels_end_with_the_last_learned_one_and_nothing_beyond_is_made():
    jpeg = ModelCapabilities(level=1, severity=0.3, any_severity=True, random=False, severities=(0.3, 0.6))
    models = {**MODELS, "jpeg": jpeg}
    assert [item.request.first for item in build_conditions(models, ["jpeg"], levels=3)] == [0.2, 0.4, 0.6]
    (both,) = build_conditions(models, [], levels=1, composites=["jpeg+noise"])
    assert both.request.first == 0.6
    with pytest.raises(
        PipelineError, match=r"jpeg was learned up to severity 0\.6, and 0\.7 was requested: lower --sev"
    ):
        build_conditions(models, BOTH, severity=(0.2, 0.7))


def test_one_level_has_no_range():
    for options in ({"severity": (0.2, 0.8)}, {"target": {"ssim": (0.6, 0.9)}}):
        with pytest.raises(PipelineError, match="--num-levels 1 needs a single value"):
            build_conditions(MODELS, ["jpeg"], levels=1, **options)
    (condition,) = build_conditions(MODELS, ["jpeg"], levels=1, severity=(0.4,))
    assert condition.request.first == condition.request.last == 0.4


def test_a_level_is_compared_with_the_same_level_and_with_all_levels_of_its_distortion():
    conditions = build_conditions(MODELS, BOTH, levels=2)
    second = conditions[1]
    assert same_level(second, conditions) == {"jpeg-2": "jpeg", "noise-2": "noise"}
    assert levels_of(second, conditions) == {"jpeg-1": 1, "jpeg-2": 2}
    single = build_conditions(MODELS, BOTH, severity=(0.5,))
    assert levels_of(single[0], single) == {}


def test_a_single_level_model_is_named_when_more_levels_are_requested():
    with pytest.raises(PipelineError, match=r"^camera has learned one level only.*train with --levels"):
        build_conditions(MODELS, ["camera", "jpeg"], levels=3)


def test_a_range_is_covered_evenly_in_a_seeded_order():
    request = request_for("severity", 0.2, 0.9)
    values = request.values(7, seed=1)
    assert [int((value - 0.2) / 0.1) for value in sorted(values)] == list(range(7))
    assert values != sorted(values)
    assert values == request.values(7, seed=1) != request.values(7, seed=2)


def test_a_request_is_of_the_kind_of_its_unit_and_range():
    kinds = [type(request_for(*request)) for request in (("severity", 1, 1), ("severity", 0, 1), ("ssim", 0.5, 0.5))]
    assert kinds == [FixedSeverity, SeverityRange, QualityTarget]
