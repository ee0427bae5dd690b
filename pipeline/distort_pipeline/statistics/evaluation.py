"""The numbers of an evaluation: divergences over all images, floors to judge them by, and who is nearest."""

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
from distort_pipeline.statistics.measured import Histograms, MeasuredImage
from distort_pipeline.statistics.residual_figures import ResidualFigures, averaged
from distort_pipeline.statistics.vector import HEADLINE, VECTOR, vector_divergence

CONTENT_SPLITS = 20  # random halvings that the content floor is the mean of: with few images a single one is luck

Row: TypeAlias = Mapping[str, float]  # true distortion → bits
Vector: TypeAlias = Mapping[str, float]  # component → bits

_HEADLINE_ROW = VECTOR.index(HEADLINE)


@dataclass(frozen=True)
class Floors:
    """What the true distortion alone differs by, in bits."""

    sampling: float  # mean over images
    second_draw: bool  # whether it is between two draws; else between random halves of one image's products
    content: float | None  # None with a single image


@dataclass(frozen=True)
class Draws:
    """Two draws on one image, mean over images."""

    correlation: float | None
    variance: float


@dataclass(frozen=True)
class ModelFigures:
    """One generator against the true distortion that it learned."""

    learned: str
    vectors: Mapping[str, Vector]  # from the truth: 'generated', 'pristine' and perhaps 'true again'
    residuals: Mapping[str, ResidualFigures]  # 'generated' and 'true'
    draws: Mapping[str, Draws]  # 'generated' and 'true', where there are two draws
    histograms: Mapping[str, Counts]  # the headline's, pooled: 'pristine', 'true' and 'generated'


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    columns: tuple[str, ...]  # the true distortions
    images: tuple[MeasuredImage, ...]
    vectors: Mapping[str, Mapping[str, Vector]]  # model → column: means over images and draws
    pristine_vectors: Mapping[str, Vector]  # column: what doing nothing scores
    pooled_table: Mapping[str, Row]
    pooled_pristine: Row
    floors: Mapping[str, Floors]  # by column
    models: Mapping[str, ModelFigures]

    @property
    def table(self) -> Mapping[str, Row]:
        """The headline of each model (rows) against each true distortion, in bits: the paper's table."""
        return {model: self.row(model) for model in self.vectors}

    @property
    def pristine(self) -> Row:
        """What doing nothing scores, by the headline."""
        return {column: vector[HEADLINE] for column, vector in self.pristine_vectors.items()}

    def row(self, model: str, component: str = HEADLINE) -> Row:
        """Return the divergences of `model` from each true distortion in bits, by one component of VECTOR."""
        return {column: vector[component] for column, vector in self.vectors[model].items()}

    def own(self, model: str, component: str = HEADLINE) -> float:
        """Return the divergence in bits of `model` from the true distortion that it learned: the diagonal."""
        return self.vectors[model][self.models[model].learned][component]

    def strays(self, model: str, component: str = HEADLINE) -> list[str]:
        """Return the other true distortions that `model` is nearer to than to its own, nearest first."""
        own = self.own(model, component)
        nearer = {column: bits for column, bits in self.row(model, component).items() if bits < own}
        return sorted(nearer, key=lambda column: nearer[column])

    def rivals(self, model: str, component: str = HEADLINE) -> list[str]:
        """Return the generators of other distortions that are nearer to what `model` learned than it is itself."""
        learned, own = self.models[model].learned, self.own(model, component)
        return [
            other
            for other, vectors in self.vectors.items()
            if self.models[other].learned != learned and vectors[learned][component] < own
        ]

    def beats_pristine(self, model: str, component: str = HEADLINE) -> bool:
        """Return whether `model` is nearer to its true distortion than the untouched images are."""
        return self.own(model, component) < self.pristine_vectors[self.models[model].learned][component]

    def freshness(self, model: str) -> Freshness | None:
        """Return how `model` draws beside the truth; None where nothing is random or there is no second true draw."""
        made, true = (self.models[model].draws.get(kind) for kind in ("generated", "true"))
        if made is None or true is None or true.correlation is None or not true.variance:
            return None
        # without any variation the second draw is the first one
        correlation = 1.0 if made.correlation is None else made.correlation
        return Freshness(correlation, true.correlation, made.variance / true.variance)

    def nearest_own(self, model: str, component: str = HEADLINE) -> bool:
        """Return whether the diagonal is the smallest of its row and of its column, the pristine row included."""
        nearest = not self.strays(model, component) and not self.rivals(model, component)
        return nearest and self.beats_pristine(model, component)

    def nearest_in(self, model: str) -> list[str]:
        """Return the components of VECTOR of which `nearest_own` is true."""
        return [component for component in VECTOR if self.nearest_own(model, component)]


def summarise(
    images: Sequence[MeasuredImage], columns: Sequence[str], learned: Mapping[str, str], *, seed: int
) -> Evaluation:
    """Return the figures over measured `images`; `columns` are the true distortions, `learned` has each model's.

    Images may lack a true distortion and then do not count for it; one image at least has each.
    """
    rows = {model: {image.image: image.generated[model] for image in images} for model in learned}
    nothing = {image.image: (image.pristine,) for image in images}
    vectors = {model: _mean_vectors(images, columns, rows[model]) for model in learned}
    untouched = _mean_vectors(images, columns, nothing)
    return Evaluation(
        columns=tuple(columns),
        images=tuple(images),
        vectors=vectors,
        pristine_vectors=untouched,
        pooled_table={model: _pooled_row(images, columns, rows[model]) for model in learned},
        pooled_pristine=_pooled_row(images, columns, nothing),
        floors={column: _floors(images, column, seed) for column in columns},
        models={
            model: _model_figures(
                images, model, column, {"generated": vectors[model][column], "pristine": untouched[column]}
            )
            for model, column in learned.items()
        },
    )


def _mean_vectors(
    images: Sequence[MeasuredImage], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Mapping[str, Vector]:
    """Return the mean over images (and draws) of the divergences from each true distortion."""
    return {
        column: _mean_vector(
            [(image.true[column], drawn) for image in _having(images, column) for drawn in row[image.image]]
        )
        for column in columns
    }


def _pooled_row(
    images: Sequence[MeasuredImage], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Row:
    """Return the headline divergence of the pooled histograms from each true distortion's."""
    return {
        column: jsd_bits(
            _pool(image.true[column] for image in _having(images, column)),
            _pool(drawn for image in _having(images, column) for drawn in row[image.image]),
        )
        for column in columns
    }


def _floors(images: Sequence[MeasuredImage], column: str, seed: int) -> Floors:
    having = _having(images, column)
    second_draw = all(column in image.true_again for image in having)
    counts = [_headline(image.true[column]) for image in having]
    if second_draw:
        again = [_headline(image.true_again[column]) for image in having]
        sampling = fmean(map(jsd_bits, counts, again))
    else:
        seeds = [derive_seed(seed, "halves", column, image.image) for image in having]
        sampling = fmean(halves_floor(own, generator(one)) for own, one in zip(counts, seeds, strict=True))
    content = None
    if len(having) > 1:
        rng = generator(derive_seed(seed, "content", column))
        stack = np.stack(counts)
        content = fmean(content_floor(stack, rng.permutation(len(having))) for _ in range(CONTENT_SPLITS))
    return Floors(sampling, second_draw, content)


def _model_figures(
    images: Sequence[MeasuredImage], model: str, column: str, vectors: dict[str, Vector]
) -> ModelFigures:
    having = _having(images, column)
    beside = [image.beside[model] for image in having]
    if all(column in image.true_again for image in having):
        vectors["true again"] = _mean_vector([(image.true[column], image.true_again[column]) for image in having])
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
            "pristine": _pool(image.pristine for image in having),
            "true": _pool(image.true[column] for image in having),
            "generated": _pool(drawn for image in having for drawn in image.generated[model]),
        },
    )


def _mean_vector(pairs: Sequence[tuple[Histograms, Histograms]]) -> Vector:
    each = [vector_divergence(true, other) for true, other in pairs]
    return {component: fmean(one[component] for one in each) for component in VECTOR}


def _mean_draws(likenesses: Sequence[DrawLikeness | None]) -> Draws | None:
    there = [one for one in likenesses if one is not None]
    if not there:
        return None
    correlations = [one.correlation for one in there if one.correlation is not None]
    return Draws(fmean(correlations) if correlations else None, fmean(one.variance for one in there))


def _having(images: Sequence[MeasuredImage], column: str) -> list[MeasuredImage]:
    return [image for image in images if column in image.true]


def _headline(histograms: Histograms) -> Counts:
    return histograms[_HEADLINE_ROW]


def _pool(histograms: Iterable[Histograms]) -> Counts:
    return np.sum([_headline(one) for one in histograms], axis=0, dtype=np.int64)
