"""JPEG against the standard's tables and against Pillow's encoder."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline.distortions.jpeg import encode, jpeg
from distort_pipeline.errors import PipelineError

# ITU-T T.81, table K.1: luminance quantisation, which libjpeg scales by quality
TABLE_K1 = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(3)
    coarse = cv2.resize(rng.integers(0, 256, (9, 11, 3), np.uint8), (203, 165), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 5, coarse.shape), 0, 255).astype(np.uint8)


def libjpeg_table(quality):
    """jpeg_quality_scaling of libjpeg, then rounding and clipping to baseline's 1-255."""
    quality = max(quality, 1)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((TABLE_K1 * scale + 50) // 100, 1, 255)


@pytest.mark.parametrize("quality", [0, 1, 4, 7, 12, 43, 50, 90, 100])
def test_the_stream_has_the_tables_of_its_quality(image, quality):
    with PILImage.open(io.BytesIO(encode(image, quality=quality))) as opened:
        np.testing.assert_array_equal(opened.quantization[0], libjpeg_table(quality))


def test_chroma_is_half_the_size_both_ways(image):
    with PILImage.open(io.BytesIO(encode(image, quality=12))) as opened:
        assert [component[1:3] for component in opened.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("quality", [4, 12, 43, 90])
def test_pillow_at_the_same_quality_gives_the_same_image(image, quality):
    stream = io.BytesIO()
    PILImage.fromarray(image).save(stream, "jpeg", quality=quality, subsampling="4:2:0")
    pillow = np.asarray(PILImage.open(stream), np.int16)
    ours = jpeg(image, quality=quality).image
    assert np.abs(ours - pillow).max() <= 2  # builds of libjpeg-turbo may round the transform differently
    assert np.abs(ours - pillow).mean() < 0.05


def test_colours_keep_their_order():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert np.abs(jpeg(red, quality=90).image.astype(int) - red).max() <= 3


def test_fewer_bytes_and_more_error_as_quality_falls(image):
    results = [jpeg(image, quality=quality) for quality in (90, 43, 12, 7, 4, 0)]
    sizes = [result.facts["bytes"] for result in results]
    errors = [np.square(result.image.astype(float) - image).mean() for result in results]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert errors == sorted(errors)
    assert sizes[2] == len(encode(image, quality=12))


def test_quality_0_equals_1_and_whole_floats_are_whole(image):
    np.testing.assert_array_equal(jpeg(image, quality=0).image, jpeg(image, quality=1).image)
    np.testing.assert_array_equal(jpeg(image, quality=12.0).image, jpeg(image, quality=12).image)


@pytest.mark.parametrize("quality", [101, 12.5])
def test_a_quality_that_is_none_is_refused(image, quality):
    with pytest.raises(PipelineError, match=f"quality must be a whole number from 0 to 100, got {quality}"):
        jpeg(image, quality=quality)


def test_a_side_that_no_jpeg_can_have_is_refused():
    with pytest.raises(PipelineError, match="a side may be 65500 px at most, got 70000 x 2 px"):
        jpeg(np.zeros((2, 70_000, 3), np.uint8), quality=12)
