import numpy as np
import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.training import init as fit_tiles_module
from distort_pipeline.training.init import fit_tiles


def test_tiles_are_pairs_of_the_store_cut_to_a_side_for_networks(pair_store):
    tiles = fit_tiles(pair_store, "jpeg", [1], least_px=128)
    assert tiles.pristine.shape == tiles.distorted[0].shape
    assert tiles.pristine.shape[1] % 128 == 0
    assert len(tiles.images) == len(tiles.pristine) == len({*map(bytes, tiles.pristine)})
    side = tiles.pristine.shape[1]
    stored = [pair_store[index] for index, record in enumerate(pair_store.records()) if record.distortion == "jpeg"]
    for pristine, distorted, image in zip(tiles.pristine, tiles.distorted[0], tiles.images, strict=True):
        assert any(
            pair.records[0].image == image
            and np.array_equal(pair.pristine[:side, :side], pristine)
            and np.array_equal(pair.distorted[:side, :side], distorted)
            for pair in stored
        )


def test_no_more_than_are_useful_from_the_first_to_the_last(pair_store, monkeypatch):
    every = fit_tiles(pair_store, "jpeg", [1], least_px=128)
    monkeypatch.setattr(fit_tiles_module, "MOST", 2)
    two = fit_tiles(pair_store, "jpeg", [1], least_px=128)
    assert two.images == (every.images[0], every.images[-1])


def test_too_small_tiles_are_an_error(pair_store):
    with pytest.raises(PipelineError, match="holds no training tile of jpeg that is 1024 px wide"):
        fit_tiles(pair_store, "jpeg", [1], least_px=1024)
