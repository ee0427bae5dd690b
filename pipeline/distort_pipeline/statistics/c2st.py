"""Results of classifier two-sample tests (C2ST) and of TSTR: accuracies and correlations with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

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
