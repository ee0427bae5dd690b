"""Codecs as the last stage: found from pixels or files, encoded, and differentiable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from synthetic_pairs import bases_of, corners, photographs, rms

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.codec_bank import Codec, related_codecs, smaller_codecs
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.earlier_jpeg import EarlierJpeg, fit_earlier_jpeg
from distort_pipeline.networks.jpeg_stage import (
    DifferentiableJpeg,
    JpegStage,
    estimate_jpeg_stage,
    read_jpeg_stage,
    standard_tables,
)
from distort_pipeline.networks.patches import cut_patches
from distort_pipeline.networks.resampling import Smaller, find_smaller
from distort_pipeline.networks.saved import composed_arrays, composed_generator
from distort_pipeline.records import to_uint8


@pytest.mark.parametrize(("quality", "subsampling"), [(90, "4:2:0"), (75, "4:4:4"), (50, "4:2:0")])
def test_pixels_betray_the_tables_of_a_jpeg(quality: int, subsampling: str) -> None:
    stage = JpegStage(*standard_tables(quality), subsampling)
    estimated = estimate_jpeg_stage([stage.encode(image) for image in photographs()])
    assert estimated is not None
    assert (estimated.luma == stage.luma).all()
    assert estimated.subsampling == subsampling


def test_no_jpeg_is_seen_where_there_is_none() -> None:
    assert estimate_jpeg_stage(photographs()) is None


def test_a_jpeg_file_says_its_tables(tmp_path) -> None:
    from PIL import Image

    Image.fromarray(photographs()[0]).save(tmp_path / "x.jpg", quality=83, subsampling=2)
    estimated = read_jpeg_stage(tmp_path / "x.jpg")
    assert estimated is not None
    assert (estimated.luma == standard_tables(83)[0]).all()
    assert estimated.subsampling == "4:2:0"


def test_the_straight_through_codec_is_the_real_one_and_passes_gradients() -> None:
    tf = pytest.importorskip("tensorflow")
    stage = JpegStage(*standard_tables(75), "4:2:0")
    image = photographs()[0]
    levels = tf.Variable(image[None].astype(np.float32))
    with tf.GradientTape() as tape:
        coded = DifferentiableJpeg(stage)(levels)
        total = tf.reduce_sum(coded)
    assert rms(np.clip(np.rint(coded.numpy()[0]), 0, 255), stage.encode(image)) < 1.5  # 45 dB
    assert float(tf.reduce_mean(tape.gradient(total, levels))) == pytest.approx(1.0, abs=0.05)


def test_what_the_codec_rounds_away_is_given_no_reason_to_grow() -> None:
    tf = pytest.importorskip("tensorflow")
    coarse = DifferentiableJpeg(JpegStage(np.full((8, 8), 40), np.full((8, 8), 40), "4:4:4"))
    stripes = np.resize([1.0, -1.0], (32, 1))[None, :, None, :] * np.ones((1, 32, 32, 3), np.float32)

    def slope(amplitude: float) -> float:
        levels = tf.Variable((128 + amplitude * stripes).astype(np.float32))
        with tf.GradientTape() as tape:
            agreement = tf.reduce_sum(coarse(levels) * stripes)
        return float(tf.reduce_mean(tape.gradient(agreement, levels) * stripes))

    assert abs(slope(0.0)) < 0.01
    assert slope(2.0) > 0.3  # coefficients near half a step, where a change decides


def test_the_codec_that_was_used_is_found_with_its_quality() -> None:
    codec = Codec("WEBP", 20)
    pairs = [(image, codec.encode(image, np.random.default_rng(0))) for image in corners()]
    errors = dict(related_codecs(pairs))
    assert errors[codec] == 0.0
    assert min(errors, key=errors.__getitem__) == codec


def test_noise_is_related_to_no_codec() -> None:
    rng = np.random.default_rng(0)
    pairs = [(x, np.clip(x + rng.normal(0, 8, x.shape), 0, 255).astype(np.uint8)) for x in photographs()]
    assert not dict(related_codecs(pairs))


def test_frames_of_videos_are_coded_if_ffmpeg_is_here() -> None:
    pytest.importorskip("av")
    image = photographs()[0][:101, :99]
    still, panned = (Codec("MPEG-2", 8, panned).encode(image, np.random.default_rng(1)) for panned in (False, True))
    assert still.shape == panned.shape == image.shape
    assert 1 < rms(still, image) < 20
    assert (still != panned).any()


def test_a_model_of_a_video_codec_says_what_it_needs(monkeypatch) -> None:
    monkeypatch.setattr("distort_pipeline.networks.codec_bank.importlib.util.find_spec", lambda _: None)
    with pytest.raises(PipelineError, match=r"pip install '\.\[video\]'"):
        Codec("H.264", 30).encode(photographs()[0], np.random.default_rng(0))


@pytest.mark.parametrize("name", ["GIF", "GIF, dithered"])
def test_palettes_are_codecs_of_as_many_colours_as_are_seen(name: str) -> None:
    codec = Codec(name, 19)
    rng = np.random.default_rng(0)
    images = corners()[:3]
    found = dict(related_codecs([(image, codec.encode(image, rng)) for image in images]))
    assert found[codec] == 0


@pytest.mark.parametrize("kernels", [("OpenCV area", "OpenCV cubic"), ("Pillow Lanczos", "Pillow bicubic")])
def test_images_tell_from_which_size_and_how_they_were_scaled_back(kernels, sample_images) -> None:
    images = [image[:192, :224] for image in list(sample_images.values())[:4]]
    shares = (0.5, 0.63, 0.71, 0.63)
    small = [Codec("JPEG", 60, smaller=Smaller((share,), *kernels)) for share in shares]
    pairs = [(x, codec.encode(x, np.random.default_rng(0))) for x, codec in zip(images, small, strict=True)]
    found = find_smaller(pairs)
    assert found is not None
    assert found.up == kernels[1]
    assert len(found.shares) > 1
    assert all(min(abs(share - true) for true in shares) < 0.012 for share in found.shares)
    jpeg = next(codec for codec in smaller_codecs(pairs) if codec.name == "JPEG")
    assert jpeg.random
    assert 35 < jpeg.quality < 85
    stored = composed_generator(*composed_arrays(ComposedGenerator(codec=jpeg)))
    assert stored.codec == jpeg


def test_pixelated_images_tell_a_common_share_and_that_sides_were_cut_off(sample_images) -> None:
    true = Smaller((0.4,), "Pillow box", "Pillow nearest", "down")  # 0.4 of 268 is 107.2, of 307 122.8
    images = [image[:268, :307] for image in list(sample_images.values())[:4]]
    pairs = [(x, true.distort(x, np.random.default_rng(0), np.asarray)) for x in images]
    assert find_smaller(pairs) == true


def test_what_was_never_smaller_has_no_size() -> None:
    images = photographs(finest=8)
    rng = np.random.default_rng(0)
    for change in (
        lambda x: cv2.GaussianBlur(x, (0, 0), 1.5),
        lambda x: np.clip(x + rng.normal(0, 9, x.shape), 0, 255).astype(np.uint8),
        lambda x: Codec("WEBP", 10).encode(x, rng),
    ):
        assert find_smaller([(x, change(x)) for x in images]) is None


@pytest.mark.parametrize("per_image", [False, True])
def test_an_earlier_jpeg_is_found_on_its_own_grid(per_image: bool, sample_images) -> None:
    images = [image[:256, :256] for image in list(sample_images.values())[:4]]
    grids = [(3, 6), (5, 12), (9, 0), (2, 15)] if per_image else [(3, 6)] * 4
    pairs = [
        (x, to_uint8(EarlierJpeg(np.array([grid], np.int32), 30).distort(x.astype(np.float32), 0)))
        for x, grid in zip(images, grids, strict=True)
    ]
    patches = cut_patches(pairs, 256)
    fitted = fit_earlier_jpeg(patches, bases_of(patches), per_image=per_image)
    assert fitted.quality == 30
    assert [tuple(offset) for offset in fitted.offsets] == (grids if per_image else grids[:1])
    for patch in patches:
        assert np.array_equal(fitted.distort(patch.pristine.astype(np.float32), patch.image), patch.distorted)
