"""What every distortion keeps, whichever it is, and what a new file in the folder does."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import distort_pipeline
from distort_pipeline import distortions
from distort_pipeline.distortions import DISTORTIONS, Distorted
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Registry, make_rng

SIZES = [(8, 8), (31, 50), (257, 129), (1024, 640), (16, 1024)]


def some_image(height=120, width=161):
    """An image with slopes, edges and grain, so that a codec has work to do."""
    rng = np.random.default_rng(7)
    coarse = cv2.resize(rng.integers(0, 256, (5, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    coarse[height // 3 : height // 2, width // 4 : width // 2] = (200, 40, 90)
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def some_parameters(name):
    for preset in ("paper_like", *PRESETS):
        if name in PRESETS[preset]:
            return PRESETS[preset][name][0]
    pytest.fail(f"no preset has {name}: give it a level in presets.py")


def applied(name, image, seed=0):
    return distortions.apply(name, image, some_parameters(name), make_rng(seed))


every_distortion = pytest.mark.parametrize("name", DISTORTIONS.names())


def test_the_four_of_the_paper_are_there():
    assert {"jpeg", "jp2k", "white_noise", "pink_noise"} <= set(DISTORTIONS.names())


@every_distortion
@pytest.mark.parametrize("size", SIZES)
def test_shape_and_type_stay(name, size):
    image = some_image(*size)
    distorted = applied(name, image)
    assert isinstance(distorted, Distorted)
    assert distorted.image.shape == image.shape
    assert distorted.image.dtype == np.uint8


@every_distortion
def test_the_pristine_image_is_left_alone_and_the_distorted_one_differs(name):
    image = some_image()
    before = image.copy()
    distorted = applied(name, image)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(image, distorted.image)
    assert (distorted.image != before).mean() > 0.2


@every_distortion
def test_a_cut_out_of_a_larger_array_gives_what_its_copy_gives(name):
    window = some_image(200, 200)[10:90, 20:131]
    np.testing.assert_array_equal(applied(name, window).image, applied(name, window.copy()).image)


@every_distortion
def test_a_seed_repeats_and_another_one_does_not_if_the_distortion_is_random(name):
    image = some_image()
    first, repeated, other = (applied(name, image, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, repeated.image)
    assert first.facts == repeated.facts
    assert np.array_equal(first.image, other.image) == (not distortions.is_random(name))


@every_distortion
def test_a_parameter_nobody_knows_or_nobody_gave_is_named(name):
    good = some_parameters(name)
    parameter = next(iter(good))
    with pytest.raises(PipelineError, match=rf"{name} has no parameter '{parameter}x'; did you mean {parameter}\?"):
        distortions.apply(name, some_image(), {**good, f"{parameter}x": 1}, make_rng(0))
    with pytest.raises(PipelineError, match="no parameter 'rng'"):
        distortions.apply(name, some_image(), {**good, "rng": 1}, make_rng(0))
    with pytest.raises(PipelineError, match=f"{name} needs its parameter '{parameter}'"):
        distortions.apply(name, some_image(), {}, make_rng(0))


@every_distortion
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_value_out_of_range_is_refused_by_name(name, value):
    good = some_parameters(name)
    for parameter in good:
        with pytest.raises(PipelineError, match=f"{name}: {parameter} must be"):
            distortions.apply(name, some_image(), {**good, parameter: value}, make_rng(0))


@every_distortion
def test_parameters_are_passed_by_keyword_only(name):
    _, *rest = inspect.signature(DISTORTIONS.get(name)).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in rest)


@every_distortion
def test_facts_are_plain_values(name):
    assert all(type(fact) in (int, float, bool, str) for fact in applied(name, some_image()).facts.values())


def test_an_unknown_distortion_is_answered_with_the_nearest():
    with pytest.raises(PipelineError, match="did you mean white_noise"):
        distortions.apply("wite_noise", some_image(), {}, make_rng(0))


def test_versions_are_those_of_the_named_distortions_only():
    everything = distortions.codec_versions(["jpeg", "jp2k", "white_noise", "pink_noise"])
    assert list(everything) == ["glymur", "libjpeg", "numpy", "opencv", "openjpeg", "scipy"]
    assert everything["opencv"] == cv2.__version__
    assert all(any(sign.isdigit() for sign in version) for version in everything.values())
    assert list(distortions.codec_versions(["jpeg"])) == ["libjpeg", "opencv"]
    assert list(distortions.codec_versions(["white_noise"])) == ["numpy"]


def run_with_a_new_file(tmp_path, source):
    (tmp_path / "newcomer.py").write_text(source)
    script = (
        "import sys, numpy as np; from distort_pipeline import distortions\n"
        "distortions.__path__.append(sys.argv[1])\n"
        "image = np.full((4, 5, 3), 7, np.uint8)\n"
        "print(distortions.apply('newcomer', image, {'top': 255}, np.random.default_rng(0)).image[0, 0, 0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(distort_pipeline.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_file_is_a_new_distortion(tmp_path):
    completed = run_with_a_new_file(
        tmp_path,
        "from distort_pipeline.distortions import DISTORTIONS\n"
        "@DISTORTIONS.add('newcomer')\n"
        "def negative(image, *, top):\n    return (top - image).astype(image.dtype)\n",
    )
    assert (completed.stdout.strip(), completed.returncode) == ("248", 0), completed.stderr


def test_a_new_file_that_changes_the_shape_is_an_error(tmp_path):
    completed = run_with_a_new_file(
        tmp_path,
        "from distort_pipeline.distortions import DISTORTIONS\n"
        "@DISTORTIONS.add('newcomer')\n"
        "def cropped(image, *, top):\n    return image[::2]\n",
    )
    assert "newcomer turned (4, 5, 3) uint8 into (2, 5, 3) uint8" in completed.stderr


def test_a_file_that_fails_to_import_stops_the_run_every_time(tmp_path, monkeypatch):
    package = tmp_path / "folder_of_distortions"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from distort_pipeline.records import Registry\nTHINGS = Registry('thing', __name__, group='things')\n"
    )
    (package / "fine.py").write_text(
        "from folder_of_distortions import THINGS\n\n@THINGS.add('fine')\ndef fine(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[object] = __import__("folder_of_distortions").THINGS
    try:
        assert registry.names() == ("fine",)
        (package / "unfit.py").write_text("import a_module_that_nobody_has\n")
        for name in [name for name in sys.modules if name.startswith("folder_of_distortions")]:
            del sys.modules[name]
        registry = __import__("folder_of_distortions").THINGS
        with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
            registry.names()
        with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
            registry.get("fine")
    finally:
        for name in [name for name in sys.modules if name.startswith("folder_of_distortions")]:
            del sys.modules[name]
