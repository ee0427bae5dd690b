import dataclasses

import numpy as np
import pytest

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.config import GenerateConfig, PairsConfig
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import encode_png, image_digest
from distort_pipeline.data.manifests import write_manifest
from distort_pipeline.distortions import unsuitable
from distort_pipeline.records import ImageRecord
from distort_pipeline.steps import generate, pairs


@pytest.fixture
def manifest(tmp_path, sample_images):
    """A manifest of three photographs, a panorama too long for JPEG, and a tiny image."""
    images = {name: sample_images[name] for name in ("wren", "osprey", "maple")}
    images["panorama"] = np.tile(sample_images["wren"][:32, :300], (1, 220, 1))
    images["tiny"] = sample_images["wren"][:8, :20]
    records = []
    for name, image in images.items():
        (tmp_path / f"{name}.png").write_bytes(encode_png(image))
        split = "val" if name == "maple" else "train"
        height, width = image.shape[:2]
        digest = image_digest(image)
        records.append(ImageRecord(name, f"{name}.png", digest, "", width, height, "RGB", "CC0-1.0", "here", split))
    write_manifest(tmp_path / "m.jsonl", records, tmp_path)
    return tmp_path / "m.jsonl"


def test_an_image_too_long_for_a_codec_stops_no_pair_store(manifest, tmp_path):
    config = PairsConfig(distortions=("jpeg", "white_noise"), tile_px=128, min_tile_px=32, workers=0)
    report = pairs.run(config, manifest, tmp_path / "pairs")
    again = pairs.run(config, manifest, tmp_path / "pairs")
    reason = unsuitable("jpeg", 32, 66_000)
    assert read_json(tmp_path / "pairs/store.json")["missing"] == [
        {"image": "panorama", "distortion": "jpeg", "reason": reason}
    ]
    assert report.counts["missing"] == report.counts["too_small"] == 1
    assert f"panorama: jpeg left out, {reason}" in report.lines
    assert f"panorama: jpeg left out, {reason}" in again.lines


@pytest.mark.parametrize("whole_images", [False, True])
def test_images_that_a_corpus_cannot_use_are_left_out_with_a_reason(manifest, tmp_path, whole_images):
    config = dataclasses.replace(
        GenerateConfig(),
        distortions=("jpeg",),
        count=3,
        severity=(0.5,),
        whole_images=whole_images,
        tile_px=128,
        workers=0,
    )
    report = generate.run(config, manifest, PRETRAINED, tmp_path / "corpus")
    left_out = read_json(tmp_path / "corpus/store.json")["left_out"]
    assert left_out.keys() == {"panorama.png", "tiny.png"}
    assert left_out["panorama.png"] == unsuitable("jpeg", 32, 66_000)
    assert left_out["tiny.png"].startswith("too small: 20 x 8 px")
    again = generate.run(config, manifest, PRETRAINED, tmp_path / "corpus")
    assert report.counts["left_out"] == again.counts["left_out"] == 2
    assert any(line.startswith("tiny.png left out: too small") for line in again.lines)
