"""What several files of tests use, made once."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_pairs import bases_of, pairs_of

from distort_pipeline.networks.signal_noise import SignalNoise
from distort_pipeline.training.fit_signal_noise import fit_signal_noise


@pytest.fixture(scope="session")
def even_noise() -> SignalNoise:
    """A model of noise of 4 levels, the same everywhere."""
    rng = np.random.default_rng(1)
    patches = pairs_of(lambda x, _: np.clip(x + rng.normal(0, 4, x.shape), 0, 255).astype(np.uint8), finest=3)
    return fit_signal_noise(patches, bases_of(patches))
