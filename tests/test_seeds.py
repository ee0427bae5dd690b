import itertools

import numpy as np

from distort_pipeline.records import derive_seed, make_rng, sample_seed


def test_every_part_its_type_and_its_order_count():
    keys = [("a", 1), (1, "a"), ("a", "1"), ("a", 1.0), ("a1",), ("a", 1, 0), ("a", 2), ("", "a", 1)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_seeds_are_these_for_ever():
    # by sha256sum of '[0,"abc","jpeg",1,0]': a change would change every rebuilt corpus
    assert derive_seed(0, "abc", "jpeg", 1, 0) == 216590460468393919
    assert sample_seed(0, "abc", "jpeg", 1) == derive_seed(0, "abc", "jpeg", 1, 0)


def test_seeds_fit_signed_integers_and_differ():
    seeds = [sample_seed(*keys) for keys in itertools.product(range(3), "abc", ["jpeg", "jp2k"], [1, 2], range(50))]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert max(seeds) > 2**62  # all 63 bits are in use


def test_a_generator_repeats_and_another_seed_draws_otherwise():
    assert np.array_equal(make_rng(5).integers(0, 99, 20), make_rng(5).integers(0, 99, 20))
    assert not np.array_equal(make_rng(5).integers(0, 99, 20), make_rng(6).integers(0, 99, 20))
