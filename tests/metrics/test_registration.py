import json

import cv2
import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.metrics.registration import Registration, are_shifted, register
from distort_pipeline.metrics.warp import Shift, Warp
from distort_pipeline.records import make_rng


def noisy(image, sigma):
    return np.clip(image + np.random.default_rng(0).normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def motion(image, degrees):
    """Return `image` under motion blur of 15 px."""
    row = np.zeros((21, 21), np.float32)
    row[10, 3:18] = 1
    kernel = cv2.warpAffine(row, cv2.getRotationMatrix2D((10, 10), degrees, 1), (21, 21))
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def defocus(image):
    y, x = np.mgrid[-6:7, -6:7]
    disc = (x * x + y * y <= 36).astype(np.float32)
    return cv2.filter2D(image, -1, disc / disc.sum())


def jpeg10(image):
    return apply("jpeg", image, {"quality": 10}, make_rng(0)).image


def by_half(image):
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LANCZOS4)


ALIGNED = {
    "motion blur along rows": lambda image: motion(image, 0),
    "slanted motion blur": lambda image: motion(image, 40),
    "defocus of 6 px": defocus,
    "noise of 60 levels": lambda image: noisy(image, 60),
    "JPEG of quality 10": jpeg10,
    "half size and back": by_half,
}


@pytest.mark.parametrize("distort", ALIGNED.values(), ids=list(ALIGNED))
def test_aligned_pairs_of_strong_distortions_are_not_shifted(sample_images, distort):
    registrations = [register(image, distort(image)) for image in sample_images.values()]
    assert not are_shifted(registrations)
    assert not any(registration.warp for registration in registrations)
    assert sum(registration.is_reliable for registration in registrations) >= 2


def test_unrelated_images_and_noise_are_not_reliable(sample_images):
    wren = sample_images["wren"][:256, :256]
    assert not register(wren, sample_images["maple"][:256, :256]).is_reliable
    assert not register(wren, noisy(np.full_like(wren, 128), 40)).is_reliable


@pytest.mark.parametrize("distort", [lambda image: image, jpeg10, lambda image: noisy(image, 25)])
def test_a_shift_is_measured_under_other_distortions(sample_images, distort):
    image = sample_images["wren"]
    for shift in ((0.4, -0.3), (2.0, -3.0), (-12.6, 8.0)):
        move = Shift(*shift)
        inside = move.inside(*image.shape[:2])
        window = (slice(inside.y, inside.y + inside.height), slice(inside.x, inside.x + inside.width))
        registration = register(image[window], distort(np.ascontiguousarray(move.apply(image)[window])))
        assert registration.is_reliable
        assert (registration.dy, registration.dx) == pytest.approx(shift, abs=0.1)


def test_the_gain_is_the_slope_of_luma(sample_images):
    image = sample_images["wren"]
    assert register(image, image).gain == 1
    assert register(image, image // 2 + 100).gain == pytest.approx(0.5, abs=0.01)
    assert register(image, noisy(image // 2 + 60, 20)).gain == pytest.approx(0.5, abs=0.03)
    assert register(np.full_like(image, 90), np.full_like(image, 70)).gain is None


def test_whole_pixels_are_copied_and_the_overlap_has_no_others(sample_images):
    image = sample_images["wren"]
    move = Shift(-2, 3)
    inside = move.inside(*image.shape[:2])
    rows, columns = slice(inside.y, inside.y + inside.height), slice(inside.x, inside.x + inside.width)
    assert (inside.y, inside.x) == (0, 16)
    assert np.array_equal(move.apply(image)[rows, columns], np.roll(image, (-2, 3), (0, 1))[rows, columns])


def turned(image, degrees):
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.004)
    return cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def barrel(image):
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns - (width - 1) / 2, rows - (height - 1) / 2
    bent = 1 + 0.02 * (x * x + y * y) / (max(height, width) / 2) ** 2
    places = (x * bent + (width - 1) / 2, y * bent + (height - 1) / 2)
    return cv2.remap(image, *(place.astype(np.float32) for place in places), cv2.INTER_CUBIC)


def seen_from_a_side(image):
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    seen = corners + np.array([[4, 2], [-3, 1], [2, -4], [-1, 3]], np.float32)
    return cv2.warpPerspective(
        image, cv2.getPerspectiveTransform(corners, seen), (width, height), flags=cv2.INTER_CUBIC
    )


WARPED = {
    "turned and scaled": lambda image: turned(image, 0.7),
    "turned, blurred and of less contrast": lambda image: cv2.GaussianBlur(turned(image, -0.5), (0, 0), 1.5) // 2 + 90,
    "barrel": barrel,
    "from a side, with noise": lambda image: noisy(seen_from_a_side(image), 6),
}


@pytest.mark.parametrize("distort", WARPED.values(), ids=list(WARPED))
def test_a_warp_is_undone_and_what_lies_inside_has_no_invented_pixels(sample_images, distort):
    image = cv2.resize(sample_images["wren"], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    distorted = distort(image)
    registration = register(image, distorted)
    assert isinstance(registration.move, Warp)
    assert are_shifted([registration])
    assert Registration.of_facts(json.loads(json.dumps(registration.facts()))) == registration
    inside = registration.move.inside(*image.shape[:2])
    assert (inside.y % 16, inside.x % 16) == (0, 0)
    assert inside.height * inside.width > 0.75 * image.shape[0] * image.shape[1]
    rows, columns = slice(inside.y, inside.y + inside.height), slice(inside.x, inside.x + inside.width)
    again = register(
        np.ascontiguousarray(registration.move.apply(image)[rows, columns]),
        np.ascontiguousarray(distorted[rows, columns]),
    )
    assert again.is_reliable
    assert again.warp is None
    assert again.shift_px < 0.1


def test_an_image_too_small_for_a_window_has_no_confidence(sample_images):
    small = sample_images["wren"][:40, :40]
    assert register(small, small).confidence == 0
