"""Generators of random weights in folders as written by training."""

import json

from distort_pipeline.data.files import arrays_digest, sealed, write_bytes, write_json, write_listing
from distort_pipeline.distortions import LevelScale, declared_scale
from distort_pipeline.models.card import (
    VERSION,
    Figures,
    LearnedLevel,
    ModelCard,
    NetworkCard,
    TrainingData,
    TrainingSettings,
)
from distort_pipeline.models.store import WEIGHTS, write_arrays, write_histograms
from distort_pipeline.records import digest
from distort_pipeline.training.validation import figures_of

TILE_PX = 128
PARAMETERS = {"jpeg": {"quality": 12}, "white_noise": {"sigma_8bit": 19}}
INFERENCE_BATCH_SIZE = 8


def write_model(
    folder, distortion, histograms, *, noise_channels=0, external=False, parameters=None, steps=0, levels=1
):
    """Return the folder of a new model of random weights, with a model card.

    With several `levels`, `parameters` is a list with a mapping for each level; `histograms` are used for all levels.
    """
    import keras

    from distort_pipeline.models.store import weights_of
    from distort_pipeline.networks.generator import Architecture, build_generator

    keras.utils.set_random_seed(len(distortion))
    weights = weights_of(build_generator(Architecture(base_filters=4, noise_channels=noise_channels, levels=levels)))
    model_parameters = PARAMETERS.get(distortion, {}) if parameters is None else parameters
    level_parameters = [model_parameters] if levels == 1 else model_parameters
    write_arrays(folder / WEIGHTS, weights)
    write_histograms(folder, [histograms] * levels)
    write_bytes(folder / "README.md", b"# Generator\n")
    network = NetworkCard(4, noise_channels)
    figures = figures_of(histograms, delta_psnr_db=0.0)
    write_card(
        folder, card_of(distortion, level_parameters, network, weights, figures=figures, external=external, steps=steps)
    )
    return folder


def fit_quickly(patch):
    """Let fits try a single codec prior and measure the noise pyramid on few fields, until `patch` ends.

    tests/training/test_fit_codec.py chooses among all codec priors, test_noise_fit.py measures many fields.
    """
    from functools import lru_cache

    from distort_pipeline.networks.codec_prior import CODEC_PRIORS
    from distort_pipeline.training import fit_codec, fit_noise

    patch.setattr(fit_codec, "CODEC_PRIORS", {"dct": CODEC_PRIORS["dct"]})
    patch.setattr(fit_noise, "FIELDS", 8)
    patch.setattr(fit_noise, "_octave_powers", lru_cache(fit_noise._octave_powers.__wrapped__))  # a cache of its own


def card_of(distortion, levels, network=None, weights=None, *, external=False, steps=0, figures=None):
    """The card of a model that has learned a level for each of the parameters `levels`."""
    figures = figures or Figures(0.001, 0.001, 0.1, 0.0)
    scale = LevelScale(distortion, tuple(levels), None if external else declared_scale(distortion))
    return ModelCard(
        distortion=distortion,
        external=external,
        data=TrainingData("pairs", "manifest", 8, 2),
        levels=tuple(
            LearnedLevel(number, parameters, severity, figures)
            for number, (parameters, severity) in enumerate(zip(levels, scale.severities, strict=True), start=1)
        ),
        network=network or NetworkCard(4, 0),
        explained={},
        settings=TrainingSettings("model", VERSION, distortion, {"crop_align": 16}, "pairs", None),
        steps=steps,
        kept_step=steps,
        figures=figures,
        weights_digest=arrays_digest(weights or {}),
        device="CPU",
        packages={},
    )


def write_card(folder, card):
    """Write the card into a folder whose other files are complete."""
    metadata = {**card.metadata(), "files": write_listing(folder, {}), "config_hash": digest(card.distortion)}
    write_json(folder / "store.json", sealed(metadata))


def change_card(folder, **changes):
    """Change fields of a model card."""
    card = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    write_json(folder / "store.json", sealed({**card, **changes}))
