from pathlib import Path

import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.networks.responses import Responses
from distort_pipeline.ranges import from_network, to_network
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.stores.pictures import decode
from distort_pipeline.training.response_fit import BOLDNESS, CurveFit, explained_by, fit_best, settled_steps

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
PARAMETERS = {"jpeg": {"quality": 12}, "white_noise": {"sigma_grey": 19.0}, "jp2k": {"ratio": 150.0}}


@pytest.fixture(scope="module")
def photographs():
    return [decode(path.read_bytes())[0] for path in sorted(SAMPLE.glob("*.png"))]


def tiles_of(photographs, distortion):
    """A pristine and a distorted tile of each photograph, the distortion applied to the whole of it."""
    rng = np.random.default_rng(0)
    distorted = [apply(distortion, picture, PARAMETERS[distortion], rng).picture for picture in photographs]
    return np.stack([p[:384, :384] for p in photographs]), np.stack([d[:384, :384] for d in distorted])


def test_a_curve_through_straight_lines_is_found_again():
    rng = np.random.default_rng(0)
    values = rng.uniform(-4, 4, (1, 50, 50, 2)).astype(np.float32)
    wanted = np.stack([np.abs(values[..., 0]), -0.5 * values[..., 1]], -1)
    fit = CurveFit(2, 9, 1.0)
    fit.add(values, wanted)
    knots = np.arange(9) - 4.0
    np.testing.assert_allclose(fit.solve(), [np.abs(knots), -0.5 * knots], atol=0.05)  # the ridge pulls towards 0


def test_where_nothing_was_seen_nothing_changes():
    fit = CurveFit(1, 101, 1.0)
    fit.add(np.full((1, 1, 10, 1), 3.0, np.float32), np.ones((1, 1, 10, 1), np.float32))
    curve = fit.solve()[0]
    assert curve[53] > 0.9
    assert not np.any(np.delete(curve, [53, 54]))


def test_what_happens_to_half_of_the_coefficients_is_told_boldly_and_never_more_than_they_are():
    values = np.full((1, 1, 2000, 1), 3.0, np.float32)
    gone = np.where(np.arange(2000) % 2, 0.0, -3.0).reshape(values.shape).astype(np.float32)
    fit = CurveFit(1, 9, 1.0)
    fit.add(values, gone)
    mean, bold = fit.solve()[0, 7], fit.bold()[0, 7]
    assert mean == pytest.approx(-1.5, abs=0.01)
    assert bold == pytest.approx(-1.5 + BOLDNESS * (1.5 - 3 / 2**0.5), abs=0.01)
    assert (np.abs(fit.bold()[0]) <= np.abs(np.arange(9) - 4)).all()


@pytest.mark.parametrize(("step", "told"), [(1.0, True), (1.2, False)])
def test_steps_that_were_hardly_seen_are_like_the_others_unless_those_disagree(step, told):
    rng = np.random.default_rng(0)
    values = rng.uniform(-3.5, 3.5, (1, 100, 100, 1)).astype(np.float32)
    values = values[(values < 1.5) | (values > 2.5)].reshape(1, 1, -1, 1)  # one step was never seen
    fit = CurveFit(1, 8 * 16 + 1, 1 / 16)
    fit.add(values, (step * np.rint(values / step) - values).astype(np.float32))
    places = np.arange(8 * 16 + 1) / 16 - 4
    unseen = (places > 1.6) & (places < 2.4)
    assert np.abs(fit.solve()[0, unseen]).max() < 0.01
    if told:
        np.testing.assert_allclose(fit.repeated()[0, unseen], 2 - places[unseen], atol=0.05)
    else:
        np.testing.assert_array_equal(fit.repeated(), fit.solve())


@pytest.mark.parametrize(("distortion", "transform"), [("jpeg", "blocks"), ("white_noise", "none")])
def test_the_transform_that_explains_a_distortion_is_chosen(photographs, distortion, transform):
    pristine, distorted = tiles_of(photographs, distortion)
    fitted = fit_best(pristine, [distorted], [str(place) for place in range(len(pristine))], None)
    assert fitted.transform == transform
    assert bool(fitted.weights) == (transform != "none")


def test_responses_fitted_to_jpeg_carry_over_to_photographs_they_never_saw(photographs):
    pristine, distorted = tiles_of(photographs, "jpeg")
    fitted = fit_best(pristine[:14], [distorted[:14]], [str(place) for place in range(14)], "blocks")
    made = explained_by(fitted, pristine[14:])
    scores = [jsd_bits(product_histogram(y), product_histogram(m)) for y, m in zip(distorted[14:], made, strict=True)]
    nothing = [
        jsd_bits(product_histogram(y), product_histogram(m)) for y, m in zip(distorted[14:], pristine[14:], strict=True)
    ]
    assert np.mean(scores) < 0.02 < np.mean(nothing)


def test_a_fit_is_the_same_every_time(photographs):
    pristine, distorted = tiles_of(photographs[:4], "jpeg")
    names = ["a", "a", "b", "c"]
    first, again = (fit_best(pristine, [distorted], names, "wavelet") for _ in range(2))
    assert first.weights.keys() == again.weights.keys()
    assert all(np.array_equal(first.weights[name], again.weights[name]) for name in first.weights)


def test_without_a_wish_for_responses_nothing_is_fitted():
    assert (
        fit_best(np.zeros((0, 128, 128, 3), np.uint8), [np.zeros((0, 128, 128, 3), np.uint8)], [], "none").weights == {}
    )


def test_steps_are_those_that_a_codec_counts_in(photographs):
    distorted = [apply("jpeg", picture, {"quality": 24}, None).picture for picture in photographs]
    fitted = fit_best(
        np.stack([p[:384, :384] for p in photographs]),
        [np.stack([d[:384, :384] for d in distorted])],
        [str(place) for place in range(len(photographs))],
        "blocks",
    )
    # libjpeg's luma table at quality 24, scaled by 5000 / 24 %: its corner (0, 0), (0, 1), (0, 2) and (1, 0)
    np.testing.assert_allclose(np.exp(fitted.weights["log_steps_00"][0]), [33], rtol=0.1)
    np.testing.assert_allclose(np.exp(fitted.weights["log_steps_01"][0, [0, 1, 7]]), [23, 21, 25], rtol=0.1)


def test_a_step_that_was_not_seen_at_one_level_is_told_by_the_others():
    log_steps = np.log(np.array([[10, 20, 30], [20, 40, 50]], np.float32))
    seen = np.array([[True, True, True], [True, True, False]])
    np.testing.assert_allclose(np.exp(settled_steps(log_steps, seen)), [[10, 20, 30], [20, 40, 60]], rtol=1e-5)


def test_several_levels_are_fitted_at_once_and_what_lies_between_is_nearer_than_both(photographs):
    levels = (24, 17, 12)
    tiles = {q: [apply("jpeg", p, {"quality": q}, None).picture[:384, :384] for p in photographs] for q in levels}
    pristine = np.stack([p[:384, :384] for p in photographs])
    fitted = fit_best(pristine[:14], [np.stack(tiles[q][:14]) for q in (24, 12)], [str(n) for n in range(14)], "blocks")
    layer = Responses("blocks", 2)
    layer.build(None)
    for variable in layer.variables:
        variable.assign(fitted.weights[variable.name])
    x, true = to_network(pristine[14:]), np.stack(tiles[17][14:])
    scores = []
    for severity in (0.5, 0.75, 1.0):
        made = from_network(x + np.asarray(layer([x, np.full((len(x), 1), severity, np.float32)])))
        scores.append(np.square(made.astype(float) - true).mean())
    assert scores[1] < 0.8 * min(scores[0], scores[2])
