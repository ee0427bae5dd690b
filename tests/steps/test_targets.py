import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from distort_pipeline.data.conditions import Tiles
from distort_pipeline.data.severity_search import assign_targets, distort_to_targets


@pytest.mark.parametrize("measure", ["psnr", "gmsd"])
def test_the_number_of_images_with_a_target_within_reach_is_the_largest(measure):
    rng = np.random.default_rng(3)
    worse = 1 if measure == "gmsd" else -1  # an image reaches targets no worse than its quality at severity 1
    mildest = 18 if measure == "gmsd" else 40  # of the request
    for _ in range(50):
        lowest, targets = rng.uniform(20, 39, 12), rng.uniform(19, 36, 12)
        reaches = worse * lowest[:, None] >= worse * targets[None, :]
        most = np.count_nonzero(maximum_bipartite_matching(csr_array(reaches)) >= 0)
        assigned, resampled = assign_targets(list(targets), list(lowest), measure=measure, mildest=mildest, seed=5)
        assert sum(resampled) == 12 - most == len(set(targets) - set(assigned))
        assert all(worse * lowest >= worse * np.array(assigned))
        assert all(worse * np.array(assigned) >= worse * mildest)


def test_targets_within_reach_of_all_are_assigned_at_random():
    targets = [float(value) for value in range(30)]
    first, second = (assign_targets(targets, [-1.0] * 30, measure="ssim", mildest=30, seed=seed) for seed in (0, 1))
    assert not any(first[1] + second[1])
    assert sorted(first[0]) == sorted(second[0]) == targets
    assert first != second
    assert abs(np.corrcoef(first[0], range(30))[0, 1]) < 0.5
    assert assign_targets(targets, [-1.0] * 30, measure="ssim", mildest=30, seed=0) == first


def test_an_image_with_no_target_within_reach_gets_the_mildest():
    assigned, resampled = assign_targets([10.0, 12.0, 14.0], [25.0, 13.0, 22.0], measure="psnr", mildest=15, seed=0)
    assert (assigned, resampled) == ([15, 14, 15], [True, False, True])


class LateComposite:
    """An identity generator until severity 1, where 40 levels are added."""

    calibration = {"severity": [0, 0.5, 1], "psnr": [60, 40, 16]}  # noqa: RUF012

    def distort_batches(self, images, seeds, severities, significances):  # noqa: ARG002
        assert len(images) == len(seeds) == len(severities)
        yield np.stack([p + np.uint8(40) * (s == 1) for p, s in zip(images, severities, strict=True)])


def test_severity_1_is_taken_where_it_is_nearest():
    images = np.full((2, 16, 16, 3), 100, np.uint8)
    lowest = [16.1, 16.1]  # PSNR of 40 levels
    tiles = Tiles(images, [0, 1], [30.0, 50.0])
    distorted, severities = distort_to_targets(LateComposite(), tiles, tiles.requested, measure="psnr", lowest=lowest)
    assert severities[0] == 1
    assert (distorted[0] == 140).all()
    assert severities[1] < 1  # 60 dB, untouched, is nearer to 50
    assert (distorted[1] == 100).all()
