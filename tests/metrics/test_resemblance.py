import cv2
import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.metrics.registration import find_mismatches, thumbnail
from distort_pipeline.records import make_rng


def noisy(image, sigma):
    return np.clip(image + np.random.default_rng(0).normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


TRUE = {
    "identity": lambda image: image,
    "blur of 20 px": lambda image: cv2.GaussianBlur(image, (0, 0), 20),
    "noise of 150 levels": lambda image: noisy(image, 150),
    "blur and noise": lambda image: noisy(cv2.GaussianBlur(image, (0, 0), 8), 60),
    "a negative": lambda image: 255 - image,
    "little contrast": lambda image: image // 10 + 110,
    "gamma 4": lambda image: (255 * (image / 255) ** 4).astype(np.uint8),
    "solarised": lambda image: (255 - np.abs(2.0 * image - 255)).astype(np.uint8),
    "two values": lambda image: np.where(image > 127, 255, 0).astype(np.uint8),
    "JPEG of quality 1": lambda image: apply("jpeg", image, {"quality": 1}, make_rng(0)).image,
    "black": np.zeros_like,
}


@pytest.mark.parametrize("distort", TRUE.values(), ids=list(TRUE))
def test_true_pairs_of_strong_distortions_are_silent(sample_images, distort):
    pristine = [thumbnail(image) for image in sample_images.values()]
    distorted = [thumbnail(distort(image)) for image in sample_images.values()]
    assert list(find_mismatches(pristine, distorted)) == []


def test_swapped_partners_resemble_each_others_image(sample_images):
    images = [thumbnail(image) for image in sample_images.values()]
    swapped = [images[1], images[0], *images[2:]]
    assert [(index, better) for index, better, _, _ in find_mismatches(images, swapped)] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("turn", "name"),
    [
        (np.fliplr, "mirrored"),
        (np.flipud, "mirrored and turned by 180°"),
        (np.rot90, "turned by 270°"),
        (lambda image: np.rot90(image, 2), "turned by 180°"),
    ],
)
def test_turned_partners_are_described(sample_images, turn, name):
    crops = [image[:200, :200] for key, image in sample_images.items() if key != "hills"]  # nearly symmetric
    blurred = [thumbnail(cv2.GaussianBlur(np.ascontiguousarray(turn(crop)), (0, 0), 3)) for crop in crops]
    mismatches = list(find_mismatches([*map(thumbnail, crops)], blurred))
    assert [better for _, better, _, _ in mismatches] == [name] * len(crops)


def test_a_nearly_symmetric_image_is_no_mirrored_partner(sample_images):
    hills = sample_images["hills"][:200, :200]
    assert list(find_mismatches([thumbnail(hills)], [thumbnail(np.ascontiguousarray(hills[:, ::-1]))])) == []


def test_a_partner_of_an_image_elsewhere_resembles_none(sample_images):
    *images, other = [thumbnail(image) for image in sample_images.values()]
    ((index, better, _, pair_score),) = find_mismatches(images, [other, *images[1:]])
    assert (index, better) == (0, None)
    assert pair_score < 0.2


def test_flat_images_under_noise_are_silent():
    flat = [np.full((256, 256, 3), value, np.uint8) for value in (60, 90, 120)]
    assert list(find_mismatches([*map(thumbnail, flat)], [thumbnail(noisy(image, 40)) for image in flat])) == []
