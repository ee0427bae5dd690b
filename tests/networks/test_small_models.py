"""Each small model, fitted to pairs that it can say everything of, says it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.codec_bank import Codec, related_codecs
from distort_pipeline.networks.colour import fit_colour_matrix, fit_phase_tone, fit_tone
from distort_pipeline.networks.composed import ComposedGenerator, ComposedPredictor, DistortedImage, TileSource
from distort_pipeline.networks.filters import (
    fit_field_filters,
    fit_filters,
    fit_phase_filters,
    to_display,
    to_linear,
)
from distort_pipeline.networks.impulses import Impulses, find_impulses, without_impulses
from distort_pipeline.networks.jpeg_stage import (
    DifferentiableJpeg,
    JpegStage,
    estimate_jpeg_stage,
    read_jpeg_stage,
    standard_tables,
)
from distort_pipeline.networks.patches import PairPatch, TilePosition, cut_patches, white_field
from distort_pipeline.networks.saved import composed_arrays, composed_generator, composed_levels, levels_arrays
from distort_pipeline.networks.shrinkage import fit_shrinkage
from distort_pipeline.networks.signal_noise import Fields, SignalNoise, activity_fields
from distort_pipeline.training.fit_signal_noise import fit_signal_noise

IMAGES, SIDE = 4, 256


def _photographs(seed: int = 0, finest: int = 6) -> list[np.ndarray]:
    """Return images (256, 256, 3) of octaves down to cells of 2^(8 - finest) px, and some noise."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(IMAGES):
        image = np.zeros((SIDE, SIDE, 3))
        for octave in range(1, finest + 1):
            coarse = rng.standard_normal((2**octave, 2**octave, 3))
            image += 60 / octave * cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        images.append(np.clip(128 + image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
    return images


def _corners() -> list[np.ndarray]:
    """Return the corners (128, 128, 3) of the images: all codecs are tried on them."""
    return [image[:128, :128] for image in _photographs()]


def _patches(distort, finest: int = 6) -> list[PairPatch]:
    images = _photographs(finest=finest)
    return cut_patches([(x, distort(x, n)) for n, x in enumerate(images)], SIDE)


def _bases(patches: list[PairPatch]) -> list[np.ndarray]:
    return [patch.pristine.astype(np.float32) for patch in patches]


def _rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a.astype(float) - b).mean()))


@pytest.fixture(scope="module")
def even_noise() -> SignalNoise:
    """A model of noise of 4 levels, the same everywhere."""
    rng = np.random.default_rng(1)
    patches = _patches(lambda x, _: np.clip(x + rng.normal(0, 4, x.shape), 0, 255).astype(np.uint8), finest=3)
    return fit_signal_noise(patches, _bases(patches))


def test_a_tone_curve_per_image_with_steps_and_clipping_is_exact() -> None:
    def tone(image: np.ndarray, number: int) -> np.ndarray:
        steps = np.rint(image / 23.18) * 23.18 if number % 2 else image * 1.3
        return np.clip(steps * [1.0, 0.9, 1.1], 0, 255).astype(np.uint8)

    patches = _patches(tone)
    fitted = fit_tone(patches, _bases(patches), per_image=True)
    for patch in patches:
        assert _rms(fitted.distort(patch.pristine.astype(np.float32), patch.image), patch.distorted) < 0.3


@pytest.mark.parametrize("linear", [False, True])
def test_a_kernel_per_image_is_found_where_it_acts(linear: bool) -> None:
    def blur(image: np.ndarray, number: int) -> np.ndarray:
        kernel = np.zeros((9, 9), np.float32)
        cv2.line(kernel, (1 + number, 1), (7 - number, 7), 1.0)
        kernel /= kernel.sum()
        values = to_linear(image.astype(np.float32)) if linear else image.astype(np.float32)
        values = cv2.filter2D(values, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
        return np.clip(np.rint(to_display(values) if linear else values), 0, 255).astype(np.uint8)

    patches = _patches(blur)
    fitted = fit_filters(patches, _bases(patches), radius_px=6, per_image=True, linear=linear)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        assert _rms(fitted.distort(base, patch.image), patch.distorted) < 0.08 * _rms(base, patch.distorted)


@pytest.mark.parametrize("period", [2, 4])
def test_scaling_down_and_up_is_a_filter_by_phase(period: int) -> None:
    def rescaled(image: np.ndarray, _: int) -> np.ndarray:
        small = cv2.resize(image, (SIDE // period, SIDE // period), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)

    patches = _patches(rescaled, finest=8)
    by_phase = fit_phase_filters(patches, _bases(patches), period=period, per_image=False)
    everywhere = fit_filters(patches, _bases(patches), radius_px=5, per_image=False)
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        errors = [_rms(fitted.distort(base, 0, patch.position), patch.distorted) for fitted in (by_phase, everywhere)]
        assert errors[0] < 1.5
        assert errors[0] < 0.3 * errors[1]


def test_vignetting_is_a_filter_by_position_in_linear_light() -> None:
    offsets = (np.arange(SIDE) - (SIDE - 1) / 2) / np.hypot(SIDE, SIDE) * 2
    gain = 1 - 0.6 * (offsets[:, None] ** 2 + offsets[None] ** 2)[..., None]

    def vignette(image: np.ndarray, _: int) -> np.ndarray:
        return np.rint(to_display(to_linear(image.astype(np.float32)) * gain.astype(np.float32))).astype(np.uint8)

    patches = _patches(vignette)
    fitted = fit_field_filters(patches, _bases(patches), radius_px=3, linear=True)
    for patch in patches:
        assert _rms(fitted.distort(patch.pristine.astype(np.float32), 0, patch.position), patch.distorted) < 1.0


def test_noise_has_the_strength_that_belongs_to_the_luminance() -> None:
    rng = np.random.default_rng(1)

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        sigma = 2 + 6 * image.mean(-1, keepdims=True) / 255
        return np.clip(image + sigma * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = _patches(noisy, finest=3)
    bases = _bases(patches)
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

    patches = _patches(noisy, finest=3)
    variances = np.square(fit_signal_noise(patches, _bases(patches)).activity).sum(0)
    unchanged = PairPatch(patches[0].pristine, patches[0].pristine, len(patches), 0, 0, SIDE, SIDE)
    patches.append(unchanged)  # decides nothing
    with_it = np.square(fit_signal_noise(patches, _bases(patches)).activity).sum(0)
    assert with_it == pytest.approx(variances, rel=0.1)
    assert np.square(even_noise.activity).sum(0).max() < 0.01
    assert variances == pytest.approx(0.35**2, rel=0.35)


def test_rows_with_an_offset_of_their_own_are_told_from_pixel_noise(even_noise: SignalNoise) -> None:
    rng = np.random.default_rng(1)

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        offsets = 5 * rng.standard_normal((len(image), 1, 3))
        return np.clip(image + offsets + 4 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = _patches(noisy, finest=3)
    for strength, noise in ((0.0, even_noise), (5.0, fit_signal_noise(patches, _bases(patches)))):
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


@pytest.mark.parametrize("period", [2, 4])
def test_ordered_dithering_is_a_curve_for_each_phase(period: int) -> None:
    thresholds = (np.arange(period**2).reshape(period, period) + 0.5) / period**2 - 0.5

    def dithered(image: np.ndarray, _: int) -> np.ndarray:
        tiled = np.tile(thresholds, (SIDE // period + 1, SIDE // period + 1))[:SIDE, :SIDE, None]
        return np.clip(np.rint(image / 51 + tiled) * 51, 0, 255).astype(np.uint8)

    patches = _patches(dithered, finest=3)
    fitted = fit_phase_tone(patches, _bases(patches), period=period)
    for patch in patches:
        whole = fitted.distort(patch.pristine.astype(np.float32), 0)
        assert np.mean(np.rint(whole) == patch.distorted) > 0.95
        part = fitted.distort(patch.pristine[3:90, 5:80].astype(np.float32), 0, TilePosition(3, 5, SIDE, SIDE))
        assert np.array_equal(part, whole[3:90, 5:80])


@pytest.mark.parametrize("ycc", [False, True])
def test_flat_and_grey_images_tell_nothing_of_a_filter(ycc: bool) -> None:
    images = [np.full((SIDE, SIDE, 3), 90, np.uint8), np.repeat(_photographs()[0][..., :1], 3, axis=-1)]
    patches = cut_patches([(x, cv2.GaussianBlur(x, (0, 0), 1.2)) for x in images], SIDE)
    fitted = fit_filters(patches, _bases(patches), radius_px=3, per_image=True, ycc=ycc)
    for number, patch in enumerate(patches):
        assert _rms(fitted.distort(patch.pristine.astype(np.float32), number, patch.position), patch.distorted) < 1.5


def test_blurred_chroma_is_a_filter_of_y_cb_cr() -> None:
    def blurred(image: np.ndarray, _: int) -> np.ndarray:
        ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        ycc[..., 1:] = cv2.GaussianBlur(ycc[..., 1:], (0, 0), 1.2)
        return cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)

    patches = _patches(blurred, finest=5)
    of_colours, of_rgb = (fit_filters(patches, _bases(patches), radius_px=3, per_image=False, ycc=y) for y in (1, 0))
    for patch in patches:
        base = patch.pristine.astype(np.float32)
        errors = [_rms(part.distort(base, 0, patch.position), patch.distorted) for part in (of_colours, of_rgb)]
        assert errors[0] < 1.2
        assert errors[0] < 0.5 * errors[1]


def test_fields_of_activity_belong_to_the_place_and_have_unit_variance() -> None:
    whole = activity_fields(3, 0, 0, 300, 260)
    assert np.allclose(activity_fields(3, 100, 50, 150, 140), whole[100:250, 50:190], atol=1e-5)
    many = np.concatenate([activity_fields(seed, 0, 0, 256, 256).reshape(-1, 4) for seed in range(20)])
    assert many.var(0) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("quality", "subsampling"), [(90, "4:2:0"), (75, "4:4:4"), (50, "4:2:0")])
def test_pixels_betray_the_tables_of_a_jpeg(quality: int, subsampling: str) -> None:
    stage = JpegStage(*standard_tables(quality), subsampling)
    estimated = estimate_jpeg_stage([stage.encode(image) for image in _photographs()])
    assert estimated is not None
    assert (estimated.luma == stage.luma).all()
    assert estimated.subsampling == subsampling


def test_no_jpeg_is_seen_where_there_is_none() -> None:
    assert estimate_jpeg_stage(_photographs()) is None


def test_a_jpeg_file_says_its_tables(tmp_path) -> None:
    from PIL import Image

    Image.fromarray(_photographs()[0]).save(tmp_path / "x.jpg", quality=83, subsampling=2)
    estimated = read_jpeg_stage(tmp_path / "x.jpg")
    assert estimated is not None
    assert (estimated.luma == standard_tables(83)[0]).all()
    assert estimated.subsampling == "4:2:0"


def test_the_straight_through_codec_is_the_real_one_and_passes_gradients() -> None:
    tf = pytest.importorskip("tensorflow")
    stage = JpegStage(*standard_tables(75), "4:2:0")
    image = _photographs()[0]
    levels = tf.Variable(image[None].astype(np.float32))
    with tf.GradientTape() as tape:
        coded = DifferentiableJpeg(stage)(levels)
        total = tf.reduce_sum(coded)
    assert _rms(np.clip(np.rint(coded.numpy()[0]), 0, 255), stage.encode(image)) < 1.5  # 45 dB
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


def test_a_field_of_noise_belongs_to_the_place() -> None:
    whole = white_field(3, 0, 0, 300, 260, 2)
    assert (white_field(3, 100, 50, 150, 140, 2) == whole[100:250, 50:190]).all()


@pytest.fixture(scope="module")
def generator_of_all_parts(even_noise: SignalNoise) -> ComposedGenerator:
    """A generator with one of each kind of small model that acts by image, by place or at random."""
    rng = np.random.default_rng(1)
    patches = _patches(lambda image, _: np.clip(0.8 * image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    bases = _bases(patches)
    linear = (
        fit_tone(patches, bases, per_image=True),
        fit_filters(patches, bases, radius_px=2, per_image=True),
        fit_filters(patches, bases, radius_px=2, per_image=False, ycc=True),
        fit_phase_tone(patches, bases, period=3),
    )
    return ComposedGenerator(
        choices=tuple(range(IMAGES)),
        linear=linear,
        noise=replace(even_noise, stripes=np.stack([3 * np.eye(3), 2 * np.eye(3)]).astype(np.float32)),
        impulses=Impulses(np.array([[255, 255, 255], [0, -1, 9]], np.float32), rate=0.02),
        jpeg=JpegStage(*standard_tables(80), "4:2:0"),
    )


def test_a_stored_generator_generates_the_same(generator_of_all_parts: ComposedGenerator) -> None:
    again = composed_generator(*composed_arrays(generator_of_all_parts))
    image = _photographs()[0]
    first, second, other = (
        g.distort(image, 1.0, s) for g, s in zip((generator_of_all_parts, again, again), (5, 5, 6), strict=True)
    )
    assert (first == second).all()
    assert (second != other).any()


def test_tiles_of_an_image_are_places_in_the_whole(generator_of_all_parts: ComposedGenerator) -> None:
    image = np.tile(_photographs()[0], (2, 2, 1))[:300, :500]
    whole = generator_of_all_parts.distort(image, 1.0, 9)
    for y, x, height, width in ((64, 32, 160, 160), (100, 200, 200, 256), (0, 0, 300, 500), (299, 499, 1, 1)):
        tile = DistortedImage(generator_of_all_parts, image, 1.0, 9).tile(y, x, height, width)
        assert (tile == whole[y : y + height, x : x + width]).all()


def test_blocks_of_an_image_join_without_a_seam() -> None:
    patches = _patches(lambda image, _: cv2.GaussianBlur(image, (5, 5), 1.0))
    filters = fit_filters(patches, _bases(patches), radius_px=3, per_image=False)
    jpeg = JpegStage(*standard_tables(60), "4:2:0")
    generator = ComposedGenerator(linear=(filters,), jpeg=jpeg)
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()


def test_less_saturation_is_a_colour_matrix_of_the_image() -> None:
    def faded(image: np.ndarray, number: int) -> np.ndarray:
        grey = image.mean(-1, keepdims=True)
        return np.rint(grey + (0.2 + 0.2 * number) * (image - grey)).astype(np.uint8)

    patches = _patches(faded)
    fitted = fit_colour_matrix(patches, _bases(patches), per_image=True, linear=False)
    for patch in patches:
        assert _rms(fitted.distort(patch.pristine.astype(np.float32), patch.image), patch.distorted) < 0.5


def test_a_codec_acts_on_the_whole_image_behind_the_parts() -> None:
    patches = _patches(lambda image, _: 255 - image)
    tone = fit_tone(patches, _bases(patches), per_image=False)
    codec = Codec("WEBP", 40)
    generator = ComposedGenerator(linear=(tone,), codec=codec)
    image = np.tile(patches[0].pristine, (2, 2, 1))[:300, :420]
    front = ComposedGenerator(linear=(tone,)).distort(image, 1.0, 3)
    whole = generator.distort(image, 1.0, 3)
    assert (whole == codec.encode(front, np.random.default_rng(0))).all()
    assert (DistortedImage(generator, image, 1.0, 3).tile(64, 32, 160, 200) == whole[64:224, 32:232]).all()
    assert (generator.distort(image, 0.0, 3) == image).all()


def test_blocks_join_where_a_period_does_not_divide_them() -> None:
    patches = _patches(lambda image, _: cv2.blur(image, (3, 3)))
    filters = fit_phase_filters(patches, _bases(patches), period=3, per_image=False)
    generator = ComposedGenerator(linear=(filters,))
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()


def _smeared(image: np.ndarray, _: int) -> np.ndarray:
    """Return `image` without the texture that is weak beside its edges."""
    return cv2.bilateralFilter(image, 9, 25, 3)


def test_what_a_denoiser_takes_is_shrinkage_of_detail() -> None:
    patches = _patches(_smeared, finest=8)
    shrinkage = fit_shrinkage(patches, _bases(patches))
    for patch in patches:
        left = _rms(shrinkage.distort(patch.pristine.astype(np.float32)), patch.distorted)
        assert left < 0.45 * _rms(patch.pristine, patch.distorted)


def test_where_nothing_is_taken_shrinkage_changes_nothing() -> None:
    patches = _patches(lambda image, _: image)
    shrinkage = fit_shrinkage(patches, _bases(patches))
    assert _rms(shrinkage.distort(patches[0].pristine.astype(np.float32)), patches[0].pristine) < 0.01


def test_shrunk_blocks_join_without_a_seam() -> None:
    patches = _patches(_smeared, finest=8)
    generator = ComposedGenerator(linear=(fit_shrinkage(patches, _bases(patches)),))
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()
    arrays, described = composed_arrays(generator)
    assert (composed_generator(arrays, described).distort(image, 1.0, 0) == at_once).all()


def test_half_the_severity_is_half_the_change() -> None:
    patches = _patches(lambda image, _: np.clip(image * 0.5, 0, 255).astype(np.uint8))
    generator = ComposedGenerator(linear=(fit_tone(patches, _bases(patches), per_image=False),))
    image = patches[0].pristine
    change = [generator.distort(image, severity, 0).astype(float) - image for severity in (0.0, 0.5, 1.0)]
    assert not change[0].any()
    assert np.abs(change[1] - change[2] / 2).max() <= 1


def test_between_two_levels_both_changes_are_weighted_and_below_the_first_its_change_is_scaled() -> None:
    darker = [_patches(lambda image, _, share=share: (image * share).astype(np.uint8)) for share in (0.9, 0.5)]
    tones = [fit_tone(patches, _bases(patches), per_image=False) for patches in darker]
    levels = [ComposedGenerator(linear=(tone,)) for tone in tones]
    image = darker[0][0].pristine
    predictor = ComposedPredictor(levels, batch_size=4)
    weak, strong, between, half = predictor.distort(np.stack([image] * 4), [5] * 4, [0.5, 1.0, 0.75, 0.25]).astype(int)
    assert (weak == levels[0].distort(image, 1.0, 5)).all()
    assert (strong == levels[1].distort(image, 1.0, 5)).all()
    assert np.abs(between - (weak + strong) / 2).max() <= 0.5
    assert np.abs(half - (image + weak) / 2).max() <= 1
    assert (predictor.distort_image(image, 5, 0.0) == image).all()
    predictor.set_sources({7: TileSource("photograph", lambda: image, 16, 32, 5)})
    tile = image[16:80, 32:96]
    assert (predictor.distort_image(tile, 7, 0.75) == between[16:80, 32:96]).all()


def test_levels_come_back_from_their_arrays() -> None:
    patches = _patches(lambda image, _: cv2.blur(image, (3, 3)))
    tone = fit_tone(patches, _bases(patches), per_image=False)
    levels = (ComposedGenerator(linear=(tone,)), ComposedGenerator(linear=(tone, tone), codec=Codec("WEBP", 40)))
    again = composed_levels(*levels_arrays(levels))
    image = patches[0].pristine
    for before, after in zip(levels, again, strict=True):
        assert (before.distort(image, 1.0, 3) == after.distort(image, 1.0, 3)).all()


def test_the_codec_that_was_used_is_found_with_its_quality() -> None:
    codec = Codec("WEBP", 20)
    pairs = [(image, codec.encode(image, np.random.default_rng(0))) for image in _corners()]
    errors = dict(related_codecs(pairs))
    assert errors[codec] == 0.0
    assert min(errors, key=errors.__getitem__) == codec


def test_noise_is_related_to_no_codec() -> None:
    rng = np.random.default_rng(0)
    pairs = [(x, np.clip(x + rng.normal(0, 8, x.shape), 0, 255).astype(np.uint8)) for x in _photographs()]
    assert not dict(related_codecs(pairs))


def test_frames_of_videos_are_coded_if_ffmpeg_is_here() -> None:
    pytest.importorskip("av")
    image = _photographs()[0][:101, :99]
    still, panned = (Codec("MPEG-2", 8, panned).encode(image, np.random.default_rng(1)) for panned in (False, True))
    assert still.shape == panned.shape == image.shape
    assert 1 < _rms(still, image) < 20
    assert (still != panned).any()


def test_a_model_of_a_video_codec_says_what_it_needs(monkeypatch) -> None:
    monkeypatch.setattr("distort_pipeline.networks.codec_bank.importlib.util.find_spec", lambda _: None)
    with pytest.raises(PipelineError, match=r"pip install '\.\[video\]'"):
        Codec("H.264", 30).encode(_photographs()[0], np.random.default_rng(0))


def test_impulses_are_found_and_strike_as_often_as_they_did() -> None:
    rng = np.random.default_rng(1)

    def struck(image: np.ndarray, _: int) -> np.ndarray:
        noisy = np.clip(image + 3 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)
        noisy[rng.random(image.shape[:2]) < 0.03] = [255, 0, 0]
        return noisy

    def noisy(image: np.ndarray, _: int) -> np.ndarray:
        return np.clip(image + 18 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)

    patches = _patches(struck, finest=3)
    impulses = find_impulses(patches)
    assert impulses is not None
    assert impulses.rate == pytest.approx(0.03, rel=0.15)
    for patch, cleaned in zip(patches, without_impulses(patches), strict=True):
        assert _rms(cleaned.distorted.astype(np.float32), patch.pristine) < 6
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
        assert find_impulses(_patches(change, finest=3)) is None


@pytest.mark.parametrize("name", ["GIF", "GIF, dithered"])
def test_palettes_are_codecs_of_as_many_colours_as_are_seen(name: str) -> None:
    codec = Codec(name, 19)
    rng = np.random.default_rng(0)
    images = _corners()[:3]
    found = dict(related_codecs([(image, codec.encode(image, rng)) for image in images]))
    assert found[codec] == 0
