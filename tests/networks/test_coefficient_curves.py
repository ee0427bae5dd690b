from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from distort_pipeline.networks.codec_prior import CODEC_PRIORS, UPWARDS, knot_indices, shares_in, significance_in
from distort_pipeline.networks.layers import CoefficientCurves
from distort_pipeline.networks.wavelets import PHASES
from distort_pipeline.training.fit_curves import in_half_units


def built(codec_prior):
    layer = CoefficientCurves(codec_prior)
    layer.build((None, None, None, 3))
    return layer


def staircase(layer, band):
    """Curves that round every coefficient of a band to whole steps."""
    curves = layer.codec_prior.curves[band]
    steps = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
    sets = layer.curves[band].shape[0] // layer.levels
    return np.tile(np.rint(steps) - steps, (sets, curves.count, 1)).astype(np.float32)


def normalize_floats(levels_8bit):
    return levels_8bit / np.float32(127.5) - 1


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("codec_prior", sorted(CODEC_PRIORS))
def test_before_a_fit_nothing_changes(codec_prior):
    assert not np.any(built(codec_prior)(images(2, 128, 128, 3)))


@pytest.mark.parametrize("codec_prior", sorted(CODEC_PRIORS))
def test_curves_that_cancel_every_coefficient_leave_mid_grey(codec_prior):
    layer = built(codec_prior)
    for variable, curves in zip(layer.curves, layer.codec_prior.curves, strict=True):
        knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
        variable.assign(np.tile(-knots, (variable.shape[0], curves.count, 1)).astype(np.float32))
    if layer.codec_prior.scaled:
        layer.log_shares.assign([[np.log(1e-3).astype(np.float32)]])  # so that no coefficient is beyond the last knot
    else:
        for variable in layer.log_steps:
            variable.assign(np.full(variable.shape, np.log(300.0), np.float32))
    x = images(1, 128, 128, 3) * 0.5
    np.testing.assert_allclose(
        x + np.asarray(layer(x)), (0.5 + UPWARDS) / 127.5, atol=1e-3
    )  # coefficients are 0 at 128


def test_a_staircase_of_one_coefficient_rounds_that_coefficient():
    layer = built("dct")
    layer.curves[0].assign(staircase(layer, 0))
    layer.log_steps[0].assign(np.full((1, 64), np.log(64.0), np.float32))
    grey = np.full((1, 128, 128, 3), 129, np.float32)  # one level above 128: 8 in the DCT's scale, an eighth of a step
    grey[:, :, 64:] = 133  # 40 rounds up to 64, eight levels
    distorted = 127.5 + 127.5 * (normalize_floats(grey) + np.asarray(layer(normalize_floats(grey))))
    np.testing.assert_allclose(distorted[:, :, :64], 128 + UPWARDS, atol=1e-3)
    np.testing.assert_allclose(distorted[:, :, 64:], 136 + UPWARDS, atol=1e-3)


def test_the_step_is_the_magnitude_reached_by_the_level_s_share_of_coefficients():
    layer = CoefficientCurves("dwt97", 3)
    layer.build(None)
    layer.log_shares.assign(np.log(np.array([[0.2], [0.05], [0.01]], np.float32)))
    x = 0.2 * images(2, 128, 128, 3)
    bands = layer.analyse(x)
    sizes = np.sort(np.abs(np.concatenate([np.asarray(band)[1].ravel() for band in bands])))[::-1]
    for level, share in enumerate((0.2, 0.05, 0.01)):
        steps = layer.scale(shares_in(bands), np.eye(3, dtype=np.float32)[[level]])
        assert steps.shape == (2, 1)
        assert np.asarray(steps)[1].item() == pytest.approx(sizes[int(share * len(sizes))], rel=0.1)
    half_way = np.asarray(layer.scale(shares_in(bands), np.array([[0.5, 0.5, 0]], np.float32)))[1].item()
    assert half_way == pytest.approx(sizes[int(0.1 * len(sizes))], rel=0.1)


def test_a_tile_is_distorted_as_a_part_of_its_image():
    layer, with_stats = CoefficientCurves("dwt97"), CoefficientCurves("dwt97", image_stats=True)
    for curves in (layer, with_stats):
        curves.build(None)
        curves.log_shares.assign([[np.log(0.02).astype(np.float32)]])
        for band, variable in enumerate(curves.curves):
            variable.assign(staircase(curves, band))
    image = np.concatenate([0.02 * images(1, 128, 128, 3), 0.5 * images(1, 128, 128, 3, seed=1)], axis=2)
    image_significance = significance_in(layer.analyse(image))
    tile = image[:, :, :128]
    alone, as_part, of_itself = (
        np.abs(np.asarray(difference)).mean()
        for difference in (
            layer(tile),
            with_stats([tile, image_significance]),
            with_stats([tile, significance_in(layer.analyse(tile))]),
        )
    )
    assert of_itself == pytest.approx(alone, rel=1e-4)
    assert as_part > 1.3 * alone  # the rest of the image needs the bytes: hardly anything of this tile is kept


def test_from_one_plane_to_the_next_there_is_no_jump(monkeypatch):
    layer = CoefficientCurves("dwt97", image_stats=True)
    layer.build(None)
    for variable in layer.curves:
        _, count, knots = variable.shape
        curves = np.zeros((1, count, knots), np.float32)  # within a unit of 0, as both sets have to reach it
        curves[..., knots // 2 - 20 : knots // 2 + 21] = np.random.default_rng(0).uniform(-1, 1, 41)
        variable.assign(np.concatenate([curves] * PHASES + [in_half_units(curves)]))
    residuals = []
    for step in (15.99, 16.01):
        monkeypatch.setattr(layer, "scale", lambda *_, step=step: np.full((1, 1), step, np.float32))
        residuals.append(np.asarray(layer([0.3 * images(1, 128, 128, 3), np.ones((1, 18), np.float32)])))
    largest = np.abs(residuals[0]).max()
    assert largest > 0.01
    np.testing.assert_allclose(*residuals, atol=0.01 * largest)


def test_values_are_placed_between_knots_and_beyond_them_the_last_step_repeats():
    values = np.array([-99.25, -1.0, 0.0, 0.75, 2.0, 99.5], np.float32)
    index, fraction = (np.asarray(array) for array in knot_indices(values, spacing=0.5, knots=9))
    np.testing.assert_allclose(0.5 * (index + fraction) - 2, [-1.25, -1, 0, 0.75, 2, 1.5], atol=1e-3)


def quantisation_tables(jpeg):
    """The tables (2, 64) of steps in a JPEG file, luma's and colour's, row by row."""
    zigzag = sorted(range(64), key=lambda n: (n // 8 + n % 8, (n // 8, n % 8)[(n // 8 + n % 8) % 2 == 0]))
    tables, start = [], 0
    while (start := jpeg.find(b"\xff\xdb", start) + 2) > 1:
        length = int.from_bytes(jpeg[start : start + 2], "big")
        for first in range(start + 2, start + length, 65):
            table = np.empty(64)
            table[zigzag] = list(jpeg[first + 1 : first + 65])
            tables.append(table)
    return np.stack(tables)


def test_with_a_codec_s_quantisation_steps_dct_integer_is_the_codec():
    path = next(iter(sorted((Path(__file__).parents[2] / "data" / "sample").glob("*Sunset-Hills*"))))
    image = cv2.imread(str(path))[:256, :512]
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 24])
    luma, colour = quantisation_tables(encoded.tobytes())
    true = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    layer = built("dct_integer")
    for band in range(3):
        layer.curves[band].assign(staircase(layer, band))
        layer.log_steps[band].assign(np.log([luma if band == 0 else colour], dtype=np.float32))
    for band in (3, 4):  # the loss by downsampling
        curves = layer.codec_prior.curves[band]
        knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
        layer.curves[band].assign(-knots[None, None].astype(np.float32))
        layer.log_steps[band].assign(np.full((1, 1), np.log(300.0), np.float32))
    x = normalize_floats(image[None, ..., ::-1].astype(np.float32))
    generated = np.rint(127.5 * (1 + x + np.asarray(layer(x))))[0].clip(0, 255)
    assert (generated == true).mean() > 0.95  # the codec's own DCT rounds as well, and so changes a few coefficients


def test_between_two_levels_a_staircase_has_steps_in_between():
    layer = CoefficientCurves("dct", 2)
    layer.build(None)
    layer.curves[0].assign(np.concatenate([staircase(layer, 0)] * 2))
    layer.log_steps[0].assign(np.log(np.array([64 * [32.0], 64 * [128.0]], np.float32)))
    grey = normalize_floats(np.full((3, 128, 128, 3), 128 + 9, np.float32))  # 72 in the DCT's scale
    severities = np.array([[0.5], [0.75], [1.0]], np.float32)  # steps of 32, 64 and 128
    distorted = 127.5 + 127.5 * (grey + np.asarray(layer([grey, severities])))
    np.testing.assert_allclose(distorted[:, 0, 0, 0] - 128, [64 / 8, 64 / 8, 128 / 8], atol=2 * UPWARDS)


def test_below_the_first_level_steps_shrink_to_the_identity():
    layer = CoefficientCurves("dct", 2)
    layer.build(None)
    layer.curves[0].assign(np.concatenate([staircase(layer, 0)] * 2))
    layer.log_steps[0].assign(np.log(np.array([64 * [32.0], 64 * [128.0]], np.float32)))
    x = images(4, 128, 128, 3)
    severities = np.array([[0.0], [0.125], [0.25], [0.5]], np.float32)
    changes = np.abs(np.asarray(layer([x, severities]))).max((1, 2, 3))
    assert changes[0] < 1e-3
    assert (np.diff(changes) > 0).all()


def test_dct_integer_keeps_a_pristine_image_at_severity_0():
    layer = CoefficientCurves("dct_integer", 2)
    layer.build(None)
    layer.curves[0].assign(np.concatenate([staircase(layer, 0)] * 2))
    layer.log_steps[0].assign(np.log(np.array([64 * [32.0], 64 * [128.0]], np.float32)))
    changes = np.asarray(layer([images(2, 128, 128, 3), np.array([[0.0], [0.5]], np.float32)]))
    assert not changes[0].any()
    assert changes[1].any()


def test_it_is_rebuilt_from_its_configuration_without_code():
    layer = built("dwt97")
    rebuilt = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(rebuilt.codec_prior) is type(layer.codec_prior)
    assert not layer.trainable_variables


def test_downsampled_colour_is_recovered_from_upsampled_and_both_analyses_synthesise_the_same():
    codec_prior = CODEC_PRIORS["dct"]
    rng = np.random.default_rng(0)
    bands = [
        np.zeros((1, *shape), np.float32) for shape in ((16, 16, 64), (8, 8, 64), (8, 8, 64), *2 * [(128, 128, 1)])
    ]
    bands[1][...] = rng.normal(0, 10, bands[1].shape) * (np.arange(64) < 3)  # smooth colour, whole blocks of it
    planes = np.asarray(codec_prior.synthesise(bands))
    for analysis, nearness in ((codec_prior.recover, 0.05), (codec_prior.analyse, np.inf)):
        recovered = [np.asarray(band) for band in analysis(planes)]
        assert max(np.abs(a - b).max() for a, b in zip(recovered, bands, strict=True)) < nearness
        np.testing.assert_allclose(codec_prior.synthesise(recovered), planes, atol=1e-3)
    assert np.abs(np.asarray(codec_prior.analyse(planes)[1]) - bands[1]).max() > 1
