"""Each small model, fitted to pairs that it can say everything of, says it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from synthetic_pairs import SIDE, bases_of, pairs_of, photographs, rms

from distort_pipeline.networks.colour import fit_colour_matrix, fit_phase_tone, fit_rank_tone, fit_tone
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.filters import (
    fit_field_filters,
    fit_filters,
    fit_phase_filters,
    to_display,
    to_linear,
)
from distort_pipeline.networks.lookup import fit_colour_table
from distort_pipeline.networks.patches import TilePosition, cut_patches
from distort_pipeline.networks.saved import composed_arrays, composed_generator
from distort_pipeline.networks.shrinkage import Median, fit_shrinkage
from distort_pipeline.networks.wide import fit_blurs, fit_local_tone


def test_a_tone_curve_per_image_with_steps_and_clipping_is_exact() -> None:
    def tone(image: np.ndarray, number: int) -> np.ndarray:
        steps = np.rint(image / 23.18) * 23.18 if number % 2 else image * 1.3
        return np.clip(steps * [1.0, 0.9, 1.1], 0, 255).astype(np.uint8)

    patches = pairs_of(tone)
    fitted = fit_tone(patches, bases_of(patches), per_image=True)
    for patch in patches:
        assert rms(fitted.distort(patch.pristine.astype(np.float32), patch.image), patch.distorted) < 0.3


@pytest.mark.parametrize("channel", [1, 2])
def test_saturation_and_brightness_of_hsv_are_a_colour_table(channel: int) -> None:
    def changed(image: np.ndarray, _: int) -> np.ndarray:
        hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        hsv[..., channel] = np.clip(1.5 * hsv[..., channel], 0, 1)
        return np.rint(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8)

    patches = pairs_of(changed)
    table = fit_colour_table(patches, bases_of(patches))
    matrix = fit_colour_matrix(patches, bases_of(patches), per_image=False, linear=False)
    for image in photographs(seed=7):
        true = changed(image, 0)
        left = rms(np.clip(table.distort(image.astype(np.float32)), 0, 255), true)
        assert left < 0.25 * rms(np.clip(matrix.distort(image.astype(np.float32), 0), 0, 255), true)
        assert left < 0.1 * rms(image, true)  # four photographs show few saturated colours


def test_a_colour_table_leaves_the_ends_where_values_were_clipped() -> None:
    patches = pairs_of(lambda image, _: np.clip(image * 1.6 - 20.0, 0, 255).astype(np.uint8))
    table = fit_colour_table(patches, bases_of(patches))
    bright = table.distort(np.full((1, 1, 3), 240, np.float32))
    assert (bright > 300).all()  # not the mean of 255 and what was not clipped nearby


@pytest.mark.parametrize("linear", [False, True])
def test_a_kernel_per_image_is_found_where_it_acts(linear: bool) -> None:
    def blur(image: np.ndarray, number: int) -> np.ndarray:
        kernel = np.zeros((9, 9), np.float32)
        cv2.line(kernel, (1 + number, 1), (7 - number, 7), 1.0)
        kernel /= kernel.sum()
        values = to_linear(image.astype(np.float32)) if linear else image.astype(np.float32)
        values = cv2.filter2D(values, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
        return np.clip(np.rint(to_display(values) if linear else values), 0, 255).astype(np.uint8)

    patches = pairs_of(blur)
    fitted = fit_filters(patches, bases_of(patches), radius_px=6, per_image=True, linear=linear)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        assert rms(fitted.distort(base, patch.image), patch.distorted) < 0.08 * rms(base, patch.distorted)


@pytest.mark.parametrize("period", [2, 4])
def test_scaling_down_and_up_is_a_filter_by_phase(period: int) -> None:
    def rescaled(image: np.ndarray, _: int) -> np.ndarray:
        small = cv2.resize(image, (SIDE // period, SIDE // period), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)

    patches = pairs_of(rescaled, finest=8)
    by_phase = fit_phase_filters(patches, bases_of(patches), period=period, per_image=False)
    everywhere = fit_filters(patches, bases_of(patches), radius_px=5, per_image=False)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        errors = [rms(fitted.distort(base, 0, patch.position), patch.distorted) for fitted in (by_phase, everywhere)]
        assert errors[0] < 1.5
        assert errors[0] < 0.3 * errors[1]


def test_vignetting_is_a_filter_by_position_in_linear_light() -> None:
    offsets = (np.arange(SIDE) - (SIDE - 1) / 2) / np.hypot(SIDE, SIDE) * 2
    gain = 1 - 0.6 * (offsets[:, None] ** 2 + offsets[None] ** 2)[..., None]

    def vignette(image: np.ndarray, _: int) -> np.ndarray:
        return np.rint(to_display(to_linear(image.astype(np.float32)) * gain.astype(np.float32))).astype(np.uint8)

    patches = pairs_of(vignette)
    fitted = fit_field_filters(patches, bases_of(patches), radius_px=3, linear=True)
    for patch in patches:
        assert rms(fitted.distort(patch.pristine.astype(np.float32), 0, patch.position), patch.distorted) < 1.0


@pytest.mark.parametrize("period", [2, 4])
def test_ordered_dithering_is_a_curve_for_each_phase(period: int) -> None:
    thresholds = (np.arange(period**2).reshape(period, period) + 0.5) / period**2 - 0.5

    def dithered(image: np.ndarray, _: int) -> np.ndarray:
        tiled = np.tile(thresholds, (SIDE // period + 1, SIDE // period + 1))[:SIDE, :SIDE, None]
        return np.clip(np.rint(image / 51 + tiled) * 51, 0, 255).astype(np.uint8)

    patches = pairs_of(dithered, finest=3)
    fitted = fit_phase_tone(patches, bases_of(patches), period=period)
    for patch in patches:
        whole = fitted.distort(patch.pristine.astype(np.float32), 0)
        assert np.mean(np.rint(whole) == patch.distorted) > 0.95
        part = fitted.distort(patch.pristine[3:90, 5:80].astype(np.float32), 0, TilePosition(3, 5, SIDE, SIDE))
        assert np.array_equal(part, whole[3:90, 5:80])


@pytest.mark.parametrize("ycc", [False, True])
def test_flat_and_grey_images_tell_nothing_of_a_filter(ycc: bool) -> None:
    images = [np.full((SIDE, SIDE, 3), 90, np.uint8), np.repeat(photographs()[0][..., :1], 3, axis=-1)]
    patches = cut_patches([(x, cv2.GaussianBlur(x, (0, 0), 1.2)) for x in images], SIDE)
    fitted = fit_filters(patches, bases_of(patches), radius_px=3, per_image=True, ycc=ycc)
    for number, patch in enumerate(patches):
        assert rms(fitted.distort(patch.pristine.astype(np.float32), number, patch.position), patch.distorted) < 1.5


def test_blurred_chroma_is_a_filter_of_y_cb_cr() -> None:
    def blurred(image: np.ndarray, _: int) -> np.ndarray:
        ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        ycc[..., 1:] = cv2.GaussianBlur(ycc[..., 1:], (0, 0), 1.2)
        return cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)

    patches = pairs_of(blurred, finest=5)
    of_colours, of_rgb = (fit_filters(patches, bases_of(patches), radius_px=3, per_image=False, ycc=y) for y in (1, 0))
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        errors = [rms(part.distort(base, 0, patch.position), patch.distorted) for part in (of_colours, of_rgb)]
        assert errors[0] < 1.2
        assert errors[0] < 0.5 * errors[1]


def test_less_saturation_is_a_colour_matrix_of_the_image() -> None:
    def faded(image: np.ndarray, number: int) -> np.ndarray:
        grey = image.mean(-1, keepdims=True)
        return np.rint(grey + (0.2 + 0.2 * number) * (image - grey)).astype(np.uint8)

    patches = pairs_of(faded)
    fitted = fit_colour_matrix(patches, bases_of(patches), per_image=True, linear=False)
    for patch in patches:
        assert rms(fitted.distort(patch.pristine.astype(np.float32), patch.image), patch.distorted) < 0.5


def _smeared(image: np.ndarray, _: int) -> np.ndarray:
    """Return `image` without the texture that is weak beside its edges."""
    return cv2.bilateralFilter(image, 9, 25, 3)


def test_what_a_denoiser_takes_is_shrinkage_of_detail() -> None:
    patches = pairs_of(_smeared, finest=8)
    shrinkage = fit_shrinkage(patches, bases_of(patches))
    for patch in patches:
        left = rms(shrinkage.distort(patch.pristine.astype(np.float32)), patch.distorted)
        assert left < 0.45 * rms(patch.pristine, patch.distorted)


def test_where_nothing_is_taken_shrinkage_changes_nothing() -> None:
    patches = pairs_of(lambda image, _: image)
    shrinkage = fit_shrinkage(patches, bases_of(patches))
    assert rms(shrinkage.distort(patches[0].pristine.astype(np.float32)), patches[0].pristine) < 0.01


def test_shrunk_blocks_join_without_a_seam() -> None:
    patches = pairs_of(_smeared, finest=8)
    generator = ComposedGenerator(linear=(fit_shrinkage(patches, bases_of(patches)),))
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()
    arrays, described = composed_arrays(generator)
    assert (composed_generator(arrays, described).distort(image, 1.0, 0) == at_once).all()


@pytest.mark.parametrize("linear", [False, True])
def test_glow_is_few_wide_blurs(linear: bool) -> None:
    def glow(image: np.ndarray, _: int) -> np.ndarray:
        values = to_linear(image.astype(np.float32)) if linear else image.astype(np.float32)
        values = 0.7 * values + 0.25 * cv2.GaussianBlur(values, (0, 0), 9) + 0.02 * values[..., ::-1]
        return np.clip(np.rint(to_display(values) if linear else values), 0, 255).astype(np.uint8)

    patches = pairs_of(glow)
    fitted = fit_blurs(patches, bases_of(patches), linear=linear)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        assert rms(fitted.distort(base), patch.distorted) < 0.1 * rms(base, patch.distorted)


def test_detail_raised_and_light_evened_by_surroundings_is_a_local_tone() -> None:
    def evened(image: np.ndarray, _: int) -> np.ndarray:
        ycc = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb)
        mean = cv2.GaussianBlur(ycc[..., 0], (0, 0), 6)
        ycc[..., 0] = 128 + 0.5 * (mean - 128) + 1.5 * (ycc[..., 0] - mean)
        return np.clip(np.rint(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)), 0, 255).astype(np.uint8)

    patches = pairs_of(evened)
    fitted = fit_local_tone(patches, bases_of(patches), sigma_px=6.0)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        assert rms(fitted.distort(base), patch.distorted) < 0.25 * rms(base, patch.distorted)


def stretched(image: np.ndarray) -> np.ndarray:
    low, high = np.quantile(image, [0.005, 0.995], axis=(0, 1))
    return np.clip(255 * (image - low) / (high - low), 0, 255)


def raised(image: np.ndarray) -> np.ndarray:
    grey = image @ [0.299, 0.587, 0.114]
    return np.clip(grey.mean() + 1.6 * (image - grey.mean()), 0, 255)


@pytest.mark.parametrize(
    ("form", "of", "change"),
    [
        ("contrast", "all by luma", raised),
        (
            "ranks",
            "channels",
            lambda image: np.stack([cv2.equalizeHist(image[..., c].copy()) for c in range(3)], axis=-1),
        ),
        ("stretched levels", "channels", stretched),
    ],
)
def test_what_depends_on_an_images_histogram_is_a_curve_by_rank(form: str, of: str, change) -> None:
    patches = pairs_of(lambda image, _: np.rint(change(image)).astype(np.uint8))
    fitted = fit_rank_tone(patches, bases_of(patches), form=form, of=of)
    everywhere = fit_tone(patches, bases_of(patches), per_image=False)
    other = photographs(seed=5)[0] // 3 + 40
    patch = cut_patches([(other, np.rint(change(other)).astype(np.uint8))], SIDE)[0]
    base = patch.pristine.astype(np.float32)
    assert rms(fitted.distort(base, 0, patch.position), patch.distorted) < 5
    assert rms(everywhere.distort(base, 0), patch.distorted) > 20
    part = fitted.distort(base[40:90, 20:80], 0, patch.position)
    assert np.array_equal(part, fitted.distort(base, 0, patch.position)[40:90, 20:80])


@pytest.mark.parametrize("side", [3, 5])
def test_a_median_is_the_true_one(side: int) -> None:
    image = photographs()[0]
    assert np.array_equal(Median(side).distort(image.astype(np.float32)), cv2.medianBlur(image, side))
