import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from distort_pipeline.tasks.targets import assign_targets, distort_to_targets


@pytest.mark.parametrize("measure", ["psnr", "gmsd"])
def test_as_many_images_as_can_be_get_a_target_that_they_can_have(measure):
    rng = np.random.default_rng(3)
    worse = 1 if measure == "gmsd" else -1  # an image can have what is no worse than the end of its dial
    mildest = 18 if measure == "gmsd" else 40  # which none can have that is milder
    for _ in range(50):
        worst, targets = rng.uniform(20, 39, 12), rng.uniform(19, 36, 12)
        can_have = worse * worst[:, None] >= worse * targets[None, :]
        most = np.count_nonzero(maximum_bipartite_matching(csr_array(can_have)) >= 0)
        given, moved = assign_targets(list(targets), list(worst), measure=measure, mildest=mildest, seed=5)
        assert moved == 12 - most == len(set(targets) - set(given))
        assert all(worse * worst >= worse * np.array(given))
        assert all(worse * np.array(given) >= worse * mildest)


def test_where_all_can_have_all_chance_gives_them():
    targets = [float(value) for value in range(30)]
    one, other = (assign_targets(targets, [-1.0] * 30, measure="ssim", mildest=30, seed=seed) for seed in (0, 1))
    assert one[1] == other[1] == 0
    assert sorted(one[0]) == sorted(other[0]) == targets
    assert one != other
    assert abs(np.corrcoef(one[0], range(30))[0, 1]) < 0.5
    assert assign_targets(targets, [-1.0] * 30, measure="ssim", mildest=30, seed=0) == one


def test_who_can_have_nothing_of_the_range_is_asked_for_the_mildest():
    given, moved = assign_targets([10.0, 12.0, 14.0], [25.0, 13.0, 22.0], measure="psnr", mildest=15, seed=0)
    assert (given, moved) == ([15, 14, 15], 2)


class LateComposite:
    """A generator that changes nothing until the end of its dial, where it adds and takes off 40 greys."""

    cards = {"late": {"calibration": {"severity": [0, 0.5, 1], "psnr": [60, 40, 16]}}}  # noqa: RUF012

    def distort_batches(self, images, seeds, severities, significances):  # noqa: ARG002
        assert len(images) == len(seeds) == len(severities)
        yield np.stack([p + np.uint8(40) * (s == 1) for p, s in zip(images, severities, strict=True)])


def test_the_end_of_the_dial_is_taken_where_it_is_nearest_of_all():
    images = np.full((2, 16, 16, 3), 100, np.uint8)
    worst = [16.1, 16.1]  # what 40 greys come to
    parts = distort_to_targets(
        LateComposite(), images, [0, 1], [30.0, 50.0], None, measure="psnr", batch=2, worst=worst
    )
    ((made, severities),) = parts
    assert severities[0] == 1
    assert (made[0] == 140).all()
    assert severities[1] < 1  # 60 dB, untouched, is nearer to 50
    assert (made[1] == 100).all()
