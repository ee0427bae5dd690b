"""Noise, impulses, regions and displacement: fitted to pairs that have them, and drawn as truly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from synthetic_pairs import SIDE, bases_of, moved_squares, pairs_of, photographs, rms

from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.displacement import KINDS, Displacement, displacements
from distort_pipeline.networks.impulses import find_impulses, without_impulses
from distort_pipeline.networks.overlays import record_overlays
from distort_pipeline.networks.patches import PairPatch, TilePosition, white_field
from distort_pipeline.networks.regions import find_regions
from distort_pipeline.networks.saved import composed_arrays, composed_generator
from distort_pipeline.networks.signal_noise import Fields, SignalNoise, activity_fields
from distort_pipeline.records import make_rng, to_uint8
from distort_pipeline.training.fit_signal_noise import fit_signal_noise


def test_noise_has_the_strength_that_belongs_to_the_luminance() -> None:
    rng = np.random.default_rng(1)

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        sigma = 2 + 6 * image.mean(-1, keepdims=True) / 255
        return np.clip(image + sigma * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = pairs_of(noisy, finest=3)
    bases = bases_of(patches)
    fitted = fit_signal_noise(patches, bases)
    base = bases[0]
    drawn = fitted.draw(base, np.random.default_rng(2), 0.0)
    dark, bright = base.mean(-1) < 90, base.mean(-1) > 170
    assert drawn[dark].std() == pytest.approx((2 + 6 * base[dark].mean() / 255), rel=0.15)
    assert drawn[bright].std() == pytest.approx((2 + 6 * base[bright].mean() / 255), rel=0.15)


def test_noise_in_patches_is_told_from_even_noise(even_noise: SignalNoise) -> None:
    rng = np.random.default_rng(1)

    def noisy(image: np.ndarray, number: int) -> np.ndarray:
        fields = activity_fields(number, 0, 0, *image.shape[:2])
        activity = np.exp(0.35 * fields[..., 1:2] - 0.35**2)
        return np.clip(image + 8 * activity * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = pairs_of(noisy, finest=3)
    variances = np.square(fit_signal_noise(patches, bases_of(patches)).activity).sum(0)
    unchanged = PairPatch(patches[0].pristine, patches[0].pristine, len(patches), 0, 0, SIDE, SIDE)
    patches.append(unchanged)  # decides nothing
    with_it = np.square(fit_signal_noise(patches, bases_of(patches)).activity).sum(0)
    assert with_it == pytest.approx(variances, rel=0.1)
    assert np.square(even_noise.activity).sum(0).max() < 0.01
    assert variances == pytest.approx(0.35**2, rel=0.35)


def test_rows_with_an_offset_of_their_own_are_told_from_pixel_noise(even_noise: SignalNoise) -> None:
    rng = np.random.default_rng(1)

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        offsets = 5 * rng.standard_normal((len(image), 1, 3))
        return np.clip(image + offsets + 4 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = pairs_of(noisy, finest=3)
    for strength, noise in ((0.0, even_noise), (5.0, fit_signal_noise(patches, bases_of(patches)))):
        assert np.diag(noise.stripes[0]) == pytest.approx(strength, rel=0.2)
        assert not noise.stripes[1].any()
        grey = np.full((200, 300, 3), 128, np.float32)
        drawn = noise.draw(grey, np.random.default_rng(2), 0.0, Fields.of(3, 0, 0, 200, 300))
        assert drawn.mean(1).std() == pytest.approx(np.hypot(strength, 4 / 300**0.5), rel=0.25)
        assert (drawn - drawn.mean(1, keepdims=True)).std() == pytest.approx(4, rel=0.15)


def test_stripes_belong_to_the_place() -> None:
    whole, part = Fields.of(3, 0, 0, 300, 260), Fields.of(3, 100, 50, 150, 140)
    assert np.array_equal(part.rows, whole.rows[100:250])
    assert np.array_equal(part.columns, whole.columns[50:190])
    assert not np.array_equal(Fields.of(4, 0, 0, 300, 260).rows, whole.rows)


def test_fields_of_activity_belong_to_the_place_and_have_unit_variance() -> None:
    whole = activity_fields(3, 0, 0, 300, 260)
    assert np.allclose(activity_fields(3, 100, 50, 150, 140), whole[100:250, 50:190], atol=1e-5)
    many = np.concatenate([activity_fields(seed, 0, 0, 256, 256).reshape(-1, 4) for seed in range(20)])
    assert many.var(0) == pytest.approx(1, abs=0.1)


def test_a_field_of_noise_belongs_to_the_place() -> None:
    whole = white_field(3, 0, 0, 300, 260, 2)
    assert (white_field(3, 100, 50, 150, 140, 2) == whole[100:250, 50:190]).all()


def test_impulses_are_found_and_strike_as_often_as_they_did() -> None:
    rng = np.random.default_rng(1)

    def struck(image: np.ndarray, _: int) -> np.ndarray:
        noisy = np.clip(image + 3 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)
        noisy[rng.random(image.shape[:2]) < 0.03] = [255, 0, 0]
        return noisy

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        return np.clip(image + 18 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = pairs_of(struck, finest=3)
    impulses = find_impulses(patches)
    assert impulses is not None
    assert impulses.rate == pytest.approx(0.03, rel=0.15)
    for patch, cleaned in zip(patches, without_impulses(patches), strict=True):
        assert rms(cleaned.distorted.astype(np.float32), patch.pristine) < 6
    image = np.full((256, 300, 3), 120, np.uint8)
    whole = impulses.strike(image, 5, TilePosition(0, 0, 256, 300))
    assert np.mean((whole == [255, 0, 0]).all(-1)) == pytest.approx(0.03, rel=0.15)
    part = impulses.strike(image[50:90, 20:200], 5, TilePosition(50, 20, 256, 300))
    assert np.array_equal(part, whole[50:90, 20:200])
    few = impulses.strike(image, 5, TilePosition(0, 0, 256, 300), share=0.25)
    assert np.mean((few != image).any(-1)) == pytest.approx(0.0075, rel=0.3)
    for change in (
        noisy,
        lambda image, _: cv2.GaussianBlur(image, (0, 0), 2),
        lambda image, _: cv2.medianBlur(image, 5),
    ):
        assert find_impulses(pairs_of(change, finest=3)) is None


def coloured_squares(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = image.copy()
    for _ in range(12):
        y, x = rng.integers(0, SIDE - 20, 2)
        out[y : y + 20, x : x + 20] = rng.integers(0, 256, 3)
    return out


def brighter_squares(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = image.astype(int)
    for _ in range(12):
        y, x = rng.integers(0, SIDE - 20, 2)
        out[y : y + 20, x : x + 20] += 40
    return np.clip(out, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "change"), [("replaced", coloured_squares), ("added", brighter_squares), ("moved", moved_squares)]
)
def test_regions_are_found_with_what_they_are_and_laid_elsewhere(kind, change) -> None:
    regions = find_regions(pairs_of(lambda image, number: change(image, make_rng(number))))
    assert regions is not None
    assert regions.kind == kind
    assert regions.density == pytest.approx(12 * 1e6 / SIDE**2, rel=0.35)  # some overlap
    image = np.tile(photographs(seed=9)[0], (2, 2, 1))
    whole = regions.lay(image, 3, TilePosition(0, 0, *image.shape[:2]))
    true = np.mean([(change(x, make_rng(n)) != x).any(-1).mean() for n, x in enumerate(photographs())])
    assert (whole != image).any(-1).mean() == pytest.approx(true, rel=0.5)
    part = regions.lay(image[70:330, 60:400], 3, TilePosition(70, 60, *image.shape[:2]))
    inside = slice(regions.reach_px, -regions.reach_px or None)
    assert np.array_equal(part[inside, inside], whole[70:330, 60:400][inside, inside])
    assert not np.array_equal(whole, regions.lay(image, 4, TilePosition(0, 0, *image.shape[:2])))


def test_what_changes_the_whole_image_or_single_pixels_is_no_region() -> None:
    rng = np.random.default_rng(1)

    def struck(image: np.ndarray, _: int) -> np.ndarray:
        return np.where(rng.random((*image.shape[:2], 1)) < 0.03, 255, image).astype(np.uint8)

    assert find_regions(pairs_of(struck)) is None
    assert find_regions(pairs_of(lambda image, _: cv2.GaussianBlur(image, (0, 0), 2))) is None
    assert find_regions(pairs_of(lambda image, _: image)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_displacement_is_found_again_and_belongs_to_the_place(kind: str) -> None:
    true = Displacement(kind, 2.0)

    def displaced(image: np.ndarray, number: int) -> np.ndarray:
        return to_uint8(true.move(image.astype(np.float32), 50 + number, TilePosition(0, 0, SIDE, SIDE)))

    patches = pairs_of(displaced)
    found = {each.kind: each for each in displacements(patches, np.rint)}
    assert found[kind].most_px == pytest.approx(2.0, rel=0.25)
    image = photographs()[0].astype(np.float32)
    whole = true.move(image, 3, TilePosition(0, 0, SIDE, SIDE))
    part = true.move(image[40:200, 60:240], 3, TilePosition(40, 60, SIDE, SIDE))
    reach = true.reach_px
    assert np.allclose(part[reach:-reach, reach:-reach], whole[40:200, 60:240][reach:-reach, reach:-reach], atol=0.01)


def test_noise_is_no_displacement() -> None:
    rng = np.random.default_rng(1)
    noisy = pairs_of(lambda image, _: np.clip(image + 9 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8))
    assert not list(displacements(noisy, np.rint))


def snowed(image: np.ndarray, number: int) -> np.ndarray:
    """Return `image` with streaks of an image's own slant on 2 % of the pixels."""
    rng = make_rng(number)
    flakes = (rng.random(image.shape[:2]) < 0.004).astype(np.float32)
    kernel = cv2.getRotationMatrix2D((6, 6), 30 * number, 1)
    streak = cv2.warpAffine(np.eye(13, dtype=np.float32), kernel, (13, 13))
    return to_uint8(0.5 * image + 120 * np.clip(cv2.filter2D(flakes, -1, streak), 0, 1)[..., None])


def test_overlays_are_laid_anew_as_strong_as_they_were_and_belong_to_the_place() -> None:
    patches = pairs_of(snowed)
    overlays = record_overlays(patches, [np.float32(0.5) * patch.pristine for patch in patches])
    assert overlays is not None
    assert set(overlays.images) < set(range(4))
    grey = np.full((500, 400, 3), 100, np.uint8)
    generator = ComposedGenerator(choices=(0, 1, 2, 3), overlays=overlays)
    assert generator.random
    arrays, described = composed_arrays(generator)
    again = composed_generator(arrays, described)
    whole = again.distort(grey, 1.0, 3)
    added = whole.astype(float) - grey
    true = [patch.distorted - 0.5 * patch.pristine for patch in patches]
    assert added.mean() == pytest.approx(np.mean(true), rel=0.3)
    assert added.std() == pytest.approx(np.std(true), rel=0.3)
    part = overlays.draw(3, 0, TilePosition(230, 170, 500, 400), 120, 200)
    assert np.array_equal(part, overlays.draw(3, 0, TilePosition(0, 0, 500, 400), 500, 400)[230:350, 170:370])
    other = generator.distort(grey, 1.0, 4)
    assert np.mean(whole != other) > 0.05


def test_patches_too_small_to_show_what_lies_over_them_make_no_overlays() -> None:
    patches = [PairPatch(*(np.zeros((96, 96, 3), np.uint8),) * 2, n, 0, 0, 96, 96) for n in range(4)]
    assert record_overlays(patches, bases_of(patches)) is None
