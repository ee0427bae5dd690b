"""Initialization of an adversarial training: from least-squares fits to the pairs, or from another trained model.

A fit is kept on disk for a resumed training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.pairs import PairStore, Recipe
from distort_pipeline.distortions import DISTORTIONS, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import Figures, read_card
from distort_pipeline.models.store import model_weights, read_arrays, write_arrays
from distort_pipeline.networks.codec_prior import ALL_LEVELS, NO_PRIOR, is_scaled
from distort_pipeline.networks.predictor import COEFFICIENT_CURVES, NOISE_PYRAMID
from distort_pipeline.process import track
from distort_pipeline.records import TILE_ALIGN_PX, Images
from distort_pipeline.training.crops import training_indices
from distort_pipeline.training.fit_codec import CONDITIONAL_MEAN, SHRINKAGE_GAINS, explained_by, fit_best
from distort_pipeline.training.fit_noise import fit_noise

MAX_WARMUP_STEPS = 500
NOISE_CHANNELS = 3  # of a noise type: a channel for each colour, for independent colours


def learned_recipes(pairs: PairStore, distortion: str, levels: Sequence[int] | None) -> list[Recipe]:
    """Return the recipes of the `levels` of `distortion`, weakest first.

    None stands for all levels of external pairs, otherwise for the store's first. PipelineError for a level not in the
    store.
    """
    recipes = pairs.recipes(distortion)
    if levels is None:
        return recipes if recipes[0].external else recipes[:1]
    by_level = {recipe.level: recipe for recipe in recipes}
    for level in levels:
        if level not in by_level:
            available = ", ".join(map(str, sorted(by_level)))
            raise PipelineError(f"train.levels names level {level} of {distortion}; {pairs.folder} holds: {available}")
    return [by_level[level] for level in sorted(levels)]


def resolve_noise_channels(configured: int | None, distortion: str, init_from: Path | None = None) -> int:
    """Return the noise channels per scale: as configured, as in `init_from`, or by whether the distortion is random.

    >>> [resolve_noise_channels(None, name) for name in ("white_noise", "jpeg")], resolve_noise_channels(5, "")
    ([3, 0], 5)
    """
    if configured is not None:
        return configured
    if init_from is not None:
        return read_card(init_from).network.noise_channels
    return NOISE_CHANNELS if distortion in DISTORTIONS.names() and is_random(distortion) else 0


def resolve_warmup_steps(configured: int | None, *, steps: int, adversarial: bool, fitted: bool) -> int:
    """Return the discriminator's warm-up steps: an untrained D would mislead a well initialised generator.

    `adversarial` is whether G learns from D at all, `fitted` whether G starts from least-squares fits.

    >>> [resolve_warmup_steps(None, steps=1000, adversarial=True, fitted=fitted) for fitted in (True, False)]
    [250, 0]
    """
    if configured is not None:
        return configured
    if not adversarial:
        return 0  # there is no D to wait for
    return min(steps // 4, MAX_WARMUP_STEPS) if fitted else 0


def require_same_networks(
    init_from: Path, *, base_filters: int, noise_channels: int, codec_prior: str | None, crop_align: int
) -> None:
    """Raise PipelineError if a training with these settings cannot continue from the model `init_from`."""
    network = read_card(init_from).network
    learned = network.codec_prior
    for name, configured, trained in (
        # a model without a U-Net takes any width
        ("base_filters", base_filters, network.base_filters or base_filters),
        ("noise_channels", noise_channels, network.noise_channels),
        ("codec_prior", codec_prior or learned, learned),
    ):
        if configured != trained:
            raise PipelineError(
                f"train.{name} is {configured}, but --init-from {init_from} has {trained}: "
                f"set train.{name} to {trained}, or choose another model"
            )
    if learned != "none" and crop_align != TILE_ALIGN_PX:
        raise PipelineError(
            f"train.crop_align has to be {TILE_ALIGN_PX}, got {crop_align}: "
            f"the codec prior of --init-from {init_from} has blocks on this grid"
        )


def require_better_than_identity(distortion: str, figures: Figures) -> None:
    """Raise PipelineError if an initialization without steps is no better than the identity baseline."""
    if figures.jsd_nss >= figures.jsd_nss_pristine:
        raise PipelineError(
            f"the least-squares fit of {distortion} scores {figures.jsd_nss:.4f} bits, the identity baseline "
            f"{figures.jsd_nss_pristine:.4f}: with train.steps 0 the model is no better than the identity; "
            "raise train.steps or change train.noise_channels"
        )


MOST = 512  # tiles; four times as many changed JSD_NSS by less than 0.001 bits
MULTIPLE_PX = 128


@dataclass(frozen=True)
class FitTiles:
    """Tiles (N, side, side, 3), sides a multiple of 128, distorted at each level, and the image of each."""

    pristine: Images
    distorted: tuple[Images, ...]  # weakest level first
    images: tuple[str, ...]


def fit_tiles(pairs: PairStore, distortion: str, levels: Sequence[int], *, least_px: int) -> FitTiles:
    """Return up to 512 tiles at the `levels` of `distortion`, cut to the smallest common side.

    Tiles smaller than `least_px` are left out, as in training; PipelineError if all are.
    """
    records = pairs.records("train")
    index_of = [
        {records[index].slot: index for index in training_indices(pairs, distortion, [level], least_px=least_px)}
        for level in levels
    ]
    tiles = [tile for tile in index_of[0] if all(tile in level_index for level_index in index_of)]
    chosen = [tiles[number] for number in np.unique(np.linspace(0, len(tiles) - 1, min(MOST, len(tiles))).astype(int))]
    smallest = min(min(records[index_of[0][tile]].height, records[index_of[0][tile]].width) for tile in chosen)
    side = smallest // MULTIPLE_PX * MULTIPLE_PX
    pristine = np.empty((len(chosen), side, side, 3), np.uint8)
    distorted = np.empty((len(index_of), *pristine.shape), np.uint8)
    images = []
    places = [(row, level) for level in range(len(index_of)) for row in range(len(chosen))]
    for row, level in track(places, total=len(places), label=f"reading {distortion}", unit="tiles"):
        pair = pairs[index_of[level][chosen[row]]]
        distorted[level, row] = pair.distorted[:side, :side]
        if level == 0:
            pristine[row] = pair.pristine[:side, :side]
            images.append(pair.records[0].image)
    return FitTiles(pristine, tuple(distorted), tuple(images))


NAME = "fitted.safetensors"


@dataclass(frozen=True)
class Initialization:
    """Fitted coefficient curves with their codec prior, a fitted noise pyramid, and a trained model, each if any."""

    codec_prior: str = NO_PRIOR
    explained: Mapping[str, float] | None = None  # share of the squared difference, for each codec prior tried
    coefficient_curves: Mapping[str, NDArray[Any]] | None = None
    noise: Mapping[str, NDArray[Any]] | None = None  # variable name → array (levels, ...)
    model: Mapping[str, NDArray[Any]] | None = None  # all weights of a trained G to continue from

    @property
    def fitted(self) -> bool:
        """Whether there are coefficient curves or a noise pyramid."""
        return bool(self.coefficient_curves) or self.noise is not None

    @property
    def image_stats(self) -> bool:
        """Whether G takes the significance of the whole image of each tile."""
        return is_scaled(self.codec_prior)

    @property
    def unet_is_zero(self) -> bool:
        """Whether the residual of the U-Net starts at 0."""
        return self.fitted and self.model is None


def fit_init(
    pairs: PairStore,
    distortion: str,
    levels: Sequence[int],
    folder: Path,
    *,
    codec_prior: str | None,
    noise_channels: int,
    least_px: int,
) -> Initialization:
    """Return the initialization fitted to the pairs of `distortion`, or an earlier run's, read from `folder`.

    `codec_prior` is a name, "none" for the paper's start without any fit, or None for the best.
    """
    if codec_prior == NO_PRIOR:
        return Initialization()
    if (folder / NAME).is_file():
        return _read(folder / NAME)
    tiles = fit_tiles(pairs, distortion, levels, least_px=least_px)
    # the spread of a random distortion around its mean is left to the noise pyramid
    shrinkage_gains = (CONDITIONAL_MEAN,) if noise_channels else SHRINKAGE_GAINS
    fitted = fit_best(tiles.pristine, tiles.distorted, tiles.images, codec_prior, shrinkage_gains)
    noise = None
    if noise_channels:
        noise_of_levels = [
            fit_noise(
                explained_by(fitted, tiles.pristine, tiles.images, level=level, levels=len(levels)),
                distorted,
                channels=noise_channels,
            )
            for level, distorted in enumerate(tiles.distorted, start=1)
        ]
        noise = {name: np.stack([level_noise[name] for level_noise in noise_of_levels]) for name in noise_of_levels[0]}
    init = Initialization(fitted.codec_prior, fitted.explained, fitted.weights, noise)
    _write(folder / NAME, init)
    return init


def load_init(init_from: Path, levels: Sequence[Mapping[str, float]]) -> Initialization:
    """Return the initialization from the trained model in the folder `init_from`; nothing is fitted again.

    Only the `levels`, given by their parameters, are taken. PipelineError if the model has not learned all of them, or
    if its U-Net has learned others as well: curves are separate for each level, the U-Net's weights are not. A model
    without a U-Net gets a new U-Net.
    """
    card = read_card(init_from)
    network = card.network
    learned = [dict(level.parameters) for level in card.levels]
    for parameters in levels:
        if dict(parameters) not in learned:
            raise PipelineError(
                f"--init-from {init_from} has learned {learned}, and not {dict(parameters)}: choose another model"
            )
    chosen = [learned.index(dict(parameters)) for parameters in levels]
    if network.base_filters and chosen != list(range(len(learned))):
        raise PipelineError(
            f"--init-from {init_from} has a U-Net for {len(learned)} levels, and train.levels has {len(levels)}"
        )
    weights = model_weights(init_from, card.weights_digest)
    coefficient_curves, noise = (
        {
            name: array if name.startswith(ALL_LEVELS) else array[chosen]
            for name, array in _of_layer(layer, weights).items()
        }
        for layer in (COEFFICIENT_CURVES, NOISE_PYRAMID)
    )
    return Initialization(
        network.codec_prior,
        card.explained,
        coefficient_curves,
        noise or None,
        weights if network.base_filters else None,
    )


def _write(path: Path, init: Initialization) -> None:
    arrays = {
        f"{layer}/{name}": array
        for layer, weights in ((COEFFICIENT_CURVES, init.coefficient_curves), (NOISE_PYRAMID, init.noise))
        for name, array in (weights or {}).items()
    }
    write_arrays(path, arrays, {"codec_prior": init.codec_prior, "explained": json.dumps(dict(init.explained or {}))})


def _read(path: Path) -> Initialization:
    arrays, metadata = read_arrays(path)
    coefficient_curves, noise = (_of_layer(layer, arrays) for layer in (COEFFICIENT_CURVES, NOISE_PYRAMID))
    return Initialization(metadata["codec_prior"], json.loads(metadata["explained"]), coefficient_curves, noise or None)


def _of_layer(layer: str, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the weights of `layer` among `arrays`, variable name → array."""
    return {path.split("/")[1]: np.asarray(array) for path, array in arrays.items() if path.startswith(f"{layer}/")}
