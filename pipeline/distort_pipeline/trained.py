"""Trained generators, loaded from their folders for inference."""

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

    from distort_pipeline.components.predictor import ComposedPredictor
    from distort_pipeline.networks.predictor import Predictor


@dataclass(frozen=True)
class TrainedGenerator:
    """A model card and its generator."""

    card: dict[str, Any]
    predictor: Predictor | ComposedPredictor

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        return str(self.card["weights_digest"])


@dataclass(frozen=True)
class LearnedLevel:
    """A level learned by a model: its number and parameters in the pairs, and its severity."""

    level: int
    parameters: Mapping[str, float]
    severity: float  # k / n for the k-th of n


def learned_levels(card: Mapping[str, Any]) -> tuple[LearnedLevel, ...]:
    """Return the levels learned by the model of this card, lowest severity first."""
    return tuple(LearnedLevel(level["level"], level["parameters"], level["severity"]) for level in card["levels"])


def is_multi_level(card: Mapping[str, Any]) -> bool:
    """Return whether the model of this card has learned several levels, and so takes any severity from 0 to 1."""
    return len(card["levels"]) > 1


def is_stochastic(card: dict[str, Any]) -> bool:
    """Return whether the output of the model of this card depends on the seed."""
    return bool(card["network"]["noise_channels"])


def needs_image_stats(card: Mapping[str, Any]) -> bool:
    """Return whether the model of this card needs statistics of the whole image, see `wavelets/significance.py`."""
    return bool(card["network"].get("image_stats", False))


def load_generator(
    folder: Path, *, batch_size: int, precision: str = "float32", image_stats: bool = True
) -> TrainedGenerator:
    """Return the generator of a model folder, loaded once per process; PipelineError if its weights are damaged.

    Without `image_stats`, a generator that needs statistics of the whole image computes them from each tile.
    """
    return _loaded(folder, str(read_card(folder)["weights_digest"]), batch_size, precision, image_stats)


@lru_cache(maxsize=8)  # keyed by digest: a later training may replace the model in the folder
def _loaded(folder: Path, weights_digest: str, batch_size: int, precision: str, image_stats: bool) -> TrainedGenerator:
    card = read_card(folder)
    weights = model_weights(folder, weights_digest)
    network = card["network"]
    if network.get("kind") == "composed":
        from distort_pipeline.components.predictor import ComposedPredictor
        from distort_pipeline.components.saved import composed_generator

        generator = composed_generator(weights, network["parts"])
        return TrainedGenerator(card, ComposedPredictor(generator, batch_size=batch_size))
    from distort_pipeline.networks.fusing import fused_weights
    from distort_pipeline.networks.generator import build_generator
    from distort_pipeline.networks.predictor import Predictor

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
    """Return path → array, float32, of a model folder; PipelineError if the weights do not match the digest."""
    weights, _ = read_arrays(folder / WEIGHTS)
    if arrays_digest(weights) != weights_digest:
        raise PipelineError(f"{folder / WEIGHTS} is damaged: its digest differs from the digest in the model card")
    # the shipped weights are stored in half precision
    return {path: array.astype("float32") for path, array in weights.items()}


def weights_of(model: keras.Model) -> dict[str, Any]:
    """Return path → array of every variable of `model`."""
    import numpy as np

    return {variable.path: np.asarray(variable) for variable in model.variables}


def assign_weights(model: keras.Model, weights: Mapping[str, Any]) -> None:
    """Assign the arrays of `weights` to `model`; PipelineError names an array that is missing or of another shape."""
    for variable in model.variables:
        if variable.path not in weights:
            raise PipelineError(f"the weights lack {variable.path}: train a model of an older version again")
        if tuple(variable.shape) != weights[variable.path].shape:
            raise PipelineError(
                f"{variable.path} is of shape {weights[variable.path].shape}, the network needs "
                f"{tuple(variable.shape)}: train a model of an older version again"
            )
        variable.assign(weights[variable.path])
