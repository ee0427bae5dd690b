"""Results of classifier two-sample tests (C2ST) and of TSTR: accuracies and correlations with their intervals.

A linear classifier two-sample test: ridge regression on features, each image judged by a fit to the others.

Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017. Seconds instead of a network's minutes: for
choosing between stages of a training.

Features of small tiles by which a linear classifier tells textures apart: of Y, Cb and Cr at two scales.

Local deviation, normalised (MSCN) coefficients and their products with neighbours as in Mittal et al. 2012 (BRISQUE),
flatness and size of differences, and how differences depend on the phase of an 8 px grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import scipy.stats
from numpy.typing import NDArray

CONFIDENCE = 0.95
GOAL = 0.60  # ours: two of five tiles are classified wrongly; chance classifies one of two wrongly
POSITIVE_CONTROL_SCALE = 0.8  # of the true residual: a sensitive classifier tells it from the whole residual
TOO_EASY = 0.99  # accuracy on true tiles above which a ratio to it says nothing
TSTR_GOAL = 0.95  # ours: of the accuracy or correlation after training on true tiles
RESAMPLINGS = 400  # of images, for the interval of a rank correlation


@dataclass(frozen=True)
class Accuracy:
    """Share of tiles classified correctly, on held-out images, with its 95 % confidence interval."""

    share: float
    low: float
    high: float
    images: int
    tiles: int


@dataclass(frozen=True)
class C2STResult:
    """The two-sample test of one generator: generated against true tiles at the same positions; 0.5 is chance."""

    generated: Accuracy
    negative_control: Accuracy  # true against true: chance is expected
    second_draw: bool  # whether the control is another draw at the same positions; else random halves of the tiles
    positive_control: Accuracy  # true against true at POSITIVE_CONTROL_SCALE: a sensitive classifier tells them apart

    @property
    def sensitive(self) -> bool:
        """Whether the classifier tells a residual a fifth too weak from the true residual."""
        return self.positive_control.share > GOAL

    @property
    def state(self) -> str:
        """Return 'bad' above GOAL, else 'good' for a sensitive classifier and 'unknown' for any other."""
        if self.generated.share > GOAL:
            return "bad"
        return "good" if self.sensitive else "unknown"


@dataclass(frozen=True)
class TSTRResult:
    """Accuracy in classifying true tiles by distortion (or pristine), after training on generated or on true tiles."""

    kinds: tuple[str, ...]
    tstr: Accuracy
    trtr: Accuracy
    confusion: Mapping[str, NDArray[np.int64]]  # 'generated' and 'true' → (kinds, kinds): true kind, predicted

    @property
    def ratio(self) -> float:
        """Return the accuracy of TSTR over the accuracy of TRTR."""
        return self.tstr.share / self.trtr.share if self.trtr.share else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether TRTR is below TOO_EASY."""
        return self.trtr.share <= TOO_EASY


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation (SRCC) of predicted and true severities, with its 95 % interval over images."""

    value: float
    low: float
    high: float
    images: int
    tiles: int


@dataclass(frozen=True)
class SeverityTSTR:
    """SRCC of a severity regression on true tiles, after training on generated (TSTR) or on true tiles (TRTR)."""

    tstr: Mapping[str, RankCorrelation]  # by true distortion
    trtr: Mapping[str, RankCorrelation]

    @property
    def mean_tstr(self) -> float:
        """The mean SRCC over distortions after training on generated tiles."""
        return fmean(correlation.value for correlation in self.tstr.values())

    @property
    def mean_trtr(self) -> float:
        """The mean SRCC over distortions after training on true tiles."""
        return fmean(correlation.value for correlation in self.trtr.values())

    @property
    def ratio(self) -> float:
        """Return the mean SRCC of TSTR over that of TRTR; 1 unless TRTR is positive."""
        return self.mean_tstr / self.mean_trtr if self.mean_trtr > 0 else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether TRTR is positive and at most TOO_EASY."""
        return 0 < self.mean_trtr <= TOO_EASY


@dataclass(frozen=True)
class C2STReport:
    """The two-sample test of each generator, and the TSTR results, None where there are too few tiles."""

    results: Mapping[str, C2STResult]
    tstr_result: TSTRResult | None
    severity_tstr: SeverityTSTR | None


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
    value = round(_srcc(predicted, severities, range(count)), 6)
    resampled = [_srcc(predicted, severities, rng.integers(count, size=count).tolist()) for _ in range(RESAMPLINGS)]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return RankCorrelation(
        value, round(min(low, value), 3), round(max(high, value), 3), count, sum(map(len, predicted))
    )


def _srcc(
    predicted: Sequence[NDArray[np.float32]], severities: Sequence[NDArray[np.float32]], images: Sequence[int]
) -> float:
    """Return the SRCC over the tiles of `images`; 0 for constant values."""
    values, truths = (np.concatenate([rows[image] for image in images]) for rows in (predicted, severities))
    if np.ptp(values) == 0 or np.ptp(truths) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(values, truths).statistic)


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
    """Return how well `generated` tiles are told from `true` ones; both list the same images."""
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
    """Return the features (N, F) of `tiles` (N, H, W, 3), sRGB; a tile begins at a multiple of 8 px of its image."""
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
