"""A trained generator, found in its folder and made ready to distort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.models import WEIGHTS, arrays_digest, read_arrays, read_card

if TYPE_CHECKING:
    import keras

    from distort_pipeline.networks.predictor import Predictor


@dataclass(frozen=True)
class TrainedGenerator:
    """A model card and the generator that it describes."""

    card: dict[str, Any]
    predictor: Predictor

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        return str(self.card["weights_digest"])


@dataclass(frozen=True)
class LearnedLevel:
    """One level of a distortion that a model has learned: its number and parameters in the pairs, and its severity."""

    level: int
    parameters: Mapping[str, float]
    severity: float  # k / n for the k-th of n


def learned_levels(card: Mapping[str, Any]) -> tuple[LearnedLevel, ...]:
    """Return the levels that the model of this card has learned, weakest first."""
    return tuple(LearnedLevel(one["level"], one["parameters"], one["severity"]) for one in card["levels"])


def is_multi_level(card: Mapping[str, Any]) -> bool:
    """Return whether the model of this card has learned several levels, and takes any severity from 0 to 1."""
    return len(card["levels"]) > 1


def is_stochastic(card: dict[str, Any]) -> bool:
    """Return whether the model of this card draws anew for every seed."""
    return bool(card["network"]["noise_channels"])


def needs_image_stats(card: Mapping[str, Any]) -> bool:
    """Return whether the model of this card goes by the whole image of each tile, see `wavelets/significance.py`."""
    return bool(card["network"].get("image_stats", False))


def load_generator(
    folder: Path, *, batch_size: int, precision: str = "float32", image_stats: bool = True
) -> TrainedGenerator:
    """Return the generator of a model folder, loaded once in each process; PipelineError if its weights are damaged.

    Without `image_stats` one that goes by the image that a tile is of takes each tile for a whole image.
    """
    return _loaded(folder, str(read_card(folder)["weights_digest"]), batch_size, precision, image_stats)


@lru_cache(maxsize=8)  # by digest: a worker outlives a training that puts another model in the same folder
def _loaded(folder: Path, weights_digest: str, batch_size: int, precision: str, image_stats: bool) -> TrainedGenerator:
    from distort_pipeline.networks.fusing import fused_weights
    from distort_pipeline.networks.generator import build_generator
    from distort_pipeline.networks.predictor import Predictor

    card = read_card(folder)
    weights = model_weights(folder, weights_digest)
    network = card["network"]
    model = build_generator(
        base_filters=network["base_filters"],
        noise_channels=network["noise_channels"],
        codec_prior=network.get("codec_prior", "none"),
        noise_pyramid=network.get("noise_pyramid", False),
        levels=len(card["levels"]),
        precision=precision,
        fused=True,
        image_stats=image_stats,
    )
    assign_weights(model, fused_weights(weights))
    predictor = Predictor(
        model,
        noise_channels=network["noise_channels"],
        batch_size=batch_size,
        multi_level=is_multi_level(card),
        image_stats=image_stats and needs_image_stats(card),
    )
    return TrainedGenerator(card, predictor)


def model_weights(folder: Path, weights_digest: str) -> dict[str, Any]:
    """Return path → array, float32, of a model folder; PipelineError if its weights are not those of the digest."""
    weights, _ = read_arrays(folder / WEIGHTS)
    if arrays_digest(weights) != weights_digest:
        raise PipelineError(f"{folder / WEIGHTS} is damaged: its digest is not the one in the model card")
    return {
        path: array.astype("float32") for path, array in weights.items()
    }  # pretrained generators' rest in half precision


def weights_of(model: keras.Model) -> dict[str, Any]:
    """Return path → array of every variable of `model`."""
    import numpy as np

    return {variable.path: np.asarray(variable) for variable in model.variables}


def assign_weights(model: keras.Model, weights: Mapping[str, Any]) -> None:
    """Give `model` the arrays of `weights`; PipelineError names what is missing or of another shape."""
    for variable in model.variables:
        if variable.path not in weights:
            raise PipelineError(
                f"the weights lack {variable.path}: a model that an older version trained is to be trained again"
            )
        if tuple(variable.shape) != weights[variable.path].shape:
            raise PipelineError(
                f"{variable.path} is of shape {weights[variable.path].shape}, the network wants "
                f"{tuple(variable.shape)}: a model that an older version trained is to be trained again"
            )
        variable.assign(weights[variable.path])
