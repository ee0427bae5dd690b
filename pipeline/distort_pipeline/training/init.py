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

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.codec_priors import is_scaled
from distort_pipeline.networks.coefficient_curves import ALL_LEVELS
from distort_pipeline.networks.generator import COEFFICIENT_CURVES, NO_PRIOR, NOISE_PYRAMID
from distort_pipeline.stores.models import read_arrays, read_card, write_arrays
from distort_pipeline.stores.pairs import PairStore
from distort_pipeline.trained import learned_levels, model_weights
from distort_pipeline.training.fit_codec import CONDITIONAL_MEAN, SHRINKAGE_GAINS, explained_by, fit_best
from distort_pipeline.training.fit_tiles import fit_tiles
from distort_pipeline.training.noise_fit import fit_noise

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
    network = card["network"]
    learned = [dict(level.parameters) for level in learned_levels(card)]
    for parameters in levels:
        if dict(parameters) not in learned:
            raise PipelineError(
                f"--init-from {init_from} has learned {learned}, and not {dict(parameters)}: choose another model"
            )
    chosen = [learned.index(dict(parameters)) for parameters in levels]
    if network["base_filters"] and chosen != list(range(len(learned))):
        raise PipelineError(
            f"--init-from {init_from} has a U-Net for {len(learned)} levels, and train.levels has {len(levels)}"
        )
    weights = model_weights(init_from, card["weights_digest"])
    coefficient_curves, noise = (
        {
            name: array if name.startswith(ALL_LEVELS) else array[chosen]
            for name, array in _of_layer(layer, weights).items()
        }
        for layer in (COEFFICIENT_CURVES, NOISE_PYRAMID)
    )
    return Initialization(
        network.get("codec_prior", NO_PRIOR),
        card.get("explained"),
        coefficient_curves,
        noise or None,
        weights if network["base_filters"] else None,
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
