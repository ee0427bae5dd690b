"""Classifier two-sample tests (C2ST) and TSTR on the tiles of an evaluation.

C2ST: can a classifier discriminate two kinds of tiles, on unseen images? Lopez-Paz and Oquab, "Revisiting Classifier
Two-Sample Tests", ICLR 2017. TSTR: is a classifier of distortions, or a regressor of severity, trained on generated
tiles right about true ones? Columns name true distortions, models generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.classifier import (
    TILE_PX,
    Accuracy,
    RankCorrelation,
    SeverityRegressor,
    TileClassifier,
    accuracy,
    folds,
    rank_correlation,
    ratio_interval,
    srcc,
)
from distort_pipeline.metrics.evaluation import EvalImages
from distort_pipeline.metrics.severity_sweep import SweepVersions
from distort_pipeline.records import TILE_ALIGN_PX, Image, Images, derive_seed, make_rng, spread_tiles, to_uint8

GOAL = 0.60  # ours: two of five tiles are classified wrongly; chance classifies one of two wrongly
POSITIVE_CONTROL_SCALE = 0.8  # of the true residual: a sensitive classifier tells it from the whole residual
TOO_EASY = 0.99  # accuracy on true tiles above which a ratio to it says nothing
CHANCE = 0.5
RATIO_IMAGES = 8  # photographs; from fewer no ratio is shown
TSTR_GOAL = 0.95  # ours: of the accuracy or correlation after training on true tiles
MIN_IMAGES = 2  # one for training, another for testing


@dataclass(frozen=True)
class C2STResult:
    """The two-sample test of one generator: generated against true tiles at the same positions; 0.5 is chance."""

    generated: Accuracy
    negative_control: Accuracy  # true against true: chance is expected
    second_draw: bool  # whether the control is another draw at the same positions; else random halves of the tiles
    positive_control: Accuracy  # true against true at POSITIVE_CONTROL_SCALE: a sensitive classifier tells them apart

    @property
    def sensitive(self) -> bool:
        """Whether the classifier tells a residual a fifth too weak, with an interval off chance."""
        return self.positive_control.share > GOAL and self.positive_control.low > CHANCE

    @property
    def state(self) -> Literal["good", "bad", "unknown"]:
        """'bad' above GOAL with an interval off chance, 'good' within it for a sensitive classifier, else 'unknown'."""
        if self.generated.share > GOAL:
            return "bad" if self.generated.low > CHANCE else "unknown"
        return "good" if self.sensitive else "unknown"


@dataclass(frozen=True)
class TSTRResult:
    """Accuracy in classifying true tiles by distortion (or pristine), after training on generated or on true tiles."""

    kinds: tuple[str, ...]
    tstr: Accuracy
    trtr: Accuracy
    tstr_confusion: NDArray[np.int64]  # (kinds, kinds) tiles: true kind, predicted kind
    trtr_confusion: NDArray[np.int64]
    ratio_interval: tuple[float, float]  # 95 %, bootstrapped over photographs

    @property
    def images(self) -> int:
        """The number of photographs."""
        return self.tstr.images

    @property
    def ratio(self) -> float:
        """The accuracy of TSTR over the accuracy of TRTR."""
        return self.tstr.share / self.trtr.share if self.trtr.share else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether TRTR is at most TOO_EASY, on enough photographs."""
        return self.trtr.share <= TOO_EASY and self.images >= RATIO_IMAGES


@dataclass(frozen=True)
class SeverityTSTR:
    """SRCC of a severity regression on true tiles, after training on generated (TSTR) or on true tiles (TRTR)."""

    tstr: Mapping[str, RankCorrelation]  # by true distortion
    trtr: Mapping[str, RankCorrelation]
    ratio_interval: tuple[float, float]  # 95 %, bootstrapped over photographs

    @property
    def images(self) -> int:
        """The number of photographs."""
        return min(correlation.images for correlation in self.tstr.values())

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
        """The mean SRCC of TSTR over that of TRTR; 1 unless TRTR is positive."""
        return self.mean_tstr / self.mean_trtr if self.mean_trtr > 0 else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether TRTR is positive and at most TOO_EASY, on enough photographs."""
        return 0 < self.mean_trtr <= TOO_EASY and self.images >= RATIO_IMAGES


@dataclass(frozen=True)
class C2STReport:
    """The two-sample test of each generator, and the TSTR results, None where there are too few tiles."""

    results: Mapping[str, C2STResult]  # by model
    tstr: TSTRResult | None
    severity_tstr: SeverityTSTR | None


@dataclass(frozen=True)
class MultiLevelTiles:
    """Tiles (N, 64, 64, 3) of an image, with the levels of a distortion interleaved."""

    true: Images
    generated: Images
    severities: NDArray[np.float32]  # (N,)


@dataclass(frozen=True)
class ImageTiles:
    """Tiles (N, 64, 64, 3) of an image, all kinds at the same positions."""

    pristine: Images
    true: Mapping[str, Images]  # by column
    true_again: Mapping[str, Images]  # by column: a second draw, if any
    positive_control: Mapping[str, Images]  # by column: true tiles with POSITIVE_CONTROL_SCALE of the residual
    generated: Mapping[str, Images]  # by model
    multi_level: Mapping[str, MultiLevelTiles]  # by multi-level model, if the image has all levels


def tiles_of(images: EvalImages, *, count: int, seed: int) -> ImageTiles | None:
    """Return up to `count` tiles of each kind of an image, spread over the image; None for an image below 64 px."""
    height, width = images.pristine.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    positions = spread_tiles(height, width, tile_px=TILE_PX, count=count, align_px=TILE_ALIGN_PX, seed=seed)

    def cut(image: Image) -> Images:
        return np.stack([image[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] for tile in positions])

    pristine, true = cut(images.pristine), {column: cut(true) for column, true in images.true.items()}
    return ImageTiles(
        pristine,
        true=true,
        true_again={column: cut(again) for column, again in images.true_again.items()},
        positive_control={column: scaled_residual(pristine, tiles) for column, tiles in true.items()},
        generated={model: cut(drawn[0]) for model, drawn in images.generated.items()},
        multi_level={model: _interleaved(sweep, cut) for model, sweep in images.sweeps.items()},
    )


def _interleaved(sweep: SweepVersions, cut: Callable[[Image], Images]) -> MultiLevelTiles:
    """Return tiles with the levels interleaved: the first tile at the first level, the second at the second, ..."""
    true = np.stack([cut(level.true) for level in sweep.levels])
    generated = np.stack([cut(sweep.generated(level.point.severity)) for level in sweep.levels])
    severities = np.array([level.point.severity for level in sweep.levels], np.float32)
    positions = np.arange(true.shape[1])
    levels = positions % len(sweep.levels)
    return MultiLevelTiles(true[levels, positions], generated[levels, positions], severities[levels])


def scaled_residual(pristine: Images, distorted: Images) -> Images:
    """Return `distorted` with its difference from `pristine` scaled by POSITIVE_CONTROL_SCALE, rounded.

    >>> scaled_residual(np.array([100, 100], np.uint8), np.array([110, 90], np.uint8)).tolist()
    [108, 92]
    """
    return to_uint8(pristine + POSITIVE_CONTROL_SCALE * (distorted.astype(np.float32) - pristine))


_classifier, _regressor = lru_cache(TileClassifier), lru_cache(SeverityRegressor)  # compiled once per process


@dataclass(frozen=True)
class C2ST:
    """All tests of generators on the tiles of an evaluation, by classifiers trained for `steps` steps."""

    images: Sequence[ImageTiles]
    learned: Mapping[str, str]  # model → column
    steps: int
    fold_count: int
    seed: int

    @property
    def tested(self) -> dict[str, str]:
        """The models, with their columns, whose true distortion occurs in two images or more."""
        counts = {column: sum(column in tiles.true for tiles in self.images) for column in self.learned.values()}
        return {model: column for model, column in self.learned.items() if counts[column] >= MIN_IMAGES}

    def results(self) -> Iterator[tuple[str, C2STResult]]:
        """Yield the two-sample test of each tested model."""
        controls: dict[str, tuple[Accuracy, bool, Accuracy]] = {}
        for model, column in self.tested.items():
            having = [tiles for tiles in self.images if column in tiles.true]
            if column not in controls:
                pairs, second_draw = self._true_pairs(having, column)
                weaker = [(tiles.true[column], tiles.positive_control[column]) for tiles in having]
                controls[column] = (
                    self._accuracy("negative_control", column, pairs),
                    second_draw,
                    self._accuracy("positive_control", column, weaker),
                )
            generated = [(tiles.true[column], tiles.generated[model]) for tiles in having]
            yield model, C2STResult(self._accuracy("generated", model, generated), *controls[column])

    def tstr(self) -> TSTRResult | None:
        """Return TSTR over pristine and each learned distortion; None with fewer than two images that have all.

        Levels of multi-level generators are interleaved. The two classifiers start from the same seeds, for the folds
        and for the training, and see the same positions in the same order.
        """
        models, multi_level = self._models(), self._multi_level()
        images = [
            image
            for image in self.images
            if models.keys() <= image.true.keys()
            and multi_level.intersection(models.values()) <= image.multi_level.keys()
        ]
        if not models or len(images) < MIN_IMAGES:
            return None
        generated, true = [], []
        for image in images:
            kinds = [
                (image.multi_level[model].generated, image.multi_level[model].true)
                if model in multi_level
                else (image.generated[model], image.true[column])
                for column, model in models.items()
            ]
            generated.append([image.pristine, *(kind for kind, _ in kinds)])
            true.append([image.pristine, *(kind for _, kind in kinds)])
        tstr, tstr_confusion, tstr_right = self._train_and_test(generated, true)
        trtr, trtr_confusion, trtr_right = self._train_and_test(true, true)
        rng = make_rng(derive_seed(self.seed, "sceptic", "ratio"))
        interval = ratio_interval(
            lambda rows: float(np.sum(np.take(tstr_right, rows))),
            lambda rows: float(np.sum(np.take(trtr_right, rows))),
            len(images),
            rng,
        )
        return TSTRResult(("pristine", *models), tstr, trtr, tstr_confusion, trtr_confusion, interval)

    def severity_tstr(self) -> SeverityTSTR | None:
        """Return TSTR over the levels of all multi-level generators; None without any, or with too few images.

        A single network learns all distortions and the pristine tiles, with severity 0. Both networks start from the
        same seed and see the same positions in the same order.
        """
        multi_level = self._multi_level()
        models = {column: model for column, model in self._models().items() if model in multi_level}
        images = [image for image in self.images if image.multi_level.keys() >= set(models.values())]
        if not models or len(images) < MIN_IMAGES:
            return None
        seed = derive_seed(self.seed, "sceptic", "severity lesson")

        truths = {column: [image.multi_level[model].severities for image in images] for column, model in models.items()}
        sources: tuple[Literal["generated", "true"], ...] = ("generated", "true")
        predicted = [self._predicted_severities(images, models, source=source, seed=seed) for source in sources]
        correlations = [
            {
                column: rank_correlation(values[column], true, make_rng(derive_seed(seed, "resampled", column)))
                for column, true in truths.items()
            }
            for values in predicted
        ]

        def mean_srcc(values: Mapping[str, list[NDArray[np.float32]]]) -> Callable[[Sequence[int]], float]:
            return lambda rows: fmean(srcc(values[column], true, rows) for column, true in truths.items())

        above, below = map(mean_srcc, predicted)
        interval = ratio_interval(above, below, len(images), make_rng(derive_seed(seed, "ratio")))
        return SeverityTSTR(correlations[0], correlations[1], interval)

    def _models(self) -> dict[str, str]:
        """Return the first tested generator of each true distortion, by column."""
        first: dict[str, str] = {}
        for model, column in self.tested.items():
            first.setdefault(column, model)
        return first

    def _multi_level(self) -> set[str]:
        return {model for image in self.images for model in image.multi_level}

    def _true_pairs(self, images: Sequence[ImageTiles], column: str) -> tuple[list[tuple[Images, Images]], bool]:
        """Return pairs of true tiles, and whether the second tiles are a second draw instead of a random half."""
        if all(column in tiles.true_again for tiles in images):
            return [(tiles.true[column], tiles.true_again[column]) for tiles in images], True
        rng = make_rng(derive_seed(self.seed, "sceptic", "halves", column))
        orders = [(tiles.true[column], rng.permutation(len(tiles.true[column]))) for tiles in images]
        return [(tiles[order[::2]], tiles[order[1::2]]) for tiles, order in orders], False

    def _accuracy(self, test: str, name: str, images: Sequence[tuple[Images, Images]]) -> Accuracy:
        """Return the accuracy in discriminating the two kinds of tiles of each image."""
        rng = make_rng(derive_seed(self.seed, "sceptic", test, name))
        classifier = _classifier(2, steps=self.steps)
        right, tiles = [0] * len(images), [0] * len(images)
        for train, held_out in folds(len(images), self.fold_count, rng):
            firsts, seconds = (np.concatenate([images[index][kind] for index in train]) for kind in (0, 1))
            kinds = np.repeat([0, 1], [len(firsts), len(seconds)])
            classifier.fit(np.concatenate([firsts, seconds]), kinds, rng)
            for index in held_out:
                for kind, kind_tiles in enumerate(images[index]):
                    right[index] += int(np.count_nonzero(classifier.predict(kind_tiles) == kind))
                    tiles[index] += len(kind_tiles)
        return accuracy(right, tiles)

    def _train_and_test(
        self, training: Sequence[Sequence[Images]], true: Sequence[Sequence[Images]]
    ) -> tuple[Accuracy, NDArray[np.int64], list[int]]:
        """Return accuracy, confusion matrix and right tiles by image; both arguments are by image, then by kind."""
        kinds = len(true[0])
        classifier = _classifier(kinds, steps=self.steps)
        folds_seed, seed = (
            derive_seed(self.seed, "sceptic", "lesson folds"),
            derive_seed(self.seed, "sceptic", "lesson"),
        )
        rng = np.random.default_rng(seed)
        confusion = np.zeros((kinds, kinds), np.int64)
        right, tiles = [0] * len(true), [0] * len(true)
        for train, held_out in folds(len(true), self.fold_count, np.random.default_rng(folds_seed)):
            fitted = [(kind, kind_tiles) for index in train for kind, kind_tiles in enumerate(training[index])]
            numbers = np.concatenate([np.full(len(kind_tiles), kind) for kind, kind_tiles in fitted])
            classifier.fit(np.concatenate([kind_tiles for _, kind_tiles in fitted]), numbers, rng)
            for index in held_out:
                for kind, kind_tiles in enumerate(true[index]):
                    counts = np.bincount(classifier.predict(kind_tiles), minlength=kinds)
                    confusion[kind] += counts
                    right[index] += int(counts[kind])
                    tiles[index] += len(kind_tiles)
        return accuracy(right, tiles), confusion, right

    def _predicted_severities(
        self,
        images: Sequence[ImageTiles],
        models: Mapping[str, str],
        *,
        source: Literal["generated", "true"],
        seed: int,
    ) -> dict[str, list[NDArray[np.float32]]]:
        """Return column → predictions for the true tiles of each image, by networks trained on the others."""
        regressor, rng = _regressor(steps=self.steps), make_rng(derive_seed(seed, "fitted"))
        nothing = np.empty(0, np.float32)
        predicted = {column: [nothing] * len(images) for column in models}
        for train, held_out in folds(len(images), self.fold_count, make_rng(derive_seed(seed, "folds"))):
            tiles, severities = [], []
            for image in (images[index] for index in train):
                levels = [image.multi_level[model] for model in models.values()]
                tiles += [
                    image.pristine,
                    *(level.generated if source == "generated" else level.true for level in levels),
                ]
                severities += [np.zeros(len(image.pristine), np.float32), *(level.severities for level in levels)]
            regressor.fit(np.concatenate(tiles), np.concatenate(severities), rng)
            for index in held_out:
                for column, model in models.items():
                    predicted[column][index] = regressor.predict(images[index].multi_level[model].true)
        return predicted
