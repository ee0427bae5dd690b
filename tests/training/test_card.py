from types import SimpleNamespace

import numpy as np
import pytest

from distort_pipeline.training.validation import is_grey


def store_of(*tiles):
    records = [SimpleNamespace(slot=slot, distortion="jpeg") for slot in range(len(tiles))]
    stored = SimpleNamespace(read=lambda slots: np.stack(tiles)[slots])
    return SimpleNamespace(tile_array=lambda _: stored, records=lambda _: records)


@pytest.mark.parametrize(("colour", "grey"), [(0, True), (1, True), (40, False)])
def test_a_store_is_grey_without_a_tile_of_colour(colour, grey):
    plain = np.random.default_rng(0).integers(0, 200, (8, 8, 1), np.uint8).repeat(3, axis=2)
    tinted = plain.copy()
    tinted[:4, :, 0] += np.uint8(colour)
    assert is_grey(store_of(plain, tinted), "jpeg") is grey
