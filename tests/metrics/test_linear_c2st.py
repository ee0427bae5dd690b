"""The quick two-sample test: chance for the same distribution, certain for another one, and by unseen images."""

import numpy as np
import pytest

from distort_pipeline.metrics.classifier import linear_c2st, texture_features


def tiles(sigma, seed, count=12):
    rng = np.random.default_rng(seed)
    scene = rng.uniform(60, 190, (count, 1, 1, 3)) + 20 * np.sin(np.arange(64) / 9)[:, None]
    return np.clip(scene + sigma * rng.standard_normal((count, 64, 64, 3)), 0, 255).astype(np.uint8)


def rows(sigma, seed):
    return [texture_features(tiles(sigma, 100 * image + seed)) for image in range(8)]


def test_draws_of_one_noise_are_not_told_apart():
    result = linear_c2st(rows(6, 1), rows(6, 2))
    assert result.accuracy == pytest.approx(0.5, abs=0.12)
    assert result.cross_entropy_bits > 0.9


def test_a_stronger_noise_is_told_from_a_weaker_one():
    result = linear_c2st(rows(6, 1), rows(8, 2))
    assert result.accuracy > 0.95
    assert result.cross_entropy_bits < 0.4


def test_a_grid_of_blocks_is_seen():
    true = rows(6, 1)
    generated = []
    for image in range(8):
        blocky = tiles(6, 100 * image + 2).copy()
        blocky[:, :, ::8] += 2
        generated.append(texture_features(blocky))
    assert linear_c2st(true, generated).accuracy > 0.7


def test_one_image_says_nothing():
    assert linear_c2st(rows(6, 1)[:1], rows(9, 2)[:1]).accuracy == 0.5
