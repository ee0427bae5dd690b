"""The published levels, and the messages about unknown levels."""

import cv2
import numpy as np
import pytest

from distort_pipeline import distortions
from distort_pipeline.distortions.presets import PRESETS, default_index, parameters
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import make_rng

# Written out a second time, in the units of the sources: quality; bits per pixel or ratio; variance on [0, 1]
TABLE = [
    ("waterloo", "jpeg", "quality", [43, 12, 7, 4, 0]),
    ("waterloo", "jp2k", "ratio", [52.1739, 150, 342.857, 600, 1200]),
    ("waterloo", "white_noise", "sigma_8bit", [7.96875, 18.9531, 37.9061, 75.8122, 255]),
    ("kadid", "jpeg", "quality", [43, 36, 24, 7, 4]),
    ("kadid", "jp2k", "ratio", [16, 32, 45, 120, 400]),
    ("kadid", "white_noise", "sigma_8bit", [8.06381, 11.4039, 13.9669, 18.0312, 25.5]),
    ("dbcnn", "jpeg", "quality", [43, 12, 7, 4, 0]),
    ("dbcnn", "jp2k", "ratio", [52.1739, 150, 342.857, 600, 1200]),
    ("dbcnn", "white_noise", "sigma_8bit", [7.96875, 18.9531, 37.9061, 75.8122, 255]),
    ("dbcnn", "pink_noise", "sigma_8bit", [16, 37, 64, 107, 214]),
    ("paper_like", "jpeg", "quality", [12]),
    ("paper_like", "jp2k", "ratio", [150]),
    ("paper_like", "white_noise", "sigma_8bit", [19]),
    ("paper_like", "pink_noise", "sigma_8bit", [25]),
    ("five_levels", "jpeg", "quality", [50, 24, 12, 7, 4]),
    ("five_levels", "jp2k", "ratio", [30, 70, 150, 300, 600]),
    ("five_levels", "white_noise", "sigma_8bit", [5, 10, 19, 36, 64]),
    ("five_levels", "pink_noise", "sigma_8bit", [8, 14, 25, 45, 80]),
]


@pytest.mark.parametrize(("preset", "distortion", "parameter", "values"), TABLE)
def test_levels_are_those_of_the_source(preset, distortion, parameter, values):
    levels = [parameters(preset, distortion, level) for level in range(1, len(values) + 1)]
    assert [list(level) for level in levels] == [[parameter]] * len(values)
    assert [level[parameter] for level in levels] == pytest.approx(values, rel=1e-5)


def test_there_are_no_others():
    counts = {
        (preset, name): len(levels) for preset, distortions in PRESETS.items() for name, levels in distortions.items()
    }
    assert counts == {(preset, name): len(values) for preset, name, _, values in TABLE}


def test_every_level_can_be_applied_and_is_more_severe_than_the_one_before():
    rng = np.random.default_rng(0)
    shapes = cv2.resize(rng.integers(40, 216, (24, 20, 3), np.uint8), (240, 288), interpolation=cv2.INTER_CUBIC)
    image = (shapes + rng.normal(0, 4, shapes.shape)).clip(0, 255).astype(np.uint8)
    for preset, name, _, values in TABLE:
        errors = []
        for level in range(1, len(values) + 1):
            distorted = distortions.apply(name, image, parameters(preset, name, level), make_rng(1)).image
            errors.append(np.square(distorted.astype(float) - image).mean())
        assert errors == sorted(errors), (preset, name)


def test_the_third_of_five_levels_is_paper_like():
    for name, (only,) in PRESETS["paper_like"].items():
        assert parameters("five_levels", name, 3) == only


def test_the_default_level_is_paper_like_or_else_the_middle():
    for name, levels in PRESETS["five_levels"].items():
        assert default_index(name, levels) == 2
        assert default_index(name, levels[1:]) == 1  # found by its values, not by its index
        assert default_index(name, levels[3:]) == 0
    assert default_index("camera", [{"iso": 100}, {"iso": 400}, {"iso": 1600}]) == 1


def test_what_is_returned_may_be_changed_without_changing_the_preset():
    parameters("kadid", "jpeg", 1)["quality"] = 99
    assert parameters("kadid", "jpeg", 1) == {"quality": 43}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (("kadit", "jpeg", 1), "no preset is called 'kadit'; did you mean kadid?"),
        (("kadid", "pink_noise", 1), "kadid has no levels of 'pink_noise'; presets that have it: dbcnn, paper_like"),
        (("kadid", "jpg", 1), "kadid has no levels of 'jpg'; did you mean jpeg?"),
        (("kadid", "jpeg", 6), "kadid has jpeg at level 1 to 5, got 6"),
        (("kadid", "jpeg", 0), "kadid has jpeg at level 1 to 5, got 0"),
        (("paper_like", "jpeg", 2), "paper_like has jpeg at level 1 only, got 2"),
    ],
)
def test_unknown_levels_are_answered_with_the_known_ones(request_, message):
    with pytest.raises(PipelineError) as caught:
        parameters(*request_)
    assert message in str(caught.value)
