import numpy as np
import pytest
from small_models import card_of, write_card

from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import NetworkCard
from distort_pipeline.models.store import WEIGHTS, write_arrays
from distort_pipeline.training import init as init_module
from distort_pipeline.training.fit_noise import fit_noise
from distort_pipeline.training.init import Initialization, fit_init, fit_tiles, load_init

pytestmark = pytest.mark.usefixtures("eager")


def fitted(pair_store, folder, **changes):
    return fit_init(pair_store, **{
        "distortion": "jpeg", "levels": [1], "folder": folder, "codec_prior": "dct", "noise_channels": 2,
        "least_px": 128, **changes
    })  # fmt: skip


@pytest.fixture(scope="module")
def first(pair_store, tmp_path_factory):
    """The folder of a fit, and the fit."""
    folder = tmp_path_factory.mktemp("first")
    return folder, fitted(pair_store, folder)


def test_a_resumed_training_starts_from_the_first_fit(pair_store, first, monkeypatch):
    folder, first = first
    monkeypatch.setattr(init_module, "fit_tiles", None)  # nothing is fitted again
    resumed = fitted(pair_store, folder)
    assert (resumed.codec_prior, list(resumed.explained.items())) == (first.codec_prior, list(first.explained.items()))
    assert resumed.coefficient_curves.keys() == first.coefficient_curves.keys()
    assert all(
        np.array_equal(resumed.coefficient_curves[name], first.coefficient_curves[name])
        for name in first.coefficient_curves
    )
    assert resumed.noise.keys() == first.noise.keys() == {"octaves", "kernels"}
    assert all(np.array_equal(resumed.noise[name], first.noise[name]) for name in first.noise)


def test_noise_is_fitted_to_the_residual_of_the_curves(pair_store, first):
    init = first[1]
    tiles = fit_tiles(pair_store, "jpeg", [1], least_px=128)
    without_curves = fit_noise(tiles.pristine, tiles.distorted[0], channels=2)  # JPEG a second time, as noise
    assert np.square(init.noise["octaves"]).sum() < 0.5 * np.square(without_curves["octaves"]).sum()


def test_for_the_papers_start_nothing_is_fitted(pair_store, tmp_path):
    assert fitted(pair_store, tmp_path, codec_prior="none") == Initialization()
    assert not any(tmp_path.iterdir())


def multi_level(folder, *, filters=0):
    """A model folder with curves of three levels, distinct in value; with `filters` also a U-Net."""
    curves, matrices = (
        np.stack([np.full(shape, level, np.float32) for level in (1, 2, 3)]) for shape in ((1, 3), (7, 3, 3))
    )
    weights = {"coefficient_curves/curves_00": curves, "noise_pyramid/octaves": matrices}
    write_arrays(folder / WEIGHTS, weights)
    levels = [{"quality": quality} for quality in (43, 12, 7)]
    write_card(folder, card_of("jpeg", levels, NetworkCard(filters, 3, "dct"), weights))
    return folder


def test_the_requested_levels_of_a_multi_level_model_are_taken(tmp_path):
    loaded = load_init(multi_level(tmp_path), [{"quality": 12}])
    assert (loaded.coefficient_curves["curves_00"] == 2).all()
    assert (loaded.noise["octaves"] == 2).all()
    assert loaded.noise["octaves"].shape == (1, 7, 3, 3)
    both = load_init(tmp_path, [{"quality": 43}, {"quality": 7}])
    assert both.coefficient_curves["curves_00"][:, 0, 0].tolist() == [1, 3]


def test_a_level_that_the_model_has_not_learned_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"and not \{'quality': 50\}"):
        load_init(multi_level(tmp_path), [{"quality": 50}])


def test_a_u_net_cannot_be_split_by_level(tmp_path):
    with pytest.raises(PipelineError, match="U-Net for 3 levels"):
        load_init(multi_level(tmp_path, filters=4), [{"quality": 12}])
