"""Fusing changes how a generator computes, not its output."""

import numpy as np
import pytest

from distort_pipeline.models.store import assign_weights, weights_of
from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.networks.inputs import GeneratorInputs, noise_shapes
from distort_pipeline.networks.layers import fused_weights


@pytest.mark.parametrize("noise_channels", [0, 3])
def test_a_fused_generator_equals_the_trained_one_in_inference(noise_channels):
    rng = np.random.default_rng(0)
    trained = build_generator(Architecture(base_filters=4, noise_channels=noise_channels))
    norms = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {  # norms unlike those of a new network
        path: rng.uniform(0.5, 1.5, array.shape).astype(np.float32) if path.endswith(norms) else array
        for path, array in weights_of(trained).items()
    }
    weights["decoder_7_up/kernel"] = 50 * weights["decoder_7_up/kernel"]  # a residual that fills the range
    assign_weights(trained, weights)
    fused = build_generator(Architecture(base_filters=4, noise_channels=noise_channels), fused=True)
    assign_weights(fused, fused_weights(weights))
    images = rng.uniform(-1, 1, (2, 128, 256, 3)).astype(np.float32)
    noises = [rng.standard_normal((2, *shape), np.float32) for shape in noise_shapes(128, 256, noise_channels)]
    inputs = GeneratorInputs(images, noises).listed()
    expected = np.asarray(trained(inputs, training=False))
    assert np.abs(expected - images).max() > 0.5
    np.testing.assert_allclose(np.asarray(fused(inputs)), expected, atol=2e-5)


def test_no_norms_remain_after_fusing():
    trained = weights_of(build_generator(Architecture(base_filters=2, noise_channels=1)))
    fused = build_generator(Architecture(base_filters=2, noise_channels=1), fused=True)
    assert {variable.path for variable in fused.variables} == set(fused_weights(trained))
