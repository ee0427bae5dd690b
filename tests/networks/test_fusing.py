"""Folding changes how a generator computes, not what."""

import numpy as np
import pytest

from distort_pipeline.networks.fusing import fused_weights
from distort_pipeline.networks.generator import build_generator, generator_inputs, noise_shapes
from distort_pipeline.trained import assign_weights, weights_of


@pytest.mark.parametrize("noise_channels", [0, 3])
def test_a_folded_generator_gives_what_the_whole_one_gives_in_inference(noise_channels):
    rng = np.random.default_rng(0)
    whole = build_generator(base_filters=4, noise_channels=noise_channels)
    norms = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {  # a trained net's norms are not the fresh one's
        path: rng.uniform(0.5, 1.5, array.shape).astype(np.float32) if path.endswith(norms) else array
        for path, array in weights_of(whole).items()
    }
    weights["decoder_7_conv/kernel"] = 50 * weights["decoder_7_conv/kernel"]  # a residual that fills the range
    assign_weights(whole, weights)
    fused = build_generator(base_filters=4, noise_channels=noise_channels, fused=True)
    assign_weights(fused, fused_weights(weights))
    images = rng.uniform(-1, 1, (2, 128, 256, 3)).astype(np.float32)
    noises = [rng.standard_normal((2, *shape), np.float32) for shape in noise_shapes(128, 256, noise_channels)]
    inputs = generator_inputs(images, noises)
    expected = np.asarray(whole(inputs, training=False))
    assert np.abs(expected - images).max() > 0.5
    np.testing.assert_allclose(np.asarray(fused(inputs)), expected, atol=2e-5)


def test_nothing_of_the_norms_is_left():
    whole = weights_of(build_generator(base_filters=2, noise_channels=1))
    fused = build_generator(base_filters=2, noise_channels=1, fused=True)
    assert {variable.path for variable in fused.variables} == set(fused_weights(whole))
