"""The severity scale of every distortion, levels on it, and the messages where there is none."""

import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline import distortions
from distort_pipeline.commands.inputs import SAMPLE
from distort_pipeline.distortions import DISTORTIONS, LevelScale, SeverityScale, declared_scale
from distort_pipeline.distortions.jpeg import coarseness, quality_of
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import make_rng

SCALED = [name for name in DISTORTIONS.names() if declared_scale(name)]
LEVEL_SETS = [
    (preset, name)
    for preset, distortion_levels in PRESETS.items()
    for name in distortion_levels
    if name in SCALED and len(distortion_levels[name]) > 1
]
every_level_set = pytest.mark.parametrize(("preset", "name"), LEVEL_SETS)


def levels_of(name, *levels):
    """The levels of `name`, a parameter value each, or whole parameters."""
    scale = declared_scale(name)
    named = [level if isinstance(level, dict) else {scale.parameter: level} for level in levels]
    return LevelScale(name, tuple(named), scale)


@pytest.fixture(scope="module")
def image():
    with PILImage.open(SAMPLE / "budgie-backgrounds__canyon-wren.png") as opened:
        return np.asarray(opened.convert("RGB"))[100:356, 200:456]


def errors_of(name, image, parameter_sets):
    images = [distortions.apply(name, image, parameters, make_rng(3)).image for parameters in parameter_sets]
    return [np.square(distorted.astype(float) - image).mean() for distorted in images]


def test_the_four_of_the_paper_have_a_severity_scale_with_their_paper_like_level_in_the_middle():
    assert {"jpeg", "jp2k", "white_noise", "pink_noise"} <= set(SCALED)
    for name, (level,) in PRESETS["paper_like"].items():
        assert levels_of(name, level).severities == (0.5,)


@pytest.mark.parametrize("name", SCALED)
def test_a_scale_grows_from_the_identity_to_its_end_and_its_inverse_agrees(name):
    scale = declared_scale(name)
    assert scale.severity_of(scale.strongest) == 1
    severities = np.linspace(0, 1, 41)
    amounts = [scale.amount_at(float(severity)) for severity in severities]
    assert amounts[0] == 0
    assert amounts == sorted(amounts)
    if name != "jpeg":  # qualities are integers
        back = [scale.severity_of(scale.value(min(amount, scale.amount(scale.strongest)))) for amount in amounts]
        np.testing.assert_allclose(back, severities, atol=1e-4)


@every_level_set
def test_levels_of_every_database_are_on_the_scale_and_come_back_as_given(preset, name):
    levels = levels_of(name, *PRESETS[preset][name])
    assert list(levels.severities) == sorted(levels.severities)
    assert 0 < levels.severities[0] < levels.severities[-1] <= 1
    for number, (level, severity) in enumerate(zip(levels.levels, levels.severities, strict=True), start=1):
        assert levels.parameters_at(severity) == level
        assert levels.severity_of(level) == severity
        assert levels.position_at(severity) == number / len(levels.levels)


@every_level_set
def test_positions_grow_from_0_to_1_with_severity(preset, name):
    levels = levels_of(name, *PRESETS[preset][name])
    positions = [levels.position_at(float(at)) for at in np.linspace(0, levels.severities[-1], 41)]
    assert (positions[0], positions[-1]) == (0, 1)
    assert positions == sorted(set(positions))


def test_a_parameter_has_one_severity_whatever_the_levels_of_a_model():
    five, two = levels_of("jpeg", 50, 24, 12, 7, 4), levels_of("jpeg", 43, 12)
    assert five.severity_of({"quality": 12}) == two.severity_of({"quality": 12}) == 0.5
    assert five.parameters_at(0.5) == two.parameters_at(0.5) == {"quality": 12}
    assert (five.position_at(0.5), two.position_at(0.5)) == (0.6, 1)


@pytest.mark.parametrize("name", sorted(PRESETS["five_levels"]))
def test_images_get_worse_with_severity_and_are_nearly_pristine_at_0(name, image):
    levels = levels_of(name, *PRESETS["five_levels"][name])
    errors = errors_of(name, image, [levels.parameters_at(step / 10) for step in range(9)])  # at 0.9 headers are left
    assert errors == sorted(errors)
    assert len(set(errors[1:])) == len(errors[1:])  # at a ratio of 2.8, JPEG 2000 spends no more bytes than at 1
    assert errors[0] < 255**2 / 10**4.5  # 45 dB: a codec that discards nothing still rounds


def test_half_way_between_levels_is_the_geometric_mean_of_codecs_and_the_arithmetic_mean_of_noises():
    def position(name, levels, parameter):
        scale = declared_scale(name)
        at = np.interp(
            scale.amount(parameter), *zip(*((scale.amount_at(s), s) for s in np.linspace(0, 1, 99999)), strict=True)
        )
        return levels_of(name, *levels).position_at(float(at))

    assert position("jp2k", (26, 101), 51) == pytest.approx(0.75, abs=1e-3)
    assert position("jp2k", (26, 101), 13.5) == pytest.approx(0.25, abs=1e-3)  # from 0 on, linear
    assert position("pink_noise", (4, 16), 10) == pytest.approx(0.75, abs=1e-3)


def test_every_quality_of_jpeg_comes_back_from_its_coarseness():
    assert [quality_of(coarseness(quality)) for quality in range(1, 101)] == list(range(1, 101))
    scales = [coarseness(quality) for quality in range(1, 101)]
    assert scales == sorted(scales, reverse=True)


NOISES = levels_of("white_noise", 5, 10)
CAMERA = LevelScale("camera", ({"iso": 100}, {"iso": 800}), None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NOISES.parameters_at(1.1), "from 0 to 1, got 1.1"),
        (lambda: NOISES.position_at(float("nan")), "from 0 to 1, got nan"),
        (lambda: NOISES.position_at(0.5), "learned up to severity 0.3865, sigma_8bit 10; got 0.5"),
        (lambda: levels_of("white_noise", 10, 5).position_at(0.2), "white_noise have to grow in sigma_8bit alone"),
        (lambda: levels_of("white_noise", 0, 5).position_at(0.2), "have to grow"),
        (lambda: levels_of("white_noise", 5, 300).severities, "off the severity scale, which ends with 255"),
        (lambda: NOISES.severity_of({"sigma_8bit": 7, "tint": 1}), "is not on the severity scale of"),
        (lambda: CAMERA.parameters_at(0.3), "camera has no declared severity scale, so severity 0.3 is not possible; "
         "its levels lie at 0.5, 1"),
        (lambda: CAMERA.severity_of({"iso": 2}), "camera has no declared severity scale"),
    ],
)  # fmt: skip
def test_what_is_off_the_scale_is_refused_with_the_reason(call, message):
    with pytest.raises(PipelineError) as caught:
        call()
    assert message in str(caught.value)


def test_levels_without_a_declared_scale_have_one_of_their_own():
    assert CAMERA.severities == (0.5, 1)
    assert CAMERA.parameters_at(0.5) == {"iso": 100}
    assert CAMERA.severity_of({"iso": 800}) == 1
    assert CAMERA.position_at(0.3) == 0.3


def test_severity_is_linear_in_the_amount_at_first_and_in_its_logarithm_at_last():
    scale = SeverityScale("sigma_8bit", half=10, strongest=1000, amount=float, value=float, geometric=False)
    assert scale.severity_of(0.02) == pytest.approx(2 * scale.severity_of(0.01), rel=0.1)
    assert scale.severity_of(1000) - scale.severity_of(500) == pytest.approx(
        scale.severity_of(500) - scale.severity_of(250), abs=1e-3
    )
