"""Generators composed of small models: stored, by tiles, by levels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic_pairs import IMAGES, bases_of, moved_squares, pairs_of, photographs

from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.colour import fit_phase_tone, fit_rank_tone, fit_tone
from distort_pipeline.networks.composed import ComposedGenerator, ComposedPredictor, DistortedImage, TileSource
from distort_pipeline.networks.diffusion import fit_diffusion
from distort_pipeline.networks.displacement import Displacement
from distort_pipeline.networks.earlier_jpeg import EarlierJpeg
from distort_pipeline.networks.filters import (
    fit_filters,
    fit_phase_filters,
)
from distort_pipeline.networks.impulses import Impulses
from distort_pipeline.networks.jpeg_stage import (
    JpegStage,
    standard_tables,
)
from distort_pipeline.networks.patches import TilePosition
from distort_pipeline.networks.regions import find_regions
from distort_pipeline.networks.saved import composed_arrays, composed_generator, composed_levels, levels_arrays
from distort_pipeline.networks.signal_noise import SignalNoise
from distort_pipeline.networks.wide import fit_blurs, fit_local_tone
from distort_pipeline.records import make_rng


@pytest.fixture(scope="module")
def generator_of_all_parts(even_noise: SignalNoise) -> ComposedGenerator:
    """A generator with one of each kind of small model that acts by image, by place or at random."""
    rng = np.random.default_rng(1)
    patches = pairs_of(lambda image, _: np.clip(0.8 * image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    bases = bases_of(patches)
    linear = (
        fit_tone(patches, bases, per_image=True),
        fit_filters(patches, bases, radius_px=2, per_image=True),
        fit_filters(patches, bases, radius_px=2, per_image=False, ycc=True),
        fit_phase_tone(patches, bases, period=3),
        fit_rank_tone(patches, bases, form="ranks", of="luma"),
        fit_blurs(patches, bases),
        fit_local_tone(patches, bases, sigma_px=6.0),
        fit_diffusion(patches, bases, coupled=True),
        EarlierJpeg(np.array([[3, 13]], np.int32), 40),
    )
    squares = pairs_of(lambda image, number: moved_squares(image, make_rng(number)))
    return ComposedGenerator(
        choices=tuple(range(IMAGES)),
        linear=linear,
        displacement=Displacement("rows", 1.5),
        noise=replace(even_noise, stripes=np.stack([3 * np.eye(3), 2 * np.eye(3)]).astype(np.float32)),
        impulses=Impulses(np.array([[255, 255, 255], [0, -1, 9]], np.float32), rate=0.02),
        regions=find_regions(squares),
        jpeg=JpegStage(*standard_tables(80), "4:2:0"),
    )


def test_a_stored_generator_generates_the_same(generator_of_all_parts: ComposedGenerator) -> None:
    again = composed_generator(*composed_arrays(generator_of_all_parts))
    image = photographs()[0]
    first, second, other = (
        g.distort(image, 1.0, s) for g, s in zip((generator_of_all_parts, again, again), (5, 5, 6), strict=True)
    )
    assert (first == second).all()
    assert (second != other).any()


def test_tiles_of_an_image_are_places_in_the_whole(generator_of_all_parts: ComposedGenerator) -> None:
    image = np.tile(photographs()[0], (2, 2, 1))[:300, :500]
    whole = generator_of_all_parts.distort(image, 1.0, 9)
    for y, x, height, width in ((64, 32, 160, 160), (100, 200, 200, 256), (0, 0, 300, 500), (299, 499, 1, 1)):
        tile = DistortedImage(generator_of_all_parts, image, 1.0, 9).tile(y, x, height, width)
        assert (tile == whole[y : y + height, x : x + width]).all()


def test_blocks_of_an_image_join_without_a_seam() -> None:
    patches = pairs_of(lambda image, _: cv2.GaussianBlur(image, (5, 5), 1.0))
    filters = fit_filters(patches, bases_of(patches), radius_px=3, per_image=False)
    jpeg = JpegStage(*standard_tables(60), "4:2:0")
    generator = ComposedGenerator(linear=(filters,), jpeg=jpeg)
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()


def test_a_codec_acts_on_the_whole_image_behind_the_parts() -> None:
    patches = pairs_of(lambda image, _: 255 - image)
    tone = fit_tone(patches, bases_of(patches), per_image=False)
    codec = Codec("WEBP", 40)
    generator = ComposedGenerator(linear=(tone,), codec=codec)
    image = np.tile(patches[0].pristine, (2, 2, 1))[:300, :420]
    front = ComposedGenerator(linear=(tone,)).distort(image, 1.0, 3)
    whole = generator.distort(image, 1.0, 3)
    assert (whole == codec.encode(front, np.random.default_rng(0))).all()
    assert (DistortedImage(generator, image, 1.0, 3).tile(64, 32, 160, 200) == whole[64:224, 32:232]).all()
    assert (generator.distort(image, 0.0, 3) == image).all()


def test_blocks_join_where_a_period_does_not_divide_them() -> None:
    patches = pairs_of(lambda image, _: cv2.blur(image, (3, 3)))
    filters = fit_phase_filters(patches, bases_of(patches), period=3, per_image=False)
    generator = ComposedGenerator(linear=(filters,))
    image = np.tile(patches[0].pristine, (2, 2, 1))
    at_once = generator.distort_part(image, 1.0, 0, TilePosition(0, 0, *image.shape[:2]))
    assert (generator.distort(image, 1.0, 0) == at_once).all()


def test_half_the_severity_is_half_the_change() -> None:
    patches = pairs_of(lambda image, _: np.clip(image * 0.5, 0, 255).astype(np.uint8))
    generator = ComposedGenerator(linear=(fit_tone(patches, bases_of(patches), per_image=False),))
    image = patches[0].pristine
    change = [generator.distort(image, severity, 0).astype(float) - image for severity in (0.0, 0.5, 1.0)]
    assert not change[0].any()
    assert np.abs(change[1] - change[2] / 2).max() <= 1


def test_between_two_levels_both_changes_are_weighted_and_below_the_first_its_change_is_scaled() -> None:
    darker = [pairs_of(lambda image, _, share=share: (image * share).astype(np.uint8)) for share in (0.9, 0.5)]
    tones = [fit_tone(patches, bases_of(patches), per_image=False) for patches in darker]
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
    patches = pairs_of(lambda image, _: cv2.blur(image, (3, 3)))
    tone = fit_tone(patches, bases_of(patches), per_image=False)
    levels = (ComposedGenerator(linear=(tone,)), ComposedGenerator(linear=(tone, tone), codec=Codec("WEBP", 40)))
    again = composed_levels(*levels_arrays(levels))
    image = patches[0].pristine
    for before, after in zip(levels, again, strict=True):
        assert (before.distort(image, 1.0, 3) == after.distort(image, 1.0, 3)).all()
