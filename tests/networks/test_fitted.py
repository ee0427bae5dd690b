"""Generators without a network, in NumPy: the same as their Keras layers to 1 of 255."""

import numpy as np
import pytest

from distort_pipeline.commands.inputs import pretrained
from distort_pipeline.models.store import load_generator, load_network
from distort_pipeline.networks.predictor import Predictor


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["jpeg", "jp2k", "white_noise", "pink_noise"])
def test_numpy_and_keras_agree(name, sample_images):
    images = np.stack([sample_images["wren"][:128, :256], sample_images["osprey"][-128:, -256:]])
    trained = load_generator(pretrained(name), batch_size=2)
    network = load_network(pretrained(name))
    channels = trained.card.network.noise_channels
    at = trained.card.scale.position_at
    layers = Predictor(network, noise_channels=channels, batch_size=2, multi_level=True, position_at=at)
    ours, theirs = (each.distort(images, [1, 2], [0.5, 0.7]).astype(int) for each in (trained.predictor, layers))
    apart = np.abs(ours - theirs)
    assert np.mean(apart > 0) < 0.002
    if name != "jp2k":  # its step is measured on either side: a coefficient may round the other way
        assert apart.max() <= 1
    assert np.abs(ours - images).max() > 20
