"""Classifiers of tiles, and the confidence of their results.

A small convolutional network for the kind or the severity of a tile, trained on few tiles in seconds; and a linear
classifier of texture features, in a fraction of a second, for choosing between stages of a training. No image is in
training and test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import scipy  # its statistics, a second of imports, load at their first use
from numpy.typing import NDArray

from distort_pipeline.records import Images, normalize

if TYPE_CHECKING:
    import keras  # imported where a network is built: the linear classifier does without

TILE_PX = 64
CONFIDENCE = 0.95
RESAMPLINGS = 400  # of images, for the intervals of rank correlations and ratios


@dataclass(frozen=True)
class Accuracy:
    """Share of tiles classified correctly, on held-out images, with its 95 % confidence interval."""

    share: float
    low: float
    high: float
    images: int
    tiles: int


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation (SRCC) of predicted and true severities, with its 95 % interval over images."""

    value: float
    low: float
    high: float
    images: int
    tiles: int


def accuracy(right: Sequence[int], tiles: Sequence[int]) -> Accuracy:
    """Return the accuracy of a classifier with `right` of `tiles` correct, both by image.

    Tiles of an image are alike: the interval is Student's over the images' shares, and never narrower than Wilson's
    over the tiles.

    >>> accuracy([5, 5], [10, 10])
    Accuracy(share=0.5, low=0.299, high=0.701, images=2, tiles=20)
    """
    count, shares = sum(tiles), np.divide(right, tiles)
    share = sum(right) / count
    wilson = scipy.stats.binomtest(sum(right), count).proportion_ci(CONFIDENCE, method="wilson")
    low, high = float(wilson.low), float(wilson.high)
    if len(shares) > 1:
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(shares) - 1) * scipy.stats.sem(shares))
        low, high = min(low, share - half), max(high, share + half)
    return Accuracy(round(share, 6), round(max(low, 0.0), 3), round(min(high, 1.0), 3), len(shares), count)


def rank_correlation(
    predicted: Sequence[NDArray[np.float32]], severities: Sequence[NDArray[np.float32]], rng: np.random.Generator
) -> RankCorrelation:
    """Return the SRCC over the tiles of all images; both arguments have a row for each image.

    Tiles of an image are alike: the interval is a bootstrap over images (Efron's percentiles). The correlation is 0
    for constant predictions.
    """
    count = len(predicted)
    value = round(srcc(predicted, severities, range(count)), 6)
    resampled = [srcc(predicted, severities, rng.integers(count, size=count).tolist()) for _ in range(RESAMPLINGS)]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return RankCorrelation(
        value, round(min(low, value), 3), round(max(high, value), 3), count, sum(map(len, predicted))
    )


def ratio_interval(
    numerator: Callable[[Sequence[int]], float],
    denominator: Callable[[Sequence[int]], float],
    images: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the 95 % interval of a ratio, both parts functions of the images: a bootstrap over images.

    Resamplings whose denominator is not positive are left out; without any other the interval is 0 to infinity.
    """
    ratios = []
    for _ in range(RESAMPLINGS):
        rows = rng.integers(images, size=images).tolist()
        below = denominator(rows)
        if below > 0:
            ratios.append(numerator(rows) / below)
    if not ratios:
        return 0.0, math.inf
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return round(low, 3), round(high, 3)


def srcc(
    predicted: Sequence[NDArray[np.float32]], severities: Sequence[NDArray[np.float32]], images: Sequence[int]
) -> float:
    """Return the SRCC over the tiles of `images`; 0 for constant values."""
    values, truths = (np.concatenate([rows[image] for image in images]) for rows in (predicted, severities))
    if np.ptp(values) == 0 or np.ptp(truths) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(values, truths).statistic)


WIDTHS = (24, 32, 48)  # filters; three blocks of stride 2: 8 px, a JPEG block, become a single position
DETAIL_GAIN = 8.0  # of the difference from a 3 x 3 mean: distortions are small against the image
BATCH = 64
RATE = 3e-3  # for Adam, falling to 0 along a cosine


class _TileNetwork:
    """A network for tiles (N, 64, 64, 3), retrained from new weights by each `fit`."""

    def __init__(self, outputs: int, *, steps: int) -> None:
        import keras

        self.steps = steps
        self._network = _network(outputs)
        self._first_weights = self._network.get_weights()
        classifies = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
        self._network.compile(
            keras.optimizers.Adam(rate), classifies if outputs > 1 else keras.losses.MeanSquaredError()
        )
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
        import keras

        random.seed(int(rng.integers(2**31)))  # the source of seeds of Keras's initialisers
        self._network.set_weights(self._first_weights)  # of the batch norms and the bias, always the same
        for layer in self._network.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(keras.initializers.GlorotUniform()(layer.kernel.shape))
        for variable in self._network.optimizer.variables:
            if variable.path.split("/")[-1] != "learning_rate":
                variable.assign(np.zeros(variable.shape))


class TileClassifier(_TileNetwork):
    """Predicts the kind of tiles, from 0 on, of two or more; the targets of `fit` are kinds (N,)."""

    def predict(self, tiles: Images) -> NDArray[np.int64]:
        """Return the most likely kind of each of `tiles`."""
        return np.argmax(self.outputs(tiles), axis=-1)


class SeverityRegressor(_TileNetwork):
    """Predicts the severity of tiles, by least squares; the targets of `fit` are severities (N,), from 0 to 1."""

    def __init__(self, *, steps: int) -> None:
        super().__init__(1, steps=steps)

    def predict(self, tiles: Images) -> NDArray[np.float32]:
        """Return the predicted severity of each of `tiles`."""
        return self.outputs(tiles)[:, 0]


def _network(outputs: int) -> keras.Model:
    import keras

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
    """Yield (images for training, images for testing) of up to `count` folds; each is tested once.

    >>> [(len(train), len(test)) for train, test in folds(5, 2, np.random.default_rng(0))]
    [(2, 3), (3, 2)]
    """
    order = rng.permutation(images)
    for test in np.array_split(order, min(count, images)):
        yield np.setdiff1d(order, test), test


FOLDS = 4
RIDGE = 0.03  # of the number of rows, on standardised features
LIMIT = 4.0  # standardised features are clipped to it: tiles of an odd image must not decide
SLOPE = 4.0  # of the logistic curve through outputs of -1 to 1; an output of 1 is then 98 % certain

Rows = Sequence[NDArray[np.float32]]  # one image's tiles each, (tiles, F)


@dataclass(frozen=True)
class LinearC2ST:
    """Accuracy (chance 0.5) and cross-entropy (chance 1 bit) over tiles of images that the fit has not seen."""

    accuracy: float
    cross_entropy_bits: float


def linear_c2st(true: Rows, generated: Rows) -> LinearC2ST:
    """Return how well ridge regression tells `generated` tiles from `true` ones; both list the same images."""
    images = np.arange(len(true))
    right: list[NDArray[np.float64]] = []
    for fold in range(min(FOLDS, len(true))):
        judged = images[fold::FOLDS]
        fitted = np.setdiff1d(images, judged)
        if not len(fitted):
            return LinearC2ST(0.5, 1.0)
        rows, labels = _labelled(true, generated, fitted)
        others, signs = _labelled(true, generated, judged)
        mean, deviation = rows.mean(0), rows.std(0) + 1e-6
        design, others = (np.clip((kind - mean) / deviation, -LIMIT, LIMIT) for kind in (rows, others))
        gram = design.T @ design + RIDGE * len(design) * np.eye(design.shape[1])
        weights = np.linalg.solve(gram, design.T @ labels)
        right.append(signs * (others @ weights))
    margins = np.concatenate(right)
    bits = np.logaddexp(0, -SLOPE * margins) / np.log(2)
    return LinearC2ST(float((margins > 0).mean()), float(bits.mean()))


def _labelled(true: Rows, generated: Rows, images: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = np.concatenate([kind[image] for kind in (true, generated) for image in images]).astype(np.float64)
    counts = [sum(len(kind[image]) for image in images) for kind in (true, generated)]
    return rows, np.repeat([1.0, -1.0], counts)


Planes = NDArray[np.float32]  # (N, H, W), 8-bit levels
SIGMA_PX, WINDOW = 7 / 6, (7, 7)  # Mittal et al. 2012, section II
SMALL = 0.01  # levels, in front of a logarithm
MSCN_BOUNDS = (-0.8, -0.3, -0.1, 0.1, 0.3, 0.8)
FLAT_BOUNDS = (0.5, 1.5, 3.5, 8.5)  # levels
GRID_PX = 8


def texture_features(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features (N, F) of `tiles` (N, H, W, 3), sRGB: statistics of Y, Cb and Cr, at two scales.

    Local deviation, MSCN coefficients and their products with neighbours, flatness and size of differences, and how
    differences depend on the phase of an 8 px grid: a tile begins at a multiple of 8 px of its image.
    """
    columns: list[NDArray[np.floating]] = []
    ycc = np.stack([cv2.cvtColor(tile, cv2.COLOR_RGB2YCrCb) for tile in tiles]).astype(np.float32)
    for channel in range(3):
        planes = np.ascontiguousarray(ycc[..., channel])
        columns += [planes.mean((1, 2)) / 128, *_normalised(planes), *_differences(planes), *_phases(planes)]
        columns += _normalised(_halved(planes))
    return np.column_stack(columns).astype(np.float32)


def _normalised(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield statistics of the local deviation, of MSCN coefficients and of products of neighbours, each (N,)."""
    mean, square = _smoothed(planes), _smoothed(planes * planes)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    mscn = (planes - mean) / (deviation + 1)
    flat = deviation.reshape(len(planes), -1)
    yield from np.log(SMALL + np.quantile(flat, (0.1, 0.5, 0.9), axis=1))
    yield np.log(SMALL + flat.mean(1))
    power = np.square(mscn).mean((1, 2))
    yield np.log(SMALL + power)
    yield np.log(SMALL + np.square(mscn * mscn).mean((1, 2)) / np.square(power + 1e-3))
    for bound in MSCN_BOUNDS:
        yield (mscn < bound).mean((1, 2))
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
        product = mscn * np.roll(mscn, (-rows, -columns), (1, 2))
        yield product.mean((1, 2)) / (power + 1e-3)
        yield np.log(SMALL + np.abs(product).mean((1, 2)))


def _differences(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield sizes and flatness of first and second differences, each (N,)."""
    for axis in (1, 2):
        for order in (1, 2):
            size = np.abs(np.diff(planes, n=order, axis=axis))
            yield np.log(SMALL + size.mean((1, 2)))
            for bound in FLAT_BOUNDS:
                yield (size < bound).mean((1, 2))


def _phases(planes: Planes) -> Iterator[NDArray[np.floating]]:
    """Yield the logarithm of second differences at each phase of the grid, relative to all phases, each (N,)."""
    for axis in (1, 2):
        size = np.abs(np.diff(planes, n=2, axis=axis)).mean(3 - axis)
        used = size.shape[1] // GRID_PX * GRID_PX
        phases = size[:, :used].reshape(len(planes), -1, GRID_PX).mean(1)
        yield from np.log((SMALL + phases) / (SMALL + phases.mean(1, keepdims=True))).T


def _smoothed(planes: Planes) -> Planes:
    return np.stack([cv2.GaussianBlur(plane, WINDOW, SIGMA_PX, borderType=cv2.BORDER_REFLECT_101) for plane in planes])


def _halved(planes: Planes) -> Planes:
    height, width = (side // 2 for side in planes.shape[1:])
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes])
