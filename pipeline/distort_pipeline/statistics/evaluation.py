"""The numbers of an evaluation: divergences over all pictures, floors to judge them by, and who is nearest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import numpy as np

from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.draws import DrawLikeness, Freshness
from distort_pipeline.statistics.floors import content_floor, halves_floor
from distort_pipeline.statistics.histograms import Counts
from distort_pipeline.statistics.measured import Histograms, MeasuredPicture
from distort_pipeline.statistics.residual_figures import ResidualFigures, averaged
from distort_pipeline.statistics.vector import HEADLINE, VECTOR, vector_divergence

CONTENT_SPLITS = 20  # random halvings that the content floor is the mean of: with few pictures a single one is luck

Row: TypeAlias = Mapping[str, float]  # true distortion → bits

_HEADLINE_ROW = VECTOR.index(HEADLINE)


@dataclass(frozen=True)
class Floors:
    """What the true distortion alone differs by, in bits."""

    sampling: float  # mean over pictures
    second_draw: bool  # whether it is between two draws; else between random halves of one picture's products
    content: float | None  # None with a single picture


@dataclass(frozen=True)
class Draws:
    """Two draws on one picture, mean over pictures."""

    correlation: float | None
    variance: float


@dataclass(frozen=True)
class ModelFigures:
    """One generator against the true distortion that it learned."""

    learned: str
    vectors: Mapping[str, Row]  # 'generated', 'pristine' and perhaps 'true again' → component → bits
    residuals: Mapping[str, ResidualFigures]  # 'generated' and 'true'
    draws: Mapping[str, Draws]  # 'generated' and 'true', where there are two draws
    histograms: Mapping[str, Counts]  # the headline's, pooled: 'pristine', 'true' and 'generated'


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    columns: tuple[str, ...]  # the true distortions
    pictures: tuple[MeasuredPicture, ...]
    table: Mapping[str, Row]  # model → column → bits, mean over pictures and draws: the paper's table
    pristine: Row  # what doing nothing scores
    pooled_table: Mapping[str, Row]
    pooled_pristine: Row
    floors: Mapping[str, Floors]  # by column
    models: Mapping[str, ModelFigures]

    def own(self, model: str) -> float:
        """Return the divergence in bits of `model` from the true distortion that it learned: the diagonal."""
        return self.table[model][self.models[model].learned]

    def strays(self, model: str) -> list[str]:
        """Return the other true distortions that `model` is nearer to than to its own, nearest first."""
        nearer = {column: bits for column, bits in self.table[model].items() if bits < self.own(model)}
        return sorted(nearer, key=lambda column: nearer[column])

    def rivals(self, model: str) -> list[str]:
        """Return the generators of other distortions that are nearer to what `model` learned than it is itself."""
        learned = self.models[model].learned
        return [
            other
            for other, row in self.table.items()
            if self.models[other].learned != learned and row[learned] < self.own(model)
        ]

    def beats_pristine(self, model: str) -> bool:
        """Return whether `model` is nearer to its true distortion than the untouched pictures are."""
        return self.own(model) < self.pristine[self.models[model].learned]

    def freshness(self, model: str) -> Freshness | None:
        """Return how `model` draws beside the truth; None where nothing is random or there is no second true draw."""
        made, true = (self.models[model].draws.get(kind) for kind in ("generated", "true"))
        if made is None or true is None or true.correlation is None or not true.variance:
            return None
        # without any variation the second draw is the first one
        correlation = 1.0 if made.correlation is None else made.correlation
        return Freshness(correlation, true.correlation, made.variance / true.variance)

    def nearest_own(self, model: str) -> bool:
        """Return whether the diagonal is the smallest of its row and of its column, the pristine row included."""
        return self.beats_pristine(model) and not self.strays(model) and not self.rivals(model)


def summarise(
    pictures: Sequence[MeasuredPicture], columns: Sequence[str], learned: Mapping[str, str], *, seed: int
) -> Evaluation:
    """Return the figures over measured `pictures`; `columns` are the true distortions, `learned` has each model's.

    Pictures may lack a true distortion and then do not count for it; one picture at least has each.
    """
    rows = {model: {picture.picture: picture.generated[model] for picture in pictures} for model in learned}
    nothing = {picture.picture: (picture.pristine,) for picture in pictures}
    return Evaluation(
        columns=tuple(columns),
        pictures=tuple(pictures),
        table={model: _mean_row(pictures, columns, rows[model]) for model in learned},
        pristine=_mean_row(pictures, columns, nothing),
        pooled_table={model: _pooled_row(pictures, columns, rows[model]) for model in learned},
        pooled_pristine=_pooled_row(pictures, columns, nothing),
        floors={column: _floors(pictures, column, seed) for column in columns},
        models={model: _model_figures(pictures, model, column) for model, column in learned.items()},
    )


def _mean_row(
    pictures: Sequence[MeasuredPicture], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Row:
    """Return the mean over pictures (and draws) of the headline divergence from each true distortion."""
    return {
        column: fmean(
            jsd_bits(_headline(picture.true[column]), _headline(drawn))
            for picture in _having(pictures, column)
            for drawn in row[picture.picture]
        )
        for column in columns
    }


def _pooled_row(
    pictures: Sequence[MeasuredPicture], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Row:
    """Return the headline divergence of the pooled histograms from each true distortion's."""
    return {
        column: jsd_bits(
            _pool(picture.true[column] for picture in _having(pictures, column)),
            _pool(drawn for picture in _having(pictures, column) for drawn in row[picture.picture]),
        )
        for column in columns
    }


def _floors(pictures: Sequence[MeasuredPicture], column: str, seed: int) -> Floors:
    having = _having(pictures, column)
    second_draw = all(column in picture.true_again for picture in having)
    counts = [_headline(picture.true[column]) for picture in having]
    if second_draw:
        again = [_headline(picture.true_again[column]) for picture in having]
        sampling = fmean(map(jsd_bits, counts, again))
    else:
        seeds = [derive_seed(seed, "halves", column, picture.picture) for picture in having]
        sampling = fmean(halves_floor(own, generator(one)) for own, one in zip(counts, seeds, strict=True))
    content = None
    if len(having) > 1:
        rng = generator(derive_seed(seed, "content", column))
        stack = np.stack(counts)
        content = fmean(content_floor(stack, rng.permutation(len(having))) for _ in range(CONTENT_SPLITS))
    return Floors(sampling, second_draw, content)


def _model_figures(pictures: Sequence[MeasuredPicture], model: str, column: str) -> ModelFigures:
    having = _having(pictures, column)
    beside = [picture.beside[model] for picture in having]
    drawn_pairs = [(picture.true[column], drawn) for picture in having for drawn in picture.generated[model]]
    vectors = {
        "generated": _mean_vector(drawn_pairs),
        "pristine": _mean_vector([(picture.true[column], picture.pristine) for picture in having]),
    }
    if all(column in picture.true_again for picture in having):
        vectors["true again"] = _mean_vector([(picture.true[column], picture.true_again[column]) for picture in having])
    draws = {
        "generated": _mean_draws([one.generated_draws for one in beside]),
        "true": _mean_draws([one.true_draws for one in beside]),
    }
    return ModelFigures(
        learned=column,
        vectors=vectors,
        residuals={
            "generated": averaged([one.generated_residual for one in beside]),
            "true": averaged([one.true_residual for one in beside]),
        },
        draws={kind: mean for kind, mean in draws.items() if mean is not None},
        histograms={
            "pristine": _pool(picture.pristine for picture in having),
            "true": _pool(picture.true[column] for picture in having),
            "generated": _pool(drawn for _, drawn in drawn_pairs),
        },
    )


def _mean_vector(pairs: Sequence[tuple[Histograms, Histograms]]) -> Row:
    each = [vector_divergence(true, other) for true, other in pairs]
    return {component: fmean(one[component] for one in each) for component in VECTOR}


def _mean_draws(likenesses: Sequence[DrawLikeness | None]) -> Draws | None:
    there = [one for one in likenesses if one is not None]
    if not there:
        return None
    correlations = [one.correlation for one in there if one.correlation is not None]
    return Draws(fmean(correlations) if correlations else None, fmean(one.variance for one in there))


def _having(pictures: Sequence[MeasuredPicture], column: str) -> list[MeasuredPicture]:
    return [picture for picture in pictures if column in picture.true]


def _headline(histograms: Histograms) -> Counts:
    return histograms[_HEADLINE_ROW]


def _pool(histograms: Iterable[Histograms]) -> Counts:
    return np.sum([_headline(one) for one in histograms], axis=0, dtype=np.int64)
