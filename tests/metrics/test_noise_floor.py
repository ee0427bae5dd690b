import numpy as np
import pytest

from distort_pipeline.metrics.jsd_nss import (
    between_content_baseline,
    jsd_bits,
)

BINS = 103


def tiles(seed, mean=40.0, images=20, each=4):
    """Histograms of `images` × `each` tiles; those of one image resemble each other, as in photographs."""
    rng = np.random.default_rng(seed)
    contents = np.random.default_rng(99).gamma(5, mean / 5, (images, BINS))
    return rng.poisson(np.repeat(contents, each, axis=0)), np.repeat(np.arange(images), each)


def test_between_content_baseline_pools_the_halves_of_the_ordering():
    histograms, _ = tiles(0, images=5, each=1)
    expected = jsd_bits(histograms[3] + histograms[1], histograms[0] + histograms[2] + histograms[4])
    assert between_content_baseline(histograms, [3, 1, 4, 0, 2]) == pytest.approx(expected)
    assert between_content_baseline(np.repeat(histograms[:1], 6, axis=0), range(6)) == 0


@pytest.mark.parametrize("ordering", [[0, 0, 1], [0, 1], [1, 2, 3]])
def test_between_content_baseline_needs_a_permutation(ordering):
    with pytest.raises(ValueError, match="permutation"):
        between_content_baseline(tiles(0)[0][:3], ordering)
