"""Generators of random weights in folders as written by training."""

import json

from distort_pipeline.data.files import sealed, write_bytes, write_json, write_listing
from distort_pipeline.models.store import VERSION, WEIGHTS, arrays_digest, write_arrays, write_histograms
from distort_pipeline.records import digest
from distort_pipeline.training.validation import summary

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
    from distort_pipeline.networks.generator import build_generator

    keras.utils.set_random_seed(len(distortion))
    weights = weights_of(build_generator(base_filters=4, noise_channels=noise_channels, levels=levels))
    model_parameters = PARAMETERS.get(distortion, {}) if parameters is None else parameters
    level_parameters = [model_parameters] if levels == 1 else model_parameters
    settings = {"format": "model", "version": 1, "distortion": distortion, "train": {"crop_align": 16}}
    write_arrays(folder / WEIGHTS, weights)
    write_histograms(folder, [histograms] * levels)
    write_bytes(folder / "README.md", b"# Generator\n")
    card = {
        "format": "distort-pipeline/model",
        "version": VERSION,
        "distortion": distortion,
        "levels": [
            {"level": level, "parameters": values, "severity": level / levels, "figures": summary(histograms)}
            for level, values in enumerate(level_parameters, start=1)
        ],
        "external": external,
        "network": {"base_filters": 4, "noise_channels": noise_channels},
        "settings": settings,
        "steps": steps,
        "figures": summary(histograms),
        "weights_digest": arrays_digest(weights),
        "config_hash": digest(settings),
    }
    write_json(folder / "store.json", sealed({**card, "files": write_listing(folder)}))
    return folder


def fit_dct_only(patch):
    """Let fits try a single codec prior until `patch` ends: tests/training/test_fit_codec.py chooses among all."""
    from distort_pipeline.networks.codec_prior import CODEC_PRIORS
    from distort_pipeline.training import fit_codec

    patch.setattr(fit_codec, "CODEC_PRIORS", {"dct": CODEC_PRIORS["dct"]})


def change_card(folder, **changes):
    """Change fields of a model card."""
    card = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    write_json(folder / "store.json", sealed({**card, **changes}))
