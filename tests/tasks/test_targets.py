import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from distort_pipeline.tasks.targets import share_out


@pytest.mark.parametrize("measure", ["psnr", "gmsd"])
def test_as_many_pictures_as_can_be_get_a_target_that_they_can_have(measure):
    rng = np.random.default_rng(3)
    worse = 1 if measure == "gmsd" else -1  # a picture can have what is no worse than the end of its dial
    for _ in range(50):
        worst, targets = rng.uniform(20, 40, 12), rng.uniform(18, 36, 12)
        can_have = worse * worst[:, None] >= worse * targets[None, :]
        most = np.count_nonzero(maximum_bipartite_matching(csr_array(can_have)) >= 0)
        given = share_out(list(targets), list(worst), measure=measure, seed=5)
        assert sorted(given) == sorted(targets)
        assert np.count_nonzero(worse * worst >= worse * np.array(given)) == most


def test_where_all_can_have_all_chance_gives_them():
    targets = [float(value) for value in range(30)]
    one, other = (share_out(targets, [-1.0] * 30, measure="ssim", seed=seed) for seed in (0, 1))
    assert one != other
    assert abs(np.corrcoef(one, range(30))[0, 1]) < 0.5
    assert share_out(targets, [-1.0] * 30, measure="ssim", seed=0) == one


def test_what_nobody_can_have_goes_to_who_comes_nearest():
    given = share_out([10.0, 12.0, 14.0], [25.0, 20.0, 22.0], measure="psnr", seed=0)
    assert given == [14.0, 10.0, 12.0]
