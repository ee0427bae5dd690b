import numpy as np

from distort_pipeline.training import start as start_module
from distort_pipeline.training.fit_tiles import fit_tiles
from distort_pipeline.training.noise_fit import fit_noise
from distort_pipeline.training.start import Start, fitted_start


def start(pair_store, folder, **changes):
    return fitted_start(pair_store, **{
        "distortion": "jpeg", "levels": [1], "folder": folder, "wanted": "blocks", "noise_channels": 2, "least_px": 128,
        **changes
    })  # fmt: skip


def test_a_resumed_training_starts_at_what_the_first_one_found(pair_store, tmp_path, monkeypatch):
    first = start(pair_store, tmp_path)
    monkeypatch.setattr(start_module, "fit_tiles", None)  # nothing is fitted again
    again = start(pair_store, tmp_path)
    assert (again.transform, list(again.explained.items())) == (first.transform, list(first.explained.items()))
    assert again.responses.keys() == first.responses.keys()
    assert all(np.array_equal(again.responses[name], first.responses[name]) for name in first.responses)
    assert np.array_equal(again.noise, first.noise)


def test_noise_is_fitted_to_what_the_responses_leave(pair_store, tmp_path):
    found = start(pair_store, tmp_path)
    tiles = fit_tiles(pair_store, "jpeg", [1], least_px=128)
    whole = fit_noise(tiles.pristine, tiles.distorted[0], channels=2)  # JPEG a second time, as noise
    assert np.square(found.noise).sum() < 0.5 * np.square(whole).sum()


def test_for_the_papers_start_nothing_is_fitted(pair_store, tmp_path):
    assert start(pair_store, tmp_path, wanted="none") == Start()
    assert not any(tmp_path.iterdir())
