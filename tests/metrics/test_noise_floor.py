import numpy as np
import pytest

from distort_pipeline.metrics.jsd_nss import (
    between_content_baseline,
    bootstrap_threshold,
    bootstrap_threshold_unpaired,
    expected_floor_bits,
    jsd_bits,
    split_half_floor,
)

BINS = 103


def tiles(seed, mean=40.0, images=20, each=4):
    """Histograms of `images` × `each` tiles; those of one image resemble each other, as in photographs."""
    rng = np.random.default_rng(seed)
    contents = np.random.default_rng(99).gamma(5, mean / 5, (images, BINS))
    return rng.poisson(np.repeat(contents, each, axis=0)), np.repeat(np.arange(images), each)


def test_expected_floor_is_what_sampling_gives():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(BINS, 5.0))
    floors = [jsd_bits(*rng.multinomial(20_000, shares, size=2)) for _ in range(300)]
    assert np.mean(floors) == pytest.approx(expected_floor_bits(BINS, 20_000), rel=0.05)


def test_split_half_floor_is_that_of_two_whole_images():
    counts = np.random.default_rng(0).multinomial(20_000, np.random.default_rng(1).dirichlet(np.full(BINS, 5.0)))
    rng = np.random.default_rng(2)
    mean_floor = np.mean([split_half_floor(counts, rng) for _ in range(300)])
    assert mean_floor == pytest.approx(expected_floor_bits(BINS, 20_000), rel=0.05)
    assert split_half_floor(counts, np.random.default_rng(3)) == split_half_floor(counts, np.random.default_rng(3))


def test_halves_are_of_the_values_themselves():
    """Against the plain way: shuffle the values, cut, count."""
    counts = np.array([500, 30, 1, 0, 469])
    values = np.repeat(np.arange(5), counts)
    rng = np.random.default_rng(4)
    plain = []
    for _ in range(2000):
        rng.shuffle(values)
        plain.append(jsd_bits(np.bincount(values[:500], minlength=5), np.bincount(values[500:], minlength=5)) / 2)
    ours = [split_half_floor(counts, rng) for _ in range(2000)]
    assert np.mean(ours) == pytest.approx(np.mean(plain), rel=0.12)


def test_between_content_baseline_pools_the_halves_of_the_ordering():
    histograms, _ = tiles(0, images=5, each=1)
    expected = jsd_bits(histograms[3] + histograms[1], histograms[0] + histograms[2] + histograms[4])
    assert between_content_baseline(histograms, [3, 1, 4, 0, 2]) == pytest.approx(expected)
    assert between_content_baseline(np.repeat(histograms[:1], 6, axis=0), range(6)) == 0


@pytest.mark.parametrize("ordering", [[0, 0, 1], [0, 1], [1, 2, 3]])
def test_between_content_baseline_needs_a_permutation(ordering):
    with pytest.raises(ValueError, match="permutation"):
        between_content_baseline(tiles(0)[0][:3], ordering)


def paired(size, seed=0, **options):
    generated, groups = tiles(1)
    true, _ = tiles(2)
    return bootstrap_threshold(generated, true, groups, size, draws=400, rng=np.random.default_rng(seed), **options)


def unpaired(size, seed=0, **options):
    generated, groups = tiles(1)
    pool = tiles(2)[0].sum(0)
    return bootstrap_threshold_unpaired(
        generated, pool, groups, size, draws=400, rng=np.random.default_rng(seed), **options
    )


@pytest.mark.parametrize("threshold", [paired, unpaired])
def test_threshold_is_repeatable_and_grows_as_the_batch_shrinks(threshold):
    assert threshold(64) == threshold(64)
    assert threshold(64) != threshold(64, seed=1)
    assert 0 < threshold(256) < threshold(64) < threshold(8)


@pytest.mark.parametrize("threshold", [paired, unpaired])
def test_threshold_is_the_requested_quantile(threshold):
    assert threshold(64, quantile=0.1) < threshold(64, quantile=0.5) < threshold(64, quantile=0.99)


def test_unpaired_threshold_includes_content():
    assert unpaired(64) > paired(64)


def test_the_same_tiles_are_pooled_on_both_sides():
    generated, groups = tiles(1)
    assert bootstrap_threshold(generated, generated, groups, 16, draws=50, rng=np.random.default_rng(0)) == 0


def test_threshold_accepts_other_batches_and_rejects_another_generator():
    """About 1 in 100 batches of the same generator lies above the 99 % threshold; a batch of another generator does."""
    generated, groups = tiles(1, images=60)
    true, _ = tiles(2, images=60)
    threshold = bootstrap_threshold(generated, true, groups, 64, rng=np.random.default_rng(0))
    rng = np.random.default_rng(5)
    chosen = [rng.integers(0, len(true), 64) for _ in range(200)]
    above = np.mean([jsd_bits(generated[rows].sum(0), true[rows].sum(0)) > threshold for rows in chosen])
    assert above <= 0.06
    changed = np.roll(generated, 1, axis=1)
    assert jsd_bits(changed[chosen[0]].sum(0), true[chosen[0]].sum(0)) > threshold


@pytest.mark.parametrize("threshold", [paired, unpaired])
def test_a_batch_of_few_images_may_differ_by_more(threshold):
    assert threshold(64, images=1) > threshold(64, images=4) > threshold(64, images=20)
    assert threshold(64, images=20) == threshold(64)


def test_about_one_in_a_hundred_batches_of_two_images_is_above_the_threshold():
    generated, groups = tiles(1, images=60, each=8)
    true, _ = tiles(2, images=60, each=8)
    names = np.unique(groups)
    rng = np.random.default_rng(7)
    divergences = []
    for _ in range(300):
        rows = rng.choice(np.flatnonzero(np.isin(groups, rng.choice(names, 2))), 64)
        divergences.append(jsd_bits(generated[rows].sum(0), true[rows].sum(0)))
    few, many = (bootstrap_threshold(generated, true, groups, 64, k, rng=np.random.default_rng(0)) for k in (2, None))
    assert np.mean(np.array(divergences) > few) <= 0.04
    assert np.mean(np.array(divergences) > many) > 0.5


def test_images_are_resampled_not_only_tiles():
    """With one image unlike the rest, whole draws without it or with it twice raise the threshold."""
    generated, groups = tiles(1)
    true = generated.copy()
    true[groups == 0] = np.roll(true[groups == 0], 20, axis=1)
    by_image = bootstrap_threshold(generated, true, groups, 400, rng=np.random.default_rng(0))
    by_tile = bootstrap_threshold(generated, true, np.arange(len(true)), 400, rng=np.random.default_rng(0))
    assert by_image > 1.3 * by_tile


def test_what_cannot_be_resampled_is_refused():
    histograms, groups = tiles(1)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="the same shape"):
        bootstrap_threshold(histograms, histograms[1:], groups, 8, rng=rng)
    with pytest.raises(ValueError, match="one group for each"):
        bootstrap_threshold(histograms, histograms, groups[1:], 8, rng=rng)
    with pytest.raises(ValueError, match="size 0"):
        bootstrap_threshold_unpaired(histograms, histograms[0], groups, 0, rng=rng)
