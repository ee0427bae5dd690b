"""Trained generators and checkpoints on disk, as arrays only: loading executes no code.

models/jpeg/store.json                    the machine-readable model card: settings, data, figures, digest
models/jpeg/README.md                     the model card for people
models/jpeg/generator.safetensors         the weights used in generation, float32
models/jpeg/validation_histograms.npz     per-tile histograms for the acceptance thresholds of batch reports
models/jpeg/live/                         losses and validation JSD_NSS over the steps, as DVC plots
models/jpeg/side_by_side/                 side-by-side images during training
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

from distort_pipeline.data.conditions import ModelCapabilities
from distort_pipeline.data.files import read_json, read_metadata, write_bytes
from distort_pipeline.distortions.presets import default_index
from distort_pipeline.distortions.severity_scale import parameters_at
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import keras

    from distort_pipeline.networks.composed import ComposedPredictor
    from distort_pipeline.networks.predictor import Predictor


KIND = "model"
VERSION = 3
WEIGHTS = "generator.safetensors"
HISTOGRAMS = "validation_histograms.npz"

Arrays = Mapping[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, atomically."""
    # np.ascontiguousarray would give a scalar, such as an optimiser's step count, an axis
    contiguous = {name: np.asarray(array, order="C") for name, array in sorted(arrays.items())}
    write_bytes(path, save(contiguous, metadata=dict(metadata or {})))


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the named arrays and the metadata of a safetensors file; PipelineError if missing or damaged."""
    try:
        arrays = load(path.read_bytes())
        with safetensors.safe_open(path, "numpy") as file:
            return arrays, dict(file.metadata() or {})
    except FileNotFoundError:
        raise PipelineError(f"there is no file {path}") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise PipelineError(f"{path} is damaged: {error}") from None


def arrays_digest(arrays: Arrays) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of `arrays`, sorted by name."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


@dataclass(frozen=True)
class ValidationHistograms:
    """Histograms of the products in JSD_NSS for each validation tile, at one level.

    Counts are (n, 103); `images` (n,) are the indices of the tiles' images.
    """

    pristine: NDArray[np.int64]
    true: NDArray[np.int64]
    generated: NDArray[np.int64]
    images: NDArray[np.int64]
    tile_px: int


def write_histograms(folder: Path, levels: Sequence[ValidationHistograms]) -> None:
    """Write the histograms of each level, all of the same tiles, for acceptance thresholds."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        pristine=levels[0].pristine,
        true=np.stack([histograms.true for histograms in levels]),
        generated=np.stack([histograms.generated for histograms in levels]),
        images=levels[0].images,
        tile_px=np.asarray(levels[0].tile_px),
    )
    write_bytes(folder / HISTOGRAMS, buffer.getvalue())


def read_histograms(folder: Path) -> tuple[ValidationHistograms, ...]:
    """Return the histograms of a model folder for each level, mildest first; PipelineError if damaged."""
    try:
        with np.load(folder / HISTOGRAMS, allow_pickle=False) as stored:
            pristine, images, tile_px = stored["pristine"], stored["images"], int(stored["tile_px"])
            return tuple(
                ValidationHistograms(pristine, true, generated, images, tile_px)
                for true, generated in zip(stored["true"], stored["generated"], strict=True)
            )
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(f"{folder / HISTOGRAMS} is missing or damaged: {error}") from None


def read_card(folder: Path) -> dict[str, Any]:
    """Return the model card of `folder`; PipelineError for another version."""
    return read_metadata(folder, KIND, VERSION)


def finished_models(models: Path) -> dict[str, Path]:
    """Return name → folder of each finished model in `models`, sorted by name, without those of other projects."""
    folders = (path.parent for path in sorted(models.glob("[!.]*/store.json")))  # without staging
    return {folder.name: folder for folder in folders if _is_ours(folder)}


def _is_ours(folder: Path) -> bool:
    try:
        metadata = read_json(folder / "store.json")
    except PipelineError:
        return True  # a damaged model is an error for its reader
    return isinstance(metadata, dict) and str(metadata.get("format")).startswith("distort-pipeline/")


def model_folders(models: Path) -> dict[str, Path]:
    """Return name → folder of each finished model in `models`, sorted by name; PipelineError if none."""
    if not models.is_dir():
        raise PipelineError(f"there is no folder of models {models}; train first, or name one with --models")
    folders = finished_models(models)
    if not folders:
        raise PipelineError(
            f"no finished model lies in {models}; train first, or name a folder of models with --models"
        )
    return folders


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
    """Return whether the model of this card needs statistics of the whole image, see `networks/wavelets.py`."""
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
        from distort_pipeline.networks.composed import ComposedPredictor
        from distort_pipeline.networks.saved import composed_generator

        generator = composed_generator(weights, network["parts"])
        return TrainedGenerator(card, ComposedPredictor(generator, batch_size=batch_size))
    from distort_pipeline.networks.generator import build_generator
    from distort_pipeline.networks.layers import fused_weights
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


Card = Mapping[str, Any]
TOLERANCE = 1e-9  # a severity this close to a level's counts as equal


def default_level(card: Card) -> LearnedLevel:
    """Return the learned level used if no severity is requested: the default preset's level, else the middle."""
    levels = learned_levels(card)
    return levels[default_index(card["distortion"], [dict(level.parameters) for level in levels])]


def capabilities(card: Card) -> ModelCapabilities:
    """Return the levels, severities and draws available from a model."""
    default = default_level(card)
    return ModelCapabilities(default.level, default.severity, is_multi_level(card), is_stochastic(dict(card)))


def true_parameters(card: Card, severity: float) -> dict[str, float]:
    """Return the parameters of the true distortion at a severity of the model; none for external pairs.

    PipelineError between learned levels if the distortion has no severity scale.
    """
    if card["external"]:
        return {}
    return parameters_at(card["distortion"], [level.parameters for level in learned_levels(card)], severity)


def composite_parameters(cards: Mapping[str, Card], severity: float) -> dict[str, float]:
    """Return the true parameters of a condition's models (name → card), prefixed with model names for a composite."""
    if len(cards) == 1:
        return true_parameters(next(iter(cards.values())), severity)
    return {
        f"{model} {name}": value
        for model, card in cards.items()
        for name, value in true_parameters(card, severity).items()
    }


def levels_near(card: Card, severities: Iterable[float]) -> list[int]:
    """Return the indices of the learned levels that equal or enclose the `severities`; below the lowest, its index.

    >>> card = {"levels": [{"level": at, "parameters": {}, "severity": at / 2} for at in (1, 2)]}
    >>> levels_near(card, [0.5]), levels_near(card, [0.2]), levels_near(card, [0.7, 1])
    ([0], [0], [0, 1])
    """
    known = [level.severity for level in learned_levels(card)]
    nearest: set[int] = set()
    for severity in severities:
        above = next((index for index, level in enumerate(known) if level >= severity - TOLERANCE), len(known) - 1)
        nearest.add(above)
        if above and known[above] - severity > TOLERANCE:
            nearest.add(above - 1)
    return sorted(nearest)
