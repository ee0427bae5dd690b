from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from distort_pipeline.data.images import decode
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.networks.codec_prior import TO_RGB
from distort_pipeline.networks.layers import CoefficientCurves
from distort_pipeline.networks.wavelets import log_sizes, significance_of
from distort_pipeline.records import LEVELS_PER_UNIT, denormalize, normalize
from distort_pipeline.training.fit_codec import CONDITIONAL_MEAN, explained_by, fit_best

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
TILE_PX = 256
MEAN_ONLY = (CONDITIONAL_MEAN,)  # for what the shrinkage gain does not change: its choice takes most of a fit's time
PARAMETERS = {"jpeg": {"quality": 12}, "white_noise": {"sigma_8bit": 19.0}, "jp2k": {"ratio": 150.0}}


@pytest.fixture(scope="module")
def full_images():
    """All photographs of the sample."""
    return [decode(path.read_bytes())[0] for path in sorted(SAMPLE.glob("*.png"))]


@pytest.fixture(scope="module")
def sample_images(full_images):
    """Crops of twelve photographs."""
    return [image[:512, :704] for image in full_images[:12]]


def tiles_of(sample_images, distortion):
    """A pristine and a distorted tile of each photograph, the distortion applied to the whole of it."""
    rng = np.random.default_rng(0)
    distorted = [apply(distortion, image, PARAMETERS[distortion], rng).image for image in sample_images]
    return np.stack([p[:TILE_PX, :TILE_PX] for p in sample_images]), np.stack(
        [d[:TILE_PX, :TILE_PX] for d in distorted]
    )


@pytest.mark.parametrize(("distortion", "codec_prior"), [("jpeg", "dct_integer"), ("white_noise", "none")])
def test_the_codec_prior_that_explains_a_distortion_is_chosen(sample_images, distortion, codec_prior):
    pristine, distorted = tiles_of(sample_images[:6], distortion)
    fitted = fit_best(pristine, [distorted], [str(index) for index in range(len(pristine))], None, MEAN_ONLY)
    assert fitted.codec_prior == codec_prior
    assert bool(fitted.weights) == (codec_prior != "none")


def test_curves_fitted_to_jpeg_generalise_to_unseen_photographs(sample_images):
    pristine, distorted = tiles_of(sample_images, "jpeg")
    fitted = fit_best(pristine[:8], [distorted[:8]], [str(index) for index in range(8)], "dct", MEAN_ONLY)
    generated = explained_by(fitted, pristine[8:], [str(index) for index in range(8, len(pristine))])
    scores = [
        jsd_bits(product_histogram(y), product_histogram(m)) for y, m in zip(distorted[8:], generated, strict=True)
    ]
    identity = [
        jsd_bits(product_histogram(y), product_histogram(m)) for y, m in zip(distorted[8:], pristine[8:], strict=True)
    ]
    assert np.mean(scores) < 0.005 < np.mean(identity)


def test_tiles_of_an_image_share_its_step_and_generalise_to_unseen_photographs(full_images):
    wide = [image for image in full_images if image.shape[1] >= 640][:12]
    distorted = [apply("jp2k", image, PARAMETERS["jp2k"], None).image for image in wide]
    names = [str(index // 2) for index in range(2 * len(wide))]

    def two_tiles(images):
        return np.stack([image[:256, side : side + 256] for image in images for side in (0, 384)])

    pristine, true = two_tiles(wide), two_tiles(distorted)
    seen = 2 * (len(wide) - 4)
    fitted = fit_best(pristine[:seen], [true[:seen]], names[:seen], "dwt97", MEAN_ONLY)
    assert 0.002 < np.exp(fitted.weights["log_shares"]).item() < 0.05
    generated, alone = (
        explained_by(fitted, pristine[seen:], owners) for owners in (names[seen:], list(map(str, range(8))))
    )
    errors = [np.square(tiles.astype(float) - true[seen:]).mean() for tiles in (generated, alone, pristine[seen:])]
    assert errors[0] < errors[1] < errors[2]


@lru_cache(maxsize=1)
def _wavelet():
    layer = CoefficientCurves("dwt97")
    layer.build(None)
    return layer


def cut_at_planes(image, share, colour=1):
    """An image after a bit plane coder: coefficients below the power of two nearest to its step are 0.

    Below `colour` times as much in both colour differences.
    """
    layer = _wavelet()
    x = normalize(image[None])
    bands = [np.asarray(band) for band in layer.analyse(x)]
    step = np.exp(log_sizes(significance_of(image)[None], np.log([share], dtype=np.float32), np)).item()
    plane = 2.0 ** round(np.log2(step)) * np.array([1, colour, colour])
    lost = [np.where(np.abs(band) < plane, -band, 0) for band in bands[:-1]]
    levels_8bit = np.asarray(layer.codec_prior.synthesise([*lost, 0 * bands[-1]])) @ np.asarray(TO_RGB).T
    return denormalize(x + levels_8bit / LEVELS_PER_UNIT)[0]


@dataclass(frozen=True)
class Unseen:
    """Tiles that the fit has not seen, the true and the generated ones of each level."""

    pristine: np.ndarray
    levels: list[tuple[np.ndarray, np.ndarray]]
    weights: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def cut(full_images):
    """A fit to images cut at two levels, the second of which spends less on colour, and what it makes of others."""
    tiles = np.stack([image[:320, :320] for image in full_images])
    levels = [np.stack([cut_at_planes(tile, *how) for tile in tiles]) for how in ((0.04, 1), (0.01, 2))]
    names = [str(index) for index in range(len(tiles))]
    fitted = fit_best(tiles[:14], [level[:14] for level in levels], names[:14], "dwt97", MEAN_ONLY)
    pairs = [
        (true[14:], explained_by(fitted, tiles[14:], names[14:], level=level, levels=2))
        for level, true in enumerate(levels, start=1)
    ]
    return Unseen(tiles[14:].astype(float), pairs, fitted.weights)


def test_cuts_at_bit_planes_are_learned_from_images_at_many_phases_of_an_octave(cut):
    for true, generated in cut.levels:
        assert np.square(generated.astype(float) - true).mean() < 0.1 * np.square(cut.pristine - true).mean()


def test_a_level_that_spends_less_on_colour_gets_larger_steps_there_and_as_much_power(cut):
    offsets = np.stack([cut.weights[f"log_offsets_{band:02d}"] for band in range(3, 12)])  # (bands, levels, 3)
    luma, colour = offsets[..., 0].mean(0), offsets[..., 1:].mean((0, 2))
    assert colour[1] - luma[1] > colour[0] - luma[0] + 0.1
    for each in cut.levels:
        power = [np.square(np.diff(image - cut.pristine, axis=-1)).mean((1, 2, 3)) for image in each]  # of colours
        assert abs(np.mean(10 * np.log10(power[1] / power[0]))) < 1.5


@pytest.mark.parametrize(("distortion", "amplified"), [("jpeg", False), ("jp2k", True)])
def test_the_shrinkage_gain_is_above_0_where_the_mean_is_unlike_any_outcome(sample_images, distortion, amplified):
    pristine, distorted = tiles_of(sample_images[:6], distortion)
    names = [str(index) for index in range(6)]
    fitted = fit_best(pristine, [distorted], names, "dct_integer")
    assert (fitted.shrinkage_gain > 0) == amplified


def test_a_fit_is_the_same_every_time(sample_images):
    pristine, distorted = tiles_of(sample_images[:4], "jpeg")
    names = ["a", "a", "b", "c"]
    first, repeated = (fit_best(pristine, [distorted], names, "dwt97", MEAN_ONLY) for _ in range(2))
    assert first.weights.keys() == repeated.weights.keys()
    assert all(np.array_equal(first.weights[name], repeated.weights[name]) for name in first.weights)


def test_without_a_codec_prior_nothing_is_fitted():
    assert (
        fit_best(np.zeros((0, 128, 128, 3), np.uint8), [np.zeros((0, 128, 128, 3), np.uint8)], [], "none").weights == {}
    )


def test_steps_are_those_that_a_codec_counts_in(sample_images):
    distorted = [apply("jpeg", image, {"quality": 24}, None).image for image in sample_images]
    fitted = fit_best(
        np.stack([p[:TILE_PX, :TILE_PX] for p in sample_images]),
        [np.stack([d[:TILE_PX, :TILE_PX] for d in distorted])],
        [str(index) for index in range(len(sample_images))],
        "dct",
        MEAN_ONLY,
    )
    # libjpeg's luma table at quality 24, scaled by 5000 / 24 %: its corner (0, 0), (0, 1), (0, 2) and (1, 0)
    np.testing.assert_allclose(np.exp(fitted.weights["log_steps_00"][0, [0, 1, 2, 8]]), [33, 23, 21, 25], rtol=0.01)


def test_several_levels_are_fitted_at_once_and_the_interpolation_is_nearer_than_both(sample_images):
    levels = (24, 17, 12)
    tiles = {
        q: [apply("jpeg", p, {"quality": q}, None).image[:TILE_PX, :TILE_PX] for p in sample_images] for q in levels
    }
    pristine = np.stack([p[:TILE_PX, :TILE_PX] for p in sample_images])
    names = [str(n) for n in range(8)]
    fitted = fit_best(pristine[:8], [np.stack(tiles[q][:8]) for q in (24, 12)], names, "dct", MEAN_ONLY)
    layer = CoefficientCurves("dct", 2)
    layer.build(None)
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    x, true = normalize(pristine[8:]), np.stack(tiles[17][8:])
    scores = []
    for severity in (0.5, 0.75, 1.0):
        generated = denormalize(x + np.asarray(layer([x, np.full((len(x), 1), severity, np.float32)])))
        scores.append(np.square(generated.astype(float) - true).mean())
    assert scores[1] < 0.8 * min(scores[0], scores[2])
