"""The unknown distortions: makers that repeat, photographs that stay apart, and a judge that knows near from far."""

from collections import Counter
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.features
import pytest

from benchmarks.unknown import page
from benchmarks.unknown.__main__ import Command, commands, run_once
from benchmarks.unknown.c2st import grouped_folds, logistic_c2st
from benchmarks.unknown.distortions import UNKNOWN, film_grain
from benchmarks.unknown.judge import Images, judge, negative_control, read_generated
from benchmarks.unknown.make import make, positive_control, true_file
from benchmarks.unknown.photos import JUDGE, LEARN, Photo, centre, choose, read_list, split_photos, write_list
from benchmarks.unknown.pixels import blur, decode, jpeg, to_levels, to_linear, to_uint8

VIDEO = {"h264", "hevc", "mpeg2"}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            (name in VIDEO and not find_spec("av")) or (name == "avif" and not PIL.features.check("avif")),
            reason="needs the extra unknown",
        ),
    )
    for name in UNKNOWN
]


def textured(seed: int, height: int = 192, width: int = 224) -> np.ndarray:
    """An image of soft shapes, edges and fine texture."""
    rng = np.random.default_rng(seed)
    soft = 60 * blur(rng.standard_normal((height, width, 3)), 12.0) * 12
    edges = 40 * (blur(rng.standard_normal((height, width, 1)), 5.0) > 0)
    return to_uint8(110 + soft + edges + 9 * blur(rng.standard_normal((height, width, 3)), 0.8))


@pytest.mark.parametrize("name", NAMES)
def test_a_maker_repeats_itself_and_draws_anew_only_where_something_is_random(name):
    unknown, image = UNKNOWN[name], textured(1)
    first, repeated, redraw = (true_file(unknown, image, "digest", draw=draw) for draw in (0, 0, 1))
    assert first == repeated
    assert (first != redraw) is unknown.has_redraw
    distorted = decode(first)
    assert distorted.shape == image.shape
    assert 0.3 < np.abs(distorted.astype(float) - image).mean() < 60


@pytest.mark.parametrize("name", ["camera", "rescaled"])
def test_another_photograph_has_another_draw(name):
    image = textured(1)
    assert true_file(UNKNOWN[name], image, "one") != true_file(UNKNOWN[name], image, "other")


def test_what_is_not_a_camera_is_a_png_that_says_nothing():
    assert [name for name, unknown in UNKNOWN.items() if unknown.suffix == ".jpg"] == ["camera", "camera_iso"]
    for name in ("rescaled", "webp"):
        data = true_file(UNKNOWN[name], textured(2), "digest")
        chunks, at = [], 8
        while at < len(data):
            chunks.append(data[at + 4 : at + 8])
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_banding_leaves_twelve_values():
    assert len(np.unique(decode(true_file(UNKNOWN["banding"], textured(3), "digest")))) <= 12


def test_the_camera_keeps_the_image_in_its_place():
    """A mosaic read in the wrong order would shift the image or swap its colours."""
    image = to_uint8(blur(textured(4), 2.0))
    shot = decode(true_file(UNKNOWN["camera"], image, "digest")).astype(float)
    error = [np.square(np.roll(shot, shift, axis=1)[8:-8, 8:-8] - image[8:-8, 8:-8]).mean() for shift in (-1, 0, 1)]
    assert error[1] < min(error[0], error[2])
    assert np.abs((shot - image).mean(axis=(0, 1))).max() < 3


def test_light_and_levels_are_inverse():
    levels = np.arange(256, dtype=np.uint8)
    assert np.abs(to_levels(to_linear(levels)) - levels).max() < 1e-3


def test_the_listed_photographs_are_48_and_24_of_other_sources():
    listed = read_list()
    assert Counter(photo.part for photo in listed) == {"learn": LEARN, "judge": JUDGE}
    assert len({photo.digest for photo in listed}) == len({photo.stem for photo in listed}) == LEARN + JUDGE
    assert not {p.source for p in listed if p.part == "learn"} & {p.source for p in listed if p.part == "judge"}


def test_any_folder_is_shared_out_by_source(tmp_path):
    photos = [Photo(f"{number:02d}", "learn", f"source {number % 7}", f"{number}.png") for number in range(40)]
    split = split_photos(photos, learn=20, judge=8)
    assert Counter(photo.part for photo in split) == {"learn": 20, "judge": 8}
    assert not {p.source for p in split if p.part == "learn"} & {p.source for p in split if p.part == "judge"}
    assert split == split_photos(photos[::-1], learn=20, judge=8)
    with pytest.raises(ValueError, match="name a folder with more"):
        split_photos(photos, learn=38, judge=8)
    write_list(split, tmp_path / "photos.csv")
    assert read_list(tmp_path / "photos.csv") == split
    with pytest.raises(ValueError, match="there are 0 and 0"):
        choose(tmp_path)


def test_large_photographs_are_cut_about_their_middle_to_even_sides():
    image = np.zeros((901, 1501, 3), np.uint8)
    image[450, 750] = 255
    cut = centre(image)
    assert cut.shape == (768, 1024, 3)
    assert cut[384, 512].all()
    assert centre(image[:601, :555]).shape == (600, 554, 3)


def test_pairs_lie_where_the_product_and_the_judge_look(tmp_path):
    photos = [(Photo("a" * 64, "learn", "one", "a"), textured(5)), (Photo("b" * 64, "judge", "two", "b"), textured(6))]
    make(UNKNOWN["film_grain"], photos, tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    kinds = ["judge/distorted", "judge/pristine", "judge/redraw", "judge/weaker", "learn/distorted", "learn/pristine"]
    assert files == [f"{kind}/{('a' if kind.startswith('learn') else 'b') * 12}.png" for kind in kinds]
    pristine, true, weakened = (decode((tmp_path / f"judge/{kind}" / f"{'b' * 12}.png").read_bytes())
                               for kind in ("pristine", "distorted", "weaker"))  # fmt: skip
    assert np.array_equal(weakened, positive_control(pristine, true))
    before = (tmp_path / files[0]).stat().st_mtime_ns
    make(UNKNOWN["film_grain"], photos, tmp_path)
    assert (tmp_path / files[0]).stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def images():
    pristine = [textured(seed, 288, 384) for seed in range(6)]
    true, redraw = (
        [jpeg(film_grain(image, np.random.default_rng([draw, at])), 85) for at, image in enumerate(pristine)]
        for draw in (0, 1)
    )
    return Images(pristine, true, [positive_control(*pair) for pair in zip(pristine, true, strict=True)], redraw)


def test_identity_is_far_another_draw_is_near_and_the_control_is_noticed(images):
    identity, redraw, positive_control = (
        judge(images, kind, network=False) for kind in (images.pristine, images.redraw, images.positive_control)
    )
    distance = [figures["jsd"]["d1_1"]["mean"] for figures in (identity, positive_control, redraw)]
    assert distance == sorted(distance, reverse=True)
    assert distance[0] > 20 * distance[2]
    accuracy = [figures["c2st"]["logistic"]["accuracy"] for figures in (identity, positive_control, redraw)]
    assert accuracy[0] > 0.95
    assert accuracy[1] > 0.8
    assert 0.3 < accuracy[2] < 0.62
    assert positive_control["severity"]["psnr_db"]["delta"]["mean"] == pytest.approx(20 * np.log10(1 / 0.8), abs=0.1)
    assert abs(redraw["severity"]["psnr_db"]["delta"]["mean"]) < 0.1
    assert identity["severity"]["psnr_db"] is None
    assert identity["use"]["tstr_srcc"] is None
    assert redraw["use"]["ssim_srcc"] > 0.75
    assert abs(redraw["use"]["tstr_srcc"] - redraw["use"]["trtr_srcc"]) < 0.2


def test_permuted_labels_are_chance(images):
    assert 0.3 < negative_control(images, network=False)["c2st"]["logistic"]["accuracy"] < 0.65


def test_a_classifier_is_judged_on_photographs_that_it_was_not_fitted_on():
    folds = list(grouped_folds(10, 4, np.random.default_rng(0)))
    assert sorted(index for _, held_out in folds for index in held_out) == list(range(10))
    assert all(not set(fitted) & set(held_out) and len(fitted) + len(held_out) == 10 for fitted, held_out in folds)
    rng = np.random.default_rng(1)
    content = [rng.standard_normal((1, 30)) * 5 for _ in range(8)]  # of the photograph: no classifier may use it
    alike, shifted = (
        [clean + rng.standard_normal((40, 30)) + np.eye(30)[0] * by for clean in content] for by in (0.0, 8.0)
    )
    others = [clean + rng.standard_normal((40, 30)) for clean in content]
    assert 0.4 < logistic_c2st(alike, others, seed=1).accuracy < 0.6
    result = logistic_c2st(shifted, others, seed=1)
    assert result.accuracy > 0.6
    assert result.cross_entropy_bits < logistic_c2st(alike, others, seed=1).cross_entropy_bits
    assert set(asdict(result)) == {"accuracy", "low", "high", "cross_entropy_bits"}


def test_generated_images_are_found_by_stem_and_a_missing_one_is_named(tmp_path):
    from benchmarks.unknown.make import png_bytes

    (tmp_path / "abc-1f.png").write_bytes(png_bytes(textured(7)))
    assert np.array_equal(read_generated(tmp_path, ["abc"])[0], textured(7))
    with pytest.raises(SystemExit, match="has def in its name"):
        read_generated(tmp_path, ["abc", "def"])


def test_a_command_runs_once_and_again_when_one_before_it_has_changed(tmp_path, monkeypatch):
    ran = []

    def run(arguments, cwd, check):
        assert check
        assert not (cwd / "model").exists()
        (cwd / "model").mkdir()
        ran.append(arguments[3:])

    monkeypatch.setattr("benchmarks.unknown.__main__.subprocess.run", run)
    train = Command(("train", "pairs"), "model")
    for before in ([("pairs", "a")], [("pairs", "a")], [("pairs", "b")]):
        assert run_once(tmp_path, train, before) >= 0
    assert ran == [["train", "pairs"]] * 2


def test_judging_photographs_are_only_generated_from():
    for command in commands("webp"):
        assert any("judge" in argument for argument in command.words) is (command.words[0] == "generate")


def c2st_figures(accuracy: float, low: float = 0.55) -> dict:
    return {"c2st": {"logistic": {"accuracy": accuracy, "low": low}, "network": {"accuracy": 0.5, "low": 0.4}}}


@pytest.mark.parametrize(
    ("generated", "positive_control", "verdict"),
    [
        (c2st_figures(0.58), c2st_figures(0.7), "passed"),
        (c2st_figures(0.62), c2st_figures(0.7), "failed"),
        (c2st_figures(0.50), c2st_figures(0.58), "cannot be judged"),
        (c2st_figures(0.50), c2st_figures(0.7, low=0.49), "cannot be judged"),
        (None, c2st_figures(0.7), "not learned yet"),
    ],
)
def test_only_what_a_noticing_classifier_does_not_notice_has_passed(generated, positive_control, verdict):
    figures = {"weaker": positive_control} | ({"generated": generated} if generated else {})
    assert page.verdict(figures) == verdict


def test_the_page_is_that_of_the_result_files(tmp_path):
    page.write(page.RESULTS, tmp_path / "UNKNOWN.md")
    assert (tmp_path / "UNKNOWN.md").read_text(encoding="utf-8") == page.PAGE.read_text(encoding="utf-8")


def test_no_result_names_a_machine_or_a_path():
    for path in [*page.RESULTS.glob("*.json"), Path(page.PAGE)]:
        assert "/work" not in path.read_text(encoding="utf-8")
