"""pairs --align: pristine images moved, turned and bent onto their partners."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from external_folders import external_only, write

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.registration import register
from distort_pipeline.metrics.warp import Shift
from distort_pipeline.steps import pairs as step


def aligned_store(images, small_manifest, small_settings, tmp_path):
    """Return the pair store of `images`, made with align, and the lines of its summary."""
    config = dataclasses.replace(external_only(small_settings, write(tmp_path / "moved", images)), align=True)
    lines = step.run(config, small_manifest, tmp_path / "pairs").lines
    return open_pairs(tmp_path / "pairs"), lines


def test_align_makes_pairs_moved_by_whole_pixels_identical(sample_images, small_manifest, small_settings, tmp_path):
    rolled = {name: np.roll(image, (2, -3), (0, 1)) for name, image in sample_images.items()}
    store, lines = aligned_store(rolled, small_manifest, small_settings, tmp_path)
    assert "scan: 5 pristine images moved onto their partners" in lines
    for index, record in enumerate(store.records()):
        inside = (slice(record.y, record.y + record.height), slice(record.x, record.x + record.width))
        assert (record.y % 16, record.x % 16) == (0, 0)  # on the grid of the partner's codec
        assert np.array_equal(store[index].distorted, rolled[record.image.removesuffix("-1")][inside])
        assert np.array_equal(store[index].pristine, store[index].distorted)
        facts = json.loads(record.facts)
        assert (facts["moved_y_px"], facts["moved_x_px"]) == (2, -3)
        assert (facts["shift_y_px"], facts["shift_x_px"]) == pytest.approx((2, -3), abs=0.1)
    for record, pristine, distorted in store.validation("scan"):
        height, width = sample_images[record.image.removesuffix("-1")].shape[:2]
        assert (record.y, record.x) == (16, 0)
        assert pristine.shape == (record.height, record.width, 3) == (height - 16, width - 3, 3)
        assert np.array_equal(pristine, distorted)


def test_align_leaves_less_than_a_tenth_of_a_pixel(sample_images, small_manifest, small_settings, tmp_path):
    images = {name: Shift(0.4, -0.4).apply(image) for name, image in sample_images.items()}
    store, lines = aligned_store(images, small_manifest, small_settings, tmp_path)
    assert "scan: 5 pristine images moved onto their partners" in lines
    for _, pristine, distorted in store.validation("scan"):
        left = register(pristine, distorted)
        assert max(abs(left.dy), abs(left.dx)) < 0.1


def test_align_turns_images_onto_partners_that_are_turned(sample_images, make_manifest, small_settings, tmp_path):
    images = {name: cv2.resize(image, None, fx=2, fy=2) for name, image in list(sample_images.items())[:2]}
    splits = dict(zip(images, ("train", "val"), strict=True))
    manifest = make_manifest(tmp_path / "in", {name: (image, splits[name]) for name, image in images.items()})
    turned = {}
    for name, image in images.items():
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0.7, 1)
        turned[name] = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    folder = write(tmp_path / "turned", turned)
    lines = step.run(external_only(small_settings, folder), manifest, tmp_path / "others").lines
    assert any("2 turned, scaled or bent by up to" in line and "--align" in line for line in lines)
    store, lines = aligned_store(turned, manifest, small_settings, tmp_path)
    assert any(
        line.startswith("scan: 2 pristine images moved onto their partners, 2 turned, scaled or bent") for line in lines
    )
    for record, pristine, distorted in store.validation("scan"):
        assert (record.y % 16, record.x % 16) == (0, 0)
        whole = turned[record.image.removesuffix("-1")]
        inside = (slice(record.y, record.y + record.height), slice(record.x, record.x + record.width))
        assert np.array_equal(distorted, whole[inside])
        assert (
            np.abs(pristine.astype(float) - distorted).mean()
            < 0.25 * np.abs(images[record.image.removesuffix("-1")].astype(float) - whole).mean()
        )


def test_align_leaves_pairs_without_a_shift(sample_images, small_manifest, small_settings, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, sample_images["wren"].shape, np.uint8)
    images = {name: image // 2 + 100 for name, image in sample_images.items()} | {"wren": noise}
    store, lines = aligned_store(images, small_manifest, small_settings, tmp_path)
    assert (
        "scan: 0 pristine images moved onto their partners; 1 pairs stay as they are, because their shift is not "
        "reliable"
    ) in lines
    config = external_only(small_settings, tmp_path / "moved")
    step.run(config, small_manifest, tmp_path / "as they are")
    as_they_are = open_pairs(tmp_path / "as they are")
    assert [entry["arrays"] for entry in store.ledger()] == [entry["arrays"] for entry in as_they_are.ledger()]


def test_the_summary_has_shift_and_gain_and_names_align(sample_images, small_manifest, small_settings, tmp_path):
    aligned = write(tmp_path / "aligned", {name: image // 2 + 100 for name, image in sample_images.items()})
    lines = step.run(external_only(small_settings, aligned), small_manifest, tmp_path / "pairs").lines
    said = next(line for line in lines if line.startswith("scan: "))
    assert said.startswith("scan: median shift 0.0")
    assert said.endswith("median gain 0.50; the shift is reliable in 5 of 5 pairs")
    assert "--align" not in "\n".join(lines)
    rolled = write(tmp_path / "rolled", {name: np.roll(image, 1, 0) for name, image in sample_images.items()})
    lines = step.run(external_only(small_settings, rolled), small_manifest, tmp_path / "others").lines
    assert (
        "5 of 5 pairs of scan are shifted by more than 0.25 px: --align moves the pristine images onto them; a shift "
        "that is part of the distortion should stay"
    ) in lines


def test_an_overlap_too_small_for_training_is_counted(sample_images, make_manifest, small_settings, tmp_path):
    square = sample_images["wren"][:256, :256]
    images = {"wren": (square, "train"), "osprey": (sample_images["osprey"], "train")}
    manifest = make_manifest(tmp_path / "in", images)
    folder = write(tmp_path / "rolled", {name: np.roll(image, 1, 0) for name, (image, _) in images.items()})
    config = dataclasses.replace(external_only(small_settings, folder), align=True, min_tile_px=256)
    report = step.run(config, manifest, tmp_path / "pairs")
    assert "wren-1: scan left out, its overlap with the partner is 240 px, below --min-tile-px 256" in report.lines
    assert {record.image for record in open_pairs(tmp_path / "pairs").records()} == {"osprey-1"}


def test_align_is_for_one_name_of_external_pairs(small_settings):
    with pytest.raises(PipelineError, match=r"pairs\.align must be false unless the store has one name of external"):
        PairsConfig(**small_settings, external={"scan": "somewhere"}, align=True)
