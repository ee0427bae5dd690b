import io

import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline.commands.inputs import SAMPLE
from distort_pipeline.data.images import fingerprint, has_blocks, heavy_compression, jpeg_quality, near_copies


def jpeg(pixels, quality):
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def read(data):
    return np.asarray(PILImage.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def sample_images():
    return [np.asarray(PILImage.open(path).convert("RGB")) for path in sorted(SAMPLE.glob("*.png"))]


def test_photographs_are_no_near_copies_and_have_no_blocks(sample_images):
    assert near_copies([fingerprint(image) for image in sample_images]) == {}
    assert not any(has_blocks(image) for image in sample_images)


def test_copies_smaller_compressed_blurred_and_noisy_are_of_one_scene(sample_images):
    rng = np.random.default_rng(0)
    for image in sample_images[::5]:
        small = np.asarray(PILImage.fromarray(image).resize((image.shape[1] // 3, image.shape[0] // 3)))
        noisy = np.clip(image + rng.normal(0, 30, image.shape), 0, 255).astype(np.uint8)
        versions = [sample_images[1], image, read(jpeg(image, 20)), small, noisy]
        assert near_copies([fingerprint(version) for version in versions]) == {2: 1, 3: 1, 4: 1}


def test_flat_images_are_no_scene():
    assert near_copies([fingerprint(np.full((64, 64, 3), grey, np.uint8)) for grey in (10, 128, 200)]) == {}
    assert near_copies([]) == {}


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_table(quality, sample_images):
    assert jpeg_quality(jpeg(sample_images[0], quality)) == pytest.approx(quality, abs=1)


def test_heavy_compression_is_told_in_jpeg_and_after_another_format(sample_images):
    for image in sample_images[::5]:
        low = jpeg(image, 25)
        assert heavy_compression(low, read(low)) == "a JPEG of quality 25"
        assert "blocks" in heavy_compression(b"", read(low)[3:, 5:])
        assert "blocks" in heavy_compression(jpeg(read(low), 95), read(jpeg(read(low), 95)))
        high = jpeg(image, 92)
        assert heavy_compression(high, read(high)) is None
        assert heavy_compression(b"", read(high)) is None
