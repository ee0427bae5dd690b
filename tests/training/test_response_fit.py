from pathlib import Path

import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.stores.pictures import decode
from distort_pipeline.training.response_fit import CurveFit, explained_by, fit_best

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
