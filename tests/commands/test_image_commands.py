"""distort, list and score, completion of names, and JSON for programs."""

import json
import re
import shutil

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from distort_pipeline import distort as truly_distorted
from distort_pipeline import load_generator
from distort_pipeline.cli import main
from distort_pipeline.commands.inputs import pretrained
from distort_pipeline.data.images import decode, encode_png, image_digest
from distort_pipeline.records import derive_seed


def run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def read(path):
    return decode(path.read_bytes())[0]


@pytest.fixture
def photos(tmp_path, sample_images, monkeypatch):
    """A folder of two photographs, one in a folder, and a broken file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    for name, path in (("wren", "wren.png"), ("maple", "inner/maple.png")):
        (tmp_path / "photos" / path).write_bytes(encode_png(sample_images[name][:130, :140]))
    (tmp_path / "photos" / "broken.png").write_bytes(b"none")
    return tmp_path / "photos"


def test_a_folder_is_distorted_under_the_same_names_and_a_broken_file_is_named(photos, tmp_path):
    said = run("distort", photos, tmp_path / "out", "--with", "white_noise", "--severity", 0.5, "--seed", 3).output
    assert "broken.png left out" in said
    assert "2 images: " in said
    pristine = read(photos / "inner" / "maple.png")
    seed = derive_seed(3, image_digest(pristine))
    np.testing.assert_array_equal(
        read(tmp_path / "out" / "inner" / "maple.png"), load_generator("white_noise")(pristine, 0.5, seed)
    )
    again = run("distort", photos, tmp_path / "out", "--with", "white_noise", code=2)
    assert "maple.png exists" in again.stderr


def test_one_image_and_the_true_distortion(photos, tmp_path):
    run("distort", photos / "wren.png", tmp_path / "one.png", "--with", "jpeg", "--set", "quality=12")
    pristine = read(photos / "wren.png")
    np.testing.assert_array_equal(read(tmp_path / "one.png"), truly_distorted("jpeg", pristine, quality=12))
    both = run("distort", photos, "x", "--with", "jpeg", "--set", "quality=12", "--severity", 1, code=2)
    assert "--severity is of generators, --set of true distortions" in both.stderr
    several = run("distort", photos, "x.png", "--with", "jpeg", code=2)
    assert "3 images cannot be written to the one file" in several.stderr


def test_folders_are_scored_by_their_statistics(photos, tmp_path):
    run("distort", photos, tmp_path / "out", "--with", "jpeg", "--severity", 0.7)
    scores = json.loads(run("score", photos, tmp_path / "out", "--json").stdout)
    assert scores["images"] == [2, 2]
    assert scores["jsd_nss"] == scores["features"]["d1_1"] > 0.05
    assert len(scores["features"]) == 12
    assert "JSD_NSS 0.00000 bits between 2 images" in run("score", photos, photos).output


def test_distortions_and_generators_are_listed_side_by_side(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copytree(pretrained("jpeg"), tmp_path / "models" / "camera")
    said = run("list").output
    assert "camera: severity 0.2552 quality 50" in said
    assert "better than the pristine image: JSD_NSS" in said
    values = json.loads(run("list", "--json").stdout)
    assert sorted(values["generators"]) == ["camera", "jp2k", "jpeg", "pink_noise", "white_noise"]
    assert values["distortions"]["jp2k"]["parameters"] == ["ratio"]


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["generate", "--distortions"], "jpeg,j", ["jpeg,jp2k"]),
        (["generate", "--composite"], "jpeg+w", ["jpeg+white_noise"]),
        (["generate", "--on-fail"], "", ["flag", "stop"]),
        (["distort", "a", "b", "--with"], "pi", ["pink_noise"]),
        (["pairs", "--preset"], "k", ["kadid"]),
        (["export", "--format"], "pyiqa", ["pyiqa_fr", "pyiqa_nr"]),
        (["model", "export"], "w", ["white_noise"]),
    ],
)
def test_the_shell_completes_values(words, incomplete, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    completed = ShellComplete(main, {}, "distort-pipeline", "_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in completed] == expected


def test_a_dry_run_says_samples_and_size_and_writes_nothing(small_manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run("generate", small_manifest, "--tile-px", 128, "--count", 40, "--dry-run").output
    assert "40 samples in 20 batches, of 2 tiles" in said  # the four generators at five levels
    assert re.search(r"about 2\d MB and \d+ s; nothing was written", said)
    few = run("generate", small_manifest, "--tile-px", 128, "--count", 7, "--dry-run").output
    assert "7 samples in 4 batches" in few  # fewer than 20: at their default levels alone
    none = run("generate", small_manifest, "--tile-px", 128, "--count", 3, "--dry-run", code=2)
    assert "--count 3 is less than the 4 conditions" in none.stderr
    assert list(tmp_path.iterdir()) == []


def test_verify_and_doctor_print_json(tmp_path):
    folder = shutil.copytree(pretrained("jpeg"), tmp_path / "jpeg")
    (whole,) = json.loads(run("verify", folder, "--json").stdout)
    assert (whole["kind"], whole["problems"]) == ("model", [])
    (folder / "README.md").write_text("another")
    (broken,) = json.loads(run("verify", folder, "--json", code=1).stdout)
    assert "README.md" in broken["problems"][0]
    assert {"subject": "Python", "fine": True}.items() <= json.loads(run("doctor", "--json").stdout)[0].items()
