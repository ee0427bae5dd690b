"""JPEG 2000: sizes, flags, no files left behind, and the search for the library."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import distort_pipeline
from distort_pipeline.distortions import jp2k as codec
from distort_pipeline.distortions.jp2k import jp2k
from distort_pipeline.errors import PipelineError

RATIOS = [16, 24 / 0.46, 150, 24 / 0.07, 600, 1200]


@pytest.fixture(scope="module")
def image():
    """Busy at every scale, as photographs are."""
    rng = np.random.default_rng(11)
    layers = [
        cv2.resize(rng.normal(0, 3 * 2**power, (704 >> power, 960 >> power, 3)), (960, 704)) for power in range(6)
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_file_has_the_requested_size(image, ratio):
    facts = jp2k(image, ratio=ratio).facts
    target = image.size / ratio
    assert abs(facts["bytes"] - target) <= max(0.03 * target, 150)
    assert facts["reached"] is True


def test_a_full_temporary_folder_is_named_with_the_remedy(image, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(codec.load_glymur(), "Jp2k", full)
    with pytest.raises(OSError, match="No space left"):  # there is room: this is another fault
        jp2k(image, ratio=16)
    monkeypatch.setattr(codec.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(PipelineError, match=r"has no room for a JPEG 2000 file of 126720 bytes; .*TMPDIR"):
        jp2k(image, ratio=16)


def test_error_grows_with_the_ratio(image):
    errors = [np.square(jp2k(image, ratio=ratio).image.astype(float) - image).mean() for ratio in (16, 150, 1200)]
    assert errors == sorted(errors)
    assert len(set(errors)) == 3


@pytest.mark.parametrize(
    ("content", "ratio"),
    [
        ("plain", 16),  # nothing to spend the bytes on
        ("small", 1200),  # the headers alone are larger
    ],
)
def test_a_ratio_out_of_reach_is_flagged(image, content, ratio):
    shown = np.full((512, 512, 3), 90, np.uint8) if content == "plain" else image[:64, :64]
    facts = jp2k(shown, ratio=ratio).facts
    assert facts["reached"] is False
    assert facts["bytes"] > 0


def test_colours_keep_their_order():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    assert np.abs(jp2k(red, ratio=16).image.astype(int) - red).max() <= 3


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (31, 32), (33, 17)])
def test_sides_under_32_px_work(image, size):
    shown = image[: size[0], : size[1]]
    assert np.abs(jp2k(shown, ratio=1).image.astype(int) - shown).max() <= 3


def test_the_stream_is_one_irreversible_layer_with_colour_transform(image, monkeypatch):
    glymur = codec.load_glymur()
    seen = {}

    def look(written, _index):
        cod = next(segment for segment in written.get_codestream().segment if segment.marker_id == "COD")
        seen.update(layers=cod.layers, colour=cod.mct, wavelet=cod.xform, suffix=written.path.suffix)
        return image

    monkeypatch.setattr(glymur.Jp2k, "__getitem__", look)
    jp2k(image, ratio=150)
    assert seen == {"layers": 1, "colour": 1, "wavelet": 0, "suffix": ".jp2"}  # T.800 table A.20: 0 is the 9-7


def test_a_ratio_below_one_is_refused(image):
    with pytest.raises(PipelineError, match=r"ratio must be 1 or more, got 0\.5"):
        jp2k(image, ratio=0.5)


def test_no_file_stays_behind(image, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "temp_root", lambda _size: tmp_path)
    seen = []

    def fail(_self, _index):
        seen.extend(path.name for path in tmp_path.rglob("*.jp2"))
        raise OSError("the codec gave up")

    jp2k(image[:64, :64], ratio=16)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(codec.load_glymur().Jp2k, "__getitem__", fail)
    with pytest.raises(OSError, match="the codec gave up"):
        jp2k(image[:64, :64], ratio=16)
    assert seen == ["image.jp2"]  # it was there when the codec failed
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_go_where_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "MEMORY_FOLDER", tmp_path / "none")
    elsewhere = codec.temp_root(1)
    assert elsewhere.is_dir()
    monkeypatch.setattr(codec, "MEMORY_FOLDER", tmp_path)
    assert codec.temp_root(1) == tmp_path
    assert codec.temp_root(1 << 60) == elsewhere


SCRIPT = """
import ctypes.util, json, os, sys
os.environ.pop("XDG_CONFIG_HOME", None)
mode = sys.argv[1]
if mode == "system library":
    ctypes.util.find_library = lambda name: os.path.abspath("libopenjp2.so")
elif mode != "as it is":
    ctypes.util.find_library = lambda name: None  # a machine without OpenJPEG
if mode == "imported before":
    import glymur
    assert glymur.version.openjpeg_version == "0.0.0"
import cv2  # changes LD_LIBRARY_PATH, which is not our doing
import numpy as np
from distort_pipeline.distortions import apply, jp2k as codec
from distort_pipeline.errors import PipelineError
if mode == "none at all":
    codec.bundled_library = lambda: None
before = dict(os.environ)
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
try:
    distorted = apply("jp2k", image, {"ratio": 16}, np.random.default_rng(0))
    result = [*codec.openjpeg_status(), distorted.facts["reached"]]
except PipelineError as error:
    result = str(error)
assert dict(os.environ) == before
print(json.dumps(result))
"""


def output_of_a_new_process(mode, folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(distort_pipeline.__file__).parents[1]), "HOME": str(folder)}
    completed = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT, mode],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    return json.loads(completed.stdout)  # nothing else was printed


def test_a_new_process_finds_a_library(tmp_path):
    version, origin, reached = output_of_a_new_process("as it is", tmp_path)
    assert tuple(map(int, version.split("."))) >= codec.OLDEST_OPENJPEG
    assert origin
    assert reached


@pytest.mark.skipif(codec.bundled_library() is None, reason="this Pillow has no OpenJPEG")
@pytest.mark.parametrize("mode", ["no system library", "imported before", "system library"])
def test_pillows_library_serves_whatever_the_system_has(mode, tmp_path):
    shutil.copy(codec.bundled_library(), tmp_path / "libopenjp2.so")
    _, origin, reached = output_of_a_new_process(mode, tmp_path)
    assert origin == str(codec.bundled_library())
    assert reached


def test_without_any_library_it_says_what_to_install(tmp_path):
    message = output_of_a_new_process("none at all", tmp_path)
    assert "JPEG 2000 needs OpenJPEG 2.4 or newer" in message
    assert "pip install pillow" in message


def round_trip_in_a_worker(image):
    return jp2k(image, ratio=16).image


def test_a_spawned_worker_gives_the_same_pixels(image):
    shown = image[:96, :80]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        in_worker = pool.submit(round_trip_in_a_worker, shown).result()
    np.testing.assert_array_equal(in_worker, jp2k(shown, ratio=16).image)
