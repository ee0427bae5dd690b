import numpy as np
import pytest

from distort_pipeline.training.fit_curves import CurveFit, monotone_near_zero, monotone_over_levels


def test_a_curve_through_straight_lines_is_found_again():
    rng = np.random.default_rng(0)
    values = rng.uniform(-4, 4, (1, 50, 50, 2)).astype(np.float32)
    gains = np.stack([np.abs(values[..., 0]), -0.5 * values[..., 1]], -1)
    fit = CurveFit(2, 9, 1.0)
    fit.add(values, gains)
    knots = np.arange(9) - 4.0
    np.testing.assert_allclose(fit.solve(), [np.abs(knots), -0.5 * knots], atol=0.05)  # the ridge pulls towards 0


def test_where_nothing_was_seen_nothing_changes():
    fit = CurveFit(1, 101, 1.0)
    fit.add(np.full((1, 1, 10, 1), 3.0, np.float32), np.ones((1, 1, 10, 1), np.float32))
    curve = fit.solve()[0]
    assert curve[53] > 0.9
    assert not np.any(np.delete(curve, [53, 54]))


def test_a_shrinkage_gain_amplifies_the_mean_and_no_coefficient_loses_more_than_itself():
    values = np.full((1, 1, 2000, 1), 3.0, np.float32)
    zeroed = np.where(np.arange(2000) % 2, 0.0, -3.0).reshape(values.shape).astype(np.float32)
    fit = CurveFit(1, 9, 1.0)
    fit.add(values, zeroed)
    mean, amplified = fit.solve()[0, 7], fit.with_gain(1.3)[0, 7]
    assert mean == pytest.approx(-1.5, abs=0.01)
    assert amplified == pytest.approx(-1.5 + 1.3 * (1.5 - 3 / 2**0.5), abs=0.01)
    assert (np.abs(fit.with_gain(1.3)[0]) <= np.abs(np.arange(9) - 4)).all()


def test_knots_with_few_observations_follow_the_pooled_fit():
    values = np.full((1, 1, 5000, 1), 3.0, np.float32)
    rarely, often = CurveFit(1, 9, 1.0), CurveFit(1, 9, 1.0)
    rarely.add(values[:, :, :5], np.full((1, 1, 5, 1), -1.0, np.float32))
    often.add(values, np.full(values.shape, -3.0, np.float32))
    knot = 7  # of the value 3 among the knots
    assert rarely.with_gain(1.3)[0, knot] == pytest.approx(-1, abs=0.1)
    assert rarely.with_gain(1.3, rarely + often)[0, knot] < -2
    assert often.with_gain(1.3, rarely + often)[0, knot] == pytest.approx(-3, abs=0.01)


def test_the_hard_quantiser_decides_values_near_half_a_step_one_way():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1.5, 1.5, (1, 100, 100, 1)).astype(np.float32)
    seen = np.rint(values + rng.normal(0, 0.1, values.shape))  # values near half a step go up or down
    fit = CurveFit(1, 4 * 16 + 1, 1 / 16)
    fit.add(values, (seen - values).astype(np.float32))
    knots = np.arange(4 * 16 + 1) / 16 - 2
    outputs = knots + fit.hard_quantiser()[0]
    np.testing.assert_allclose(outputs, np.rint(outputs), atol=1e-6)
    well_inside = np.abs(knots) < 1.4
    np.testing.assert_array_equal(
        np.rint(outputs)[well_inside & (np.abs(knots % 1 - 0.5) > 0.07)],
        np.rint(knots)[well_inside & (np.abs(knots % 1 - 0.5) > 0.07)],
    )
    assert np.abs(knots + fit.solve()[0] - np.rint(outputs))[well_inside].max() > 0.3  # the mean lies between the steps


def test_a_coefficient_with_few_observations_follows_the_pooled_curve():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1.5, 1.5, (1, 100, 100, 2)).astype(np.float32)
    values[..., 1] = 0.1  # the other one was never more than a tenth of a step
    fit = CurveFit(2, 4 * 16 + 1, 1 / 16)
    fit.add(values, np.rint(values) - values)
    knots = np.arange(4 * 16 + 1) / 16 - 2
    assert np.allclose((knots + fit.hard_quantiser()[1])[np.abs(knots - 1) < 0.3], 1)


def test_a_coarser_level_loses_no_less_of_any_value():
    knots = np.arange(9) - 4.0
    mild, severe = 0.2 * np.abs(knots), 0.5 * np.abs(knots)
    severe[7] = 0.2  # less than the 0.6 of the milder level
    curves = -np.sign(knots) * np.stack([mild, severe])[:, None]
    monotone = monotone_over_levels(curves.astype(np.float32))
    np.testing.assert_allclose(np.delete(monotone, 7, axis=2), np.delete(curves, 7, axis=2))
    np.testing.assert_allclose(monotone[:, 0, 7], [-0.4, -0.4])


def test_within_a_step_a_smaller_coefficient_loses_no_smaller_share():
    curves = np.array([[[-0.9, 0.1, 0.4, 0.25, 0.1, 0, -0.2, -0.3, -0.4, 0.1, 0.9]]], np.float32)
    monotone = monotone_near_zero(curves, 1 / 3)[0, 0]
    np.testing.assert_allclose(monotone, [-0.9, 0.1, 0.4, 0.8 / 3, 0.4 / 3, 0, -0.2, -0.3, -0.4, 0.1, 0.9], atol=1e-6)
    knots = (np.arange(11) - 5) / 3
    inside = np.abs(knots) * (np.abs(knots) < 1.1)
    shares = -monotone[inside > 0] / knots[inside > 0]
    assert (np.diff(shares[3:]) <= 1e-6).all()
    assert (np.diff(shares[:3]) >= -1e-6).all()
