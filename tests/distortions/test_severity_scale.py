"""The severity scale of every distortion, and the messages where there is none."""

import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline import distortions
from distort_pipeline.commands.inputs import sample_folder
from distort_pipeline.distortions import DISTORTIONS
from distort_pipeline.distortions.jpeg import coarseness, quality_of
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.distortions.severity_scale import declared_scale, has_severity_scale, parameters_at, severity_of
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import make_rng

LEVEL_SETS = [
    (preset, name)
    for preset, distortion_levels in PRESETS.items()
    for name in distortion_levels
    if has_severity_scale(name) and len(distortion_levels[name]) > 1
]
every_level_set = pytest.mark.parametrize(("preset", "name"), LEVEL_SETS)


@pytest.fixture(scope="module")
def image():
    with PILImage.open(sample_folder() / "budgie-backgrounds__canyon-wren.png") as opened:
        return np.asarray(opened.convert("RGB"))[100:356, 200:456]


def errors_of(name, image, parameter_sets):
    images = [distortions.apply(name, image, parameters, make_rng(3)).image for parameters in parameter_sets]
    return [np.square(distorted.astype(float) - image).mean() for distorted in images]


def test_the_four_of_the_paper_have_a_severity_scale():
    assert {name for name in DISTORTIONS.names() if has_severity_scale(name)} >= {
        "jpeg",
        "jp2k",
        "white_noise",
        "pink_noise",
    }


@every_level_set
def test_a_level_lies_at_its_rank_and_comes_back_as_it_was_given(preset, name):
    levels = PRESETS[preset][name]
    for rank, level in enumerate(levels, start=1):
        severity = rank / len(levels)
        assert parameters_at(name, levels, severity) == level
        assert severity_of(name, levels, level) == severity


@every_level_set
def test_the_amount_grows_with_severity_and_the_inverse_agrees(preset, name):
    levels = PRESETS[preset][name]
    scale = declared_scale(name)
    severities = np.linspace(0, 1, 41)
    all_parameters = [parameters_at(name, levels, float(severity)) for severity in severities]
    amounts = [scale.amount(level_parameters[scale.parameter]) for level_parameters in all_parameters]
    assert amounts[0] == 0
    assert amounts == sorted(amounts)
    for level_parameters in all_parameters:
        inverted = parameters_at(name, levels, severity_of(name, levels, level_parameters))
        amount, amount_again = (
            scale.amount(parameters[scale.parameter]) for parameters in (level_parameters, inverted)
        )
        assert amount_again == pytest.approx(amount, abs=2e-6)  # JPEG's qualities 0 and 1 are the same
    if name != "jpeg":  # integer qualities lie a little beside the requested severity
        back = [severity_of(name, levels, level_parameters) for level_parameters in all_parameters]
        np.testing.assert_allclose(back, severities, atol=1e-6)


@pytest.mark.parametrize("name", sorted(PRESETS["five_levels"]))
def test_images_get_worse_with_severity_and_are_nearly_pristine_at_0(name, image):
    levels = PRESETS["five_levels"][name]
    errors = errors_of(name, image, [parameters_at(name, levels, step / 10) for step in range(11)])
    assert errors == sorted(errors)
    assert len(set(errors)) == len(errors)
    assert errors[0] < 255**2 / 10**4.5  # 45 dB: a codec that discards nothing still rounds


def test_half_way_is_the_geometric_mean_of_codecs_and_the_arithmetic_mean_of_noises():
    assert parameters_at("jp2k", [{"ratio": 26}, {"ratio": 101}], 0.75) == {"ratio": 51}
    assert parameters_at("jp2k", [{"ratio": 26}, {"ratio": 101}], 0.25) == {"ratio": 13.5}  # from 0 on, linear
    assert parameters_at("pink_noise", [{"sigma_8bit": 4}, {"sigma_8bit": 16}], 0.75) == {"sigma_8bit": 10}
    assert parameters_at("jpeg", [{"quality": 50}, {"quality": 5}], 0.75) == {"quality": 16}  # 316 %


def test_every_quality_of_jpeg_comes_back_from_its_coarseness():
    assert [quality_of(coarseness(quality)) for quality in range(1, 101)] == list(range(1, 101))
    scales = [coarseness(quality) for quality in range(1, 101)]
    assert scales == sorted(scales, reverse=True)


def test_what_rises_and_falls_in_float_is_still_a_level():
    levels = PRESETS["five_levels"]["white_noise"]
    assert parameters_at("white_noise", levels, 0.1 + 0.2 + 0.3) == levels[2]  # 0.6000000000000001


NOISES = [{"sigma_8bit": 5}, {"sigma_8bit": 10}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parameters_at("white_noise", NOISES, 1.1), "from 0 to 1, got 1.1"),
        (lambda: parameters_at("white_noise", NOISES, float("nan")), "from 0 to 1, got nan"),
        (lambda: parameters_at("white_noise", NOISES[::-1], 0.3), "white_noise have to grow in sigma_8bit alone"),
        (lambda: parameters_at("white_noise", [{"sigma_8bit": 0}], 0.3), "have to grow"),
        (lambda: parameters_at("camera", [{}, {}], 0.3), "camera has no severity scale, so severity 0.3 "
         "is not possible; its levels lie at 0.5, 1"),
        (lambda: severity_of("camera", [{"iso": 1}], {"iso": 2}), "camera has no severity scale"),
        (lambda: severity_of("white_noise", NOISES, {"sigma_8bit": 11}), "ends with sigma_8bit 10"),
        (lambda: severity_of("white_noise", NOISES, {"sigma_8bit": 7, "tint": 1}), "is not on the severity scale of"),
    ],
)  # fmt: skip
def test_what_is_off_the_scale_is_refused_with_the_reason(call, message):
    with pytest.raises(PipelineError) as caught:
        call()
    assert message in str(caught.value)


def test_levels_without_a_severity_scale_remain():
    assert parameters_at("camera", [{"iso": 100}, {"iso": 800}], 0.5) == {"iso": 100}
    assert severity_of("camera", [{"iso": 100}, {"iso": 800}], {"iso": 800}) == 1
