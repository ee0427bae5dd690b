"""What classifiers could tell: accuracies with their intervals, and what they say about a generator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from distort_pipeline.statistics.ranks import spearman

CONFIDENCE = 0.95
GOAL = 0.60  # ours: two of five tiles are named wrongly, where chance names one of two
POSITIVE_CONTROL_SCALE = 0.8  # of the true strength: what a classifier has to notice before its silence counts
TOO_EASY = 0.99  # accuracy on true tiles above which a ratio to it says nothing
TSTR_GOAL = 0.95  # ours: of the accuracy or the correlation that true tiles teach
RESAMPLINGS = 400  # of photographs, for the interval of a rank correlation


@dataclass(frozen=True)
class Accuracy:
    """Share of tiles named rightly, of photographs that the classifier was not fitted on, with its 95 % interval."""

    share: float
    low: float
    high: float
    photographs: int
    tiles: int


@dataclass(frozen=True)
class C2STResult:
    """One generator before a classifier that has to tell its tiles from true ones at the same places: 0.5 is chance."""

    generated: Accuracy
    negative_control: Accuracy  # true against true: no classifier should do better than chance
    second_draw: bool  # whether the control is another draw at the same places, else it is random halves of the tiles
    positive_control: Accuracy  # true against true of WEAKER strength: a classifier that does not notice cannot judge

    @property
    def sensitive(self) -> bool:
        """Whether the classifier is good enough to be believed: it notices what is a fifth too weak."""
        return self.positive_control.share > GOAL

    @property
    def state(self) -> str:
        """Return 'good', 'bad', or 'unknown' where generated tiles pass before a classifier that notices nothing."""
        if self.generated.share > GOAL:
            return "bad"
        return "good" if self.sensitive else "unknown"


@dataclass(frozen=True)
class TSTRResult:
    """How well a classifier names true tiles, pristine or which distortion, taught by generated or by true ones."""

    kinds: tuple[str, ...]
    tstr: Accuracy
    trtr: Accuracy
    confusion: Mapping[str, NDArray[np.int64]]  # 'generated' and 'true' → (kinds, kinds): true tiles by kind, as named

    @property
    def ratio(self) -> float:
        """Return the accuracy that generated tiles teach, over the one that true tiles teach."""
        return self.tstr.share / self.trtr.share if self.trtr.share else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether the task is hard enough to say anything."""
        return self.trtr.share <= TOO_EASY


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's of what a network told of true tiles and their severity, with its 95 % interval over photographs."""

    value: float
    low: float
    high: float
    photographs: int
    tiles: int


@dataclass(frozen=True)
class SeverityTSTR:
    """How well a network ranks true tiles by their severity, taught by generated or by true ones."""

    tstr: Mapping[str, RankCorrelation]  # by true distortion
    trtr: Mapping[str, RankCorrelation]

    @property
    def mean_tstr(self) -> float:
        """The mean correlation over distortions that generated tiles teach."""
        return fmean(found.value for found in self.tstr.values())

    @property
    def mean_trtr(self) -> float:
        """The mean correlation over distortions that true tiles teach."""
        return fmean(found.value for found in self.trtr.values())

    @property
    def ratio(self) -> float:
        """Return the one over the other."""
        return self.mean_tstr / self.mean_trtr if self.mean_trtr > 0 else 1.0

    @property
    def meaningful(self) -> bool:
        """Whether the task can be learned at all, and is hard enough to say anything."""
        return 0 < self.mean_trtr <= TOO_EASY


@dataclass(frozen=True)
class C2STReport:
    """What a sceptic found out: a trial for each generator, and the lessons, where there was enough to test with."""

    results: Mapping[str, C2STResult]
    tstr_result: TSTRResult | None
    severity_tstr: SeverityTSTR | None


def accuracy(right: Sequence[int], tiles: Sequence[int]) -> Accuracy:
    """Return the accuracy from how many of the `tiles` of each photograph were named `right`.

    Tiles of one photograph are alike, so the interval is Student's over the photographs' shares; where those happen to
    agree too well it is Wilson's over the tiles, which is never of width 0.

    >>> accuracy([5, 5], [10, 10])
    Accuracy(share=0.5, low=0.299, high=0.701, photographs=2, tiles=20)
    """
    count, shares = sum(tiles), np.divide(right, tiles)
    share = sum(right) / count
    low, high = _wilson(share, count)
    if len(shares) > 1:
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(shares) - 1) * scipy.stats.sem(shares))
        low, high = min(low, share - half), max(high, share + half)
    return Accuracy(round(share, 6), round(max(low, 0.0), 3), round(min(high, 1.0), 3), len(shares), count)


def rank_correlation(
    told: Sequence[NDArray[np.float32]], severities: Sequence[NDArray[np.float32]], rng: np.random.Generator
) -> RankCorrelation:
    """Return Spearman's correlation over the tiles of all photographs, each of which has its own row in both.

    Tiles of one photograph are alike, so the interval is that of a bootstrap over photographs (Efron's percentiles).
    Where nothing was told, one value for all, the correlation is 0.
    """
    found = _pooled_correlation(told, severities, range(len(told)))
    again = [
        _pooled_correlation(told, severities, rng.integers(len(told), size=len(told)).tolist())
        for _ in range(RESAMPLINGS)
    ]
    low, high = np.quantile(again, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return RankCorrelation(
        round(found, 6), round(min(low, found), 3), round(max(high, found), 3), len(told), sum(map(len, told))
    )


def _pooled_correlation(
    told: Sequence[NDArray[np.float32]], severities: Sequence[NDArray[np.float32]], places: Sequence[int]
) -> float:
    rows = (np.concatenate([one[place] for place in places]).tolist() for one in (told, severities))
    return spearman(*rows) or 0.0


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a share among `count`."""
    z = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half
