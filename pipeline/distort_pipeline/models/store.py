"""Trained generators on disk, as arrays only, and applied one after the other: loading executes no code.

models/jpeg/store.json                    the machine-readable model card: settings, data, figures, digest
models/jpeg/README.md                     the model card for people
models/jpeg/generator.safetensors         the weights used in generation, float32
models/jpeg/validation_histograms.npz     per-tile histograms for the acceptance thresholds of batch reports
models/jpeg/live/                         losses and validation JSD_NSS over the steps, as DVC plots
models/jpeg/side_by_side/                 side-by-side images during training
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.conditions import COMPOSITE_SEPARATOR
from distort_pipeline.data.files import arrays_digest, is_ours, stored_metadata, write_bytes
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.acceptance import TileStatistics, ValidationStatistics
from distort_pipeline.models.card import COMPOSED, DistortionSpec, ModelCard, composite_parameters, read_card
from distort_pipeline.models.readme import readme
from distort_pipeline.records import Images, derive_seed

if TYPE_CHECKING:
    import keras

    from distort_pipeline.data.plans import PlannedSample
    from distort_pipeline.data.severity_search import Calibration
    from distort_pipeline.networks.composed import ComposedPredictor
    from distort_pipeline.networks.predictor import FittedGenerator, Predictor
    from distort_pipeline.networks.wavelets import Significances


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


@dataclass(frozen=True)
class ValidationHistograms:
    """Histograms of the products in JSD_NSS for each validation tile, at one level.

    Counts are (n, 103); `images` (n,) are the indices of the tiles' images. `statistics` judge batches of external
    pairs, whose tiles have no truth.
    """

    pristine: NDArray[np.int64]
    true: NDArray[np.int64]
    generated: NDArray[np.int64]
    images: NDArray[np.int64]
    tile_px: int
    statistics: ValidationStatistics | None = None


def write_histograms(folder: Path, levels: Sequence[ValidationHistograms]) -> None:
    """Write the histograms, and the statistics if there are any, of each level, all of the same tiles."""
    statistics = [level.statistics for level in levels if level.statistics is not None]
    judged: dict[str, NDArray[Any]] = {}
    if statistics:
        judged = {
            "content": statistics[0].content,
            "values": np.stack([level.tiles.values for level in statistics]),
            "features": np.stack([level.tiles.histograms for level in statistics]).astype(np.int32),
        }
    buffer = io.BytesIO()
    write: Any = np.savez_compressed  # the stub mistakes the arrays for options
    write(
        buffer,
        pristine=levels[0].pristine,
        true=np.stack([histograms.true for histograms in levels]),
        generated=np.stack([histograms.generated for histograms in levels]),
        images=levels[0].images,
        tile_px=np.asarray(levels[0].tile_px),
        **judged,
    )
    write_bytes(folder / HISTOGRAMS, buffer.getvalue())


def read_histograms(folder: Path) -> tuple[ValidationHistograms, ...]:
    """Return the histograms of a model folder for each level, mildest first; PipelineError if damaged."""
    try:
        with np.load(folder / HISTOGRAMS, allow_pickle=False) as stored:
            pristine, images, tile_px = stored["pristine"], stored["images"], int(stored["tile_px"])
            histograms = zip(stored["true"], stored["generated"], strict=True)
            levels = [ValidationHistograms(pristine, *both, images, tile_px) for both in histograms]
            if "content" in stored:
                tiles = map(TileStatistics, stored["values"], stored["features"])
                judged = [ValidationStatistics(level, stored["content"], images) for level in tiles]
                levels = [replace(level, statistics=each) for level, each in zip(levels, judged, strict=True)]
            return tuple(levels)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(f"{folder / HISTOGRAMS} is missing or damaged: {error}") from None


def finished_models(models: Path) -> dict[str, Path]:
    """Return name → folder of each finished model in `models`, sorted by name, without those of other projects."""
    folders = (path.parent for path in sorted(models.glob("[!.]*/store.json")))  # without staging
    return {folder.name: folder for folder in folders if _is_ours(folder)}


def _is_ours(folder: Path) -> bool:
    try:
        return is_ours(stored_metadata(folder))
    except PipelineError:
        return True  # a damaged model is an error for its reader


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


def publish_model(build: StagedStore, card: ModelCard) -> None:
    """Write the card, for programs and for people, and move the finished model to its folder."""
    write_bytes(build.work / "README.md", readme(card).encode())
    build.publish(card.metadata())


@dataclass(frozen=True)
class TrainedGenerator:
    """A model card and its generator."""

    card: ModelCard
    predictor: Predictor | ComposedPredictor

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        return self.card.weights_digest


def load_generator(folder: Path, *, batch_size: int, precision: str = "float32") -> TrainedGenerator:
    """Return the generator of a model folder, loaded once per process; PipelineError if its weights are damaged."""
    return _loaded(folder, read_card(folder).weights_digest, batch_size, precision)


@lru_cache(maxsize=8)  # keyed by digest: a later training may replace the model in the folder
def _loaded(folder: Path, weights_digest: str, batch_size: int, precision: str) -> TrainedGenerator:
    card = read_card(folder)
    weights = model_weights(folder, weights_digest)
    network = card.network
    if network.parts is not None:
        from distort_pipeline.networks.composed import ComposedPredictor
        from distort_pipeline.networks.saved import composed_levels

        levels = composed_levels(weights, network.parts)
        return TrainedGenerator(card, ComposedPredictor(levels, batch_size=batch_size))
    from distort_pipeline.networks.predictor import Predictor

    with_stats = network.image_stats
    predictor = Predictor(
        _network(card, weights, precision, with_stats) if network.base_filters else _fitted(card, weights),
        noise_channels=network.noise_channels,
        batch_size=batch_size,
        multi_level=card.is_multi_level,
        image_stats=with_stats,
        position_at=card.scale.position_at,
    )
    return TrainedGenerator(card, predictor)


def _fitted(card: ModelCard, weights: Arrays) -> FittedGenerator:
    """Return a generator without a network, in NumPy: the same bytes with any backend, or without one."""
    from distort_pipeline.networks.predictor import FittedCurves, FittedGenerator, FittedNoise

    network, levels = card.network, len(card.levels)
    models: list[FittedCurves | FittedNoise] = []
    try:
        if network.codec_prior != "none":
            models.append(FittedCurves(network.codec_prior, levels, weights))
        if network.noise_pyramid:
            models.append(FittedNoise(levels, weights))
    except KeyError as missing:
        raise PipelineError(f"the weights lack {missing.args[0]}: train a model of an older version again") from None
    return FittedGenerator(models)


def load_network(folder: Path) -> keras.Model:
    """Return a generator that is not composed as a Keras model, which takes each input as a whole image."""
    card = read_card(folder)
    return _network(card, model_weights(folder, card.weights_digest), "float32", image_stats=False)


def _network(card: ModelCard, weights: Arrays, precision: str, image_stats: bool) -> keras.Model:
    from distort_pipeline.networks.generator import Architecture, build_generator
    from distort_pipeline.networks.layers import fused_weights

    network = card.network
    model = build_generator(
        Architecture(
            network.base_filters, network.noise_channels, network.codec_prior, network.noise_pyramid, len(card.levels)
        ),
        precision=precision,
        fused=True,
        image_stats=image_stats,
    )
    assign_weights(model, fused_weights(weights))
    return model


def model_weights(folder: Path, weights_digest: str) -> dict[str, NDArray[np.float32]]:
    """Return path → array, float32, of a model folder; PipelineError if the weights do not match the digest."""
    weights, _ = read_arrays(folder / WEIGHTS)
    if arrays_digest(weights) != weights_digest:
        raise PipelineError(f"{folder / WEIGHTS} is damaged: its digest differs from the digest in the model card")
    # the shipped weights are stored in half precision
    return {path: array.astype("float32") for path, array in weights.items()}


def weights_of(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return path → array of every variable of `model`."""
    import numpy as np

    return {variable.path: np.asarray(variable) for variable in model.variables}


def assign_weights(model: keras.Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
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


@dataclass(frozen=True)
class CompositeGenerator:
    """Generators by the names of their models, in the order of application; usually a single one."""

    generators: Mapping[str, TrainedGenerator]

    @property
    def cards(self) -> dict[str, ModelCard]:
        """The model cards, by name."""
        return {name: generator.card for name, generator in self.generators.items()}

    @property
    def digest(self) -> str:
        """The digests of the weights."""
        return COMPOSITE_SEPARATOR.join(generator.digest for generator in self.generators.values())

    @property
    def external(self) -> bool:
        """Whether a generator was trained on external pairs."""
        return any(card.external for card in self.cards.values())

    @property
    def highest_severity(self) -> float:
        """The highest severity that all generators have learned."""
        several = [card.highest_severity for card in self.cards.values() if card.is_multi_level]
        return min(several or [card.highest_severity for card in self.cards.values()])

    @property
    def calibration(self) -> Calibration:
        """The calibration of a single generator."""
        (card,) = self.cards.values()
        assert card.calibration is not None  # required of --target before
        return card.calibration

    def true_distortions(self, severity: float) -> list[DistortionSpec]:
        """Return the true distortions at a severity, in the order of application; none if one has no truth there."""
        own = {name: self._severity(card, severity) for name, card in self.cards.items()}
        if not all(card.has_truth_at(own[name]) for name, card in self.cards.items()):
            return []
        return [
            DistortionSpec(name, card.distortion, 0, card.true_parameters(own[name]))
            for name, card in self.cards.items()
        ]

    def _severity(self, card: ModelCard, severity: float) -> float:
        """Return the severity of one of the models: in a composite, a model of one level keeps it."""
        return card.severity_in_composite(severity) if len(self.generators) > 1 else severity

    def true_parameters(self, severity: float) -> dict[str, float]:
        """Return the parameters of the true distortions at a severity, with model names for a composite."""
        return composite_parameters(self.cards, severity)

    def set_sources(self, samples: Sequence[PlannedSample], root: Path, *, seed: int) -> None:
        """Tell the first generator which image in the folder `root` the tile of each sample is of."""
        first = next(iter(self.generators.values()))
        if first.card.network.kind != COMPOSED:
            return
        from distort_pipeline.data.sources import read_ingested
        from distort_pipeline.networks.composed import TileSource

        sources = {}
        for sample in samples:
            image, tile = sample.tile.image, sample.tile.tile
            image_seed = derive_seed(seed, "photograph", image.image_digest, sample.draw)
            read = partial(read_ingested, root, image)
            sources[sample.seed] = TileSource(image.image_digest, read, tile.y, tile.x, image_seed)
        first.predictor.set_sources(sources)  # type: ignore[union-attr]  # of its kind

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted, each with its seed and severity, batch by batch.

        The output of each generator is rounded to 8 bits, as in a file. `significances` (N, 18) belong to the whole
        images of these tiles and serve the first generator; the others compute the significance of each tile alone.
        """
        first, *others = self.generators.values()
        at_first = [self._severity(first.card, severity) for severity in severities]
        start = 0
        for batch in first.predictor.distort_batches(images, seeds, at_first, significances):
            rows, distorted = slice(start, start + len(batch)), batch
            for index, generator in enumerate(others, start=1):
                draw_seeds = [derive_seed(seed, index) for seed in seeds[rows]]
                at_this = [self._severity(generator.card, severity) for severity in severities[rows]]
                distorted = generator.predictor.distort(distorted, draw_seeds, at_this)
            yield distorted
            start = rows.stop


def load_composite(
    models: Mapping[str, Path], *, batch_size: int, precision: str, threads: int | None = None
) -> CompositeGenerator:
    """Return the generators of the folders `models`, each loaded once in a process, a network on `threads` if given."""
    if threads is not None and any(read_card(folder).network.needs_backend for folder in models.values()):
        from distort_pipeline.networks.backend import pin_backend_threads

        pin_backend_threads(threads)
    return CompositeGenerator(
        {name: load_generator(path, batch_size=batch_size, precision=precision) for name, path in models.items()}
    )


def validation_histograms(
    models: Mapping[str, Path], generator: CompositeGenerator, severities: Sequence[float]
) -> ValidationHistograms | None:
    """Return the validation histograms of a single generator at the level of all `severities`; None if there is none.

    A severity between two levels has no validation pairs, and neither has a composite.
    """
    (name, trained), *others = generator.generators.items()
    level = trained.card.level_at(severities)
    return None if others or level is None else _stored_histograms(models[name], trained.digest)[level]


@lru_cache(maxsize=8)  # by digest too: a later training may overwrite the folder
def _stored_histograms(model: Path, weights_digest: str) -> tuple[ValidationHistograms, ...]:  # noqa: ARG001
    return read_histograms(model)
