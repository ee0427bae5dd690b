"""Where an adversarial training starts: at what least squares read off the pairs, or at another trained model.

A fit is kept on disk, so that a resumed training knows it.
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
from distort_pipeline.training.fit_codec import MEAN, SHRINKAGE_GAINS, explained_by, fit_best
from distort_pipeline.training.fit_tiles import fit_tiles
from distort_pipeline.training.noise_fit import fit_noise

NAME = "fitted.safetensors"


@dataclass(frozen=True)
class Initialization:
    """The transform of response curves and their weights, those of a noise pyramid, a trained model: if any."""

    codec_prior: str = NO_PRIOR
    explained: Mapping[str, float] | None = None  # share of the squared difference, by each transform that was tried
    coefficient_curves: Mapping[str, NDArray[Any]] | None = None
    noise: Mapping[str, NDArray[Any]] | None = None  # by the names that they have in the layer, each level's first
    model: Mapping[str, NDArray[Any]] | None = None  # every weight of a trained G, whose U-Net goes on learning

    @property
    def fitted(self) -> bool:
        """Whether there are curves, or a noise pyramid."""
        return bool(self.coefficient_curves) or self.noise is not None

    @property
    def image_stats(self) -> bool:
        """Whether G goes by the whole image that a tile is of."""
        return is_scaled(self.codec_prior)

    @property
    def unet_is_zero(self) -> bool:
        """Whether G is nothing but curves and noise: its U-Net's residual starts at 0."""
        return self.fitted and self.model is None


def fit_init(
    pairs: PairStore,
    distortion: str,
    levels: Sequence[int],
    folder: Path,
    *,
    wanted: str | None,
    noise_channels: int,
    least_px: int,
) -> Initialization:
    """Return what can be said of `distortion` before training; from `folder` if it was found there by an earlier run.

    `wanted` is a transform, "none" for the paper's start without any of this, or None for what explains most.
    """
    if wanted == NO_PRIOR:
        return Initialization()
    if (folder / NAME).is_file():
        return _read(folder / NAME)
    tiles = fit_tiles(pairs, distortion, levels, least_px=least_px)
    # what a random distortion does besides the mean is the noise pyramid's to say
    shrinkage_gains = (MEAN,) if noise_channels else SHRINKAGE_GAINS
    fitted = fit_best(tiles.pristine, tiles.distorted, tiles.images, wanted, shrinkage_gains)
    noise = None
    if noise_channels:
        found = [
            fit_noise(
                explained_by(fitted, tiles.pristine, tiles.images, level=level, levels=len(levels)),
                distorted,
                channels=noise_channels,
            )
            for level, distorted in enumerate(tiles.distorted, start=1)
        ]
        noise = {name: np.stack([one[name] for one in found]) for name in found[0]}
    start = Initialization(fitted.codec_prior, fitted.explained, fitted.weights, noise)
    _write(folder / NAME, start)
    return start


def load_init(init_from: Path, levels: Sequence[Mapping[str, float]]) -> Initialization:
    """Return where the trained model in the folder `base` ended; its curves and its noise are not fitted anew.

    Those of the `levels`, named by their parameters, are taken. PipelineError if the init_from has not learned one of them,
    or if its U-Net has learned others as well: curves can be told apart by level, its weights cannot. A model without a
    U-Net leaves that to be learned from 0.
    """
    card = read_card(init_from)
    network = card["network"]
    learned = [dict(one.parameters) for one in learned_levels(card)]
    for parameters in levels:
        if dict(parameters) not in learned:
            raise PipelineError(f"{init_from} has learned {learned}, and not {dict(parameters)}: start elsewhere")
    chosen = [learned.index(dict(parameters)) for parameters in levels]
    if network["base_filters"] and chosen != list(range(len(learned))):
        raise PipelineError(
            f"{init_from} has a U-Net for {len(learned)} levels, and train.levels asks for {len(levels)}"
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


def _write(path: Path, start: Initialization) -> None:
    arrays = {
        f"{layer}/{name}": array
        for layer, part in ((COEFFICIENT_CURVES, start.coefficient_curves), (NOISE_PYRAMID, start.noise))
        for name, array in (part or {}).items()
    }
    write_arrays(path, arrays, {"codec_prior": start.codec_prior, "explained": json.dumps(dict(start.explained or {}))})


def _read(path: Path) -> Initialization:
    arrays, said = read_arrays(path)
    coefficient_curves, noise = (_of_layer(layer, arrays) for layer in (COEFFICIENT_CURVES, NOISE_PYRAMID))
    return Initialization(said["codec_prior"], json.loads(said["explained"]), coefficient_curves, noise or None)


def _of_layer(layer: str, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return those of `arrays` that are the weights of `layer`, by the names that they have in it."""
    return {path.split("/")[1]: np.asarray(array) for path, array in arrays.items() if path.startswith(f"{layer}/")}
