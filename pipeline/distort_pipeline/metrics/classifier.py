"""A small convolutional network for the kind or the severity of a tile, trained on few tiles in seconds.

Tiles of every kind are cut at the same positions, and no photograph is in a fold's training and test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.c2st import POSITIVE_CONTROL_SCALE
from distort_pipeline.metrics.evaluation import EvalImages
from distort_pipeline.records import TILE_ALIGN_PX, Image, Images, normalize, spread_tiles, to_uint8

TILE_PX = 64


@dataclass(frozen=True)
class LevelPair:
    """A whole photograph at a level of a distortion: the true image, and a multi-level generator's output."""

    severity: float
    true: Image
    generated: Image


@dataclass(frozen=True)
class MultiLevelTiles:
    """Tiles (N, 64, 64, 3) of a photograph, with the levels of a distortion interleaved."""

    true: Images
    generated: Images
    severities: NDArray[np.float32]  # (N,)


@dataclass(frozen=True)
class ImageTiles:
    """Tiles (N, 64, 64, 3) of a photograph. Columns name true distortions, models generators."""

    pristine: Images
    true: Mapping[str, Images]  # by column
    true_again: Mapping[str, Images]  # by column: a second draw, if any
    positive_control: Mapping[str, Images]  # by column: true tiles with POSITIVE_CONTROL_SCALE of the residual
    generated: Mapping[str, Images]  # by model
    multi_level: Mapping[str, MultiLevelTiles]  # by multi-level model, if the photograph has all levels


def tiles_of(
    images: EvalImages, *, count: int, seed: int, level_pairs: Mapping[str, Sequence[LevelPair]] | None = None
) -> ImageTiles | None:
    """Return up to `count` tiles of each kind of a photograph, spread over the image; None for a small photograph.

    `level_pairs` has the photograph's levels by multi-level model.
    """
    height, width = images.pristine.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    positions = spread_tiles(height, width, tile_px=TILE_PX, count=count, align_px=TILE_ALIGN_PX, seed=seed)

    def cut(image: Image) -> Images:
        return np.stack([image[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] for tile in positions])

    return ImageTiles(
        cut(images.pristine),
        true={column: cut(true) for column, true in images.true.items()},
        true_again={column: cut(true) for column, true in images.true_again.items()},
        positive_control={
            column: scaled_residual(cut(images.pristine), cut(true)) for column, true in images.true.items()
        },
        generated={model: cut(drawn[0]) for model, drawn in images.generated.items()},
        multi_level={model: _interleaved(pairs, cut) for model, pairs in (level_pairs or {}).items()},
    )


def _interleaved(level_pairs: Sequence[LevelPair], cut: Callable[[Image], Images]) -> MultiLevelTiles:
    """Return tiles with the levels interleaved: the first tile at the first level, the second at the second, ..."""
    true, generated = (
        np.stack(kind) for kind in zip(*((cut(r.true), cut(r.generated)) for r in level_pairs), strict=True)
    )
    positions = np.arange(true.shape[1])
    levels = positions % len(level_pairs)
    severities = np.array([pair.severity for pair in level_pairs], np.float32)
    return MultiLevelTiles(true[levels, positions], generated[levels, positions], severities[levels])


def scaled_residual(pristine: Images, distorted: Images) -> Images:
    """Return `distorted` with its difference from `pristine` scaled by POSITIVE_CONTROL_SCALE, rounded.

    >>> scaled_residual(np.array([100, 100], np.uint8), np.array([110, 90], np.uint8)).tolist()
    [108, 92]
    """
    return to_uint8(pristine + POSITIVE_CONTROL_SCALE * (distorted.astype(np.float32) - pristine))


WIDTHS = (24, 32, 48)  # filters; three blocks of stride 2: 8 px, a JPEG block, become a single position
DETAIL_GAIN = 8.0  # of the difference from a 3 x 3 mean: distortions are small against the image
BATCH = 64
RATE = 3e-3  # for Adam, falling to 0 along a cosine


class _TileNetwork:
    """A network for tiles (N, 64, 64, 3), retrained from new weights by each `fit`."""

    def __init__(self, outputs: int, loss: keras.losses.Loss, *, steps: int) -> None:
        self.steps = steps
        self._network = _network(outputs)
        rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
        self._network.compile(keras.optimizers.Adam(rate), loss)
        self._network.optimizer.build(self._network.trainable_variables)

    def fit(self, tiles: Images, targets: NDArray[Any], rng: np.random.Generator) -> None:
        """Train on `tiles` and their `targets`, from new weights; all randomness comes from `rng`."""
        self._reinitialise(rng)
        order = np.concatenate([rng.permutation(len(tiles)) for _ in range(-(-self.steps * BATCH // len(tiles)))])
        for step in range(self.steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            self._network.train_on_batch(_mirrored_at_random(tiles[chosen], rng), targets[chosen])

    def outputs(self, tiles: Images) -> NDArray[np.float32]:
        """Return the outputs of the network for `tiles`, (N, outputs): of a classifier logits."""
        filled = np.zeros((-(-len(tiles) // BATCH) * BATCH, *tiles.shape[1:]), np.uint8)  # one shape, one compilation
        filled[: len(tiles)] = tiles
        batches = [filled[start : start + BATCH] for start in range(0, len(filled), BATCH)]
        outputs = [self._network.predict_on_batch(normalize(batch)) for batch in batches]
        return np.concatenate(outputs)[: len(tiles)]

    def _reinitialise(self, rng: np.random.Generator) -> None:
        random.seed(int(rng.integers(2**31)))  # the source of seeds of Keras's initialisers
        network = _network(self._network.output_shape[-1])
        self._network.set_weights(network.get_weights())
        for variable in self._network.optimizer.variables:
            if variable.path.split("/")[-1] != "learning_rate":
                variable.assign(np.zeros(variable.shape))


class TileClassifier(_TileNetwork):
    """Predicts the kind, 0 to `kinds` - 1, of tiles; the targets of `fit` are kinds (N,)."""

    def __init__(self, kinds: int, *, steps: int) -> None:
        super().__init__(kinds, keras.losses.SparseCategoricalCrossentropy(from_logits=True), steps=steps)

    def predict(self, tiles: Images) -> NDArray[np.int64]:
        """Return the most likely kind of each of `tiles`."""
        return np.argmax(self.outputs(tiles), axis=-1)


class SeverityRegressor(_TileNetwork):
    """Predicts the severity of tiles, by least squares; the targets of `fit` are severities (N,), from 0 to 1."""

    def __init__(self, *, steps: int) -> None:
        super().__init__(1, keras.losses.MeanSquaredError(), steps=steps)

    def predict(self, tiles: Images) -> NDArray[np.float32]:
        """Return the predicted severity of each of `tiles`."""
        return self.outputs(tiles)[:, 0]


@lru_cache
def tile_classifier(kinds: int, *, steps: int) -> TileClassifier:
    """Return the classifier of `kinds` kinds, compiled once per process."""
    return TileClassifier(kinds, steps=steps)


@lru_cache
def severity_regressor(*, steps: int) -> SeverityRegressor:
    """Return the regressor of severities, compiled once per process."""
    return SeverityRegressor(steps=steps)


def _network(outputs: int) -> keras.Model:
    tiles = keras.Input((TILE_PX, TILE_PX, 3))
    smooth = keras.layers.AveragePooling2D(3, strides=1, padding="same")(tiles)
    detail = keras.layers.Rescaling(DETAIL_GAIN)(keras.layers.Subtract()([tiles, smooth]))
    features = keras.layers.Concatenate()([tiles, detail])
    for width in WIDTHS:
        features = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(features)
        features = keras.layers.BatchNormalization(momentum=0.9)(features)
        features = keras.layers.ReLU()(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(tiles, keras.layers.Dense(outputs)(features))


def _mirrored_at_random(tiles: Images, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the tiles in [-1, 1], half of them mirrored: JPEG's grid stays, as tiles are whole blocks."""
    mirrored = rng.random(len(tiles)) < 0.5
    return normalize(np.where(mirrored[:, None, None, None], tiles[:, :, ::-1], tiles))


def folds(images: int, count: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (photographs for training, photographs for testing) of up to `count` folds; each is tested once.

    >>> [(len(train), len(test)) for train, test in folds(5, 2, np.random.default_rng(0))]
    [(2, 3), (3, 2)]
    """
    order = rng.permutation(images)
    for test in np.array_split(order, min(count, images)):
        yield np.setdiff1d(order, test), test
