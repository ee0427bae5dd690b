import numpy as np

from distort_pipeline.training.fit_codec import LatticeFit, in_whole_steps, resolve_lattice


def test_a_step_not_seen_at_one_level_comes_from_the_others():
    log_steps = np.log(np.array([[10, 20, 30], [20, 40, 50]], np.float32))
    seen = np.array([[True, True, True], [True, True, False]])
    np.testing.assert_allclose(np.exp(resolve_lattice(log_steps, seen)), [[10, 20, 30], [20, 40, 60]], rtol=1e-5)


def seen(written, count=20_000):
    """The lattice fit of coefficients decoded as `written` (values), after rounding to 8-bit pixels."""
    rng = np.random.default_rng(0)
    before = rng.laplace(0, 60, (1, 1, count, 1)).astype(np.float32)
    fit = LatticeFit(1)
    fit.add(before, (written(before) + rng.normal(0, 0.3, before.shape)).astype(np.float32))
    return fit.steps()


def test_the_quantisation_step_is_found_from_its_multiples():
    steps = seen(lambda before: 23 * np.rint(before / 23))
    np.testing.assert_allclose(np.exp(steps.log_steps), [23], atol=0.05)
    assert in_whole_steps([steps])


def test_also_with_a_dead_zone_larger_than_half_a_step():
    def dead_zone(before):
        return 23 * np.sign(before) * np.floor(np.abs(before) / 23 + 0.45)

    np.testing.assert_allclose(np.exp(seen(dead_zone).log_steps), [23], atol=0.05)


def test_scaled_coefficients_are_not_decoded_to_whole_steps():
    steps = seen(lambda before: 0.8 * before)
    assert steps.seen.all()
    assert not in_whole_steps([steps])
