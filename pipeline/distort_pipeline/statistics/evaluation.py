"""The numbers of an evaluation: divergences over all images, floors to judge them by, and who is nearest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import numpy as np

from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.eval_images import Histograms, MeasuredImage
from distort_pipeline.statistics.histograms import Counts
from distort_pipeline.statistics.noise_floor import between_content_baseline, split_half_floor
from distort_pipeline.statistics.nss_features import JSD_NSS, NSS_FEATURES, feature_divergences
from distort_pipeline.statistics.residual_figures import ResidualFigures, averaged
from distort_pipeline.statistics.sample_diversity import DrawLikeness, SampleDiversity

CONTENT_SPLITS = 20  # random halvings that the content floor is the mean of: with few images a single one is luck

Row: TypeAlias = Mapping[str, float]  # true distortion → bits
FeatureDivergences: TypeAlias = Mapping[str, float]  # component → bits

_JSD_NSS_ROW = NSS_FEATURES.index(JSD_NSS)


@dataclass(frozen=True)
class NoiseFloor:
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
    feature_table: Mapping[str, FeatureDivergences]  # from the truth: 'generated', 'pristine' and perhaps 'true again'
    residuals: Mapping[str, ResidualFigures]  # 'generated' and 'true'
    draws: Mapping[str, Draws]  # 'generated' and 'true', where there are two draws
    histograms: Mapping[str, Counts]  # the headline's, pooled: 'pristine', 'true' and 'generated'


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    columns: tuple[str, ...]  # the true distortions
    images: tuple[MeasuredImage, ...]
    feature_table: Mapping[str, Mapping[str, FeatureDivergences]]  # model → column: means over images and draws
    identity_features: Mapping[str, FeatureDivergences]  # column: what the identity baseline scores
    pooled_table: Mapping[str, Row]
    pooled_pristine: Row
    noise_floors: Mapping[str, NoiseFloor]  # by column
    models: Mapping[str, ModelFigures]

    @property
    def table(self) -> Mapping[str, Row]:
        """The headline of each model (rows) against each true distortion, in bits: the paper's table."""
        return {model: self.row(model) for model in self.feature_table}

    @property
    def pristine(self) -> Row:
        """What the identity baseline scores, by the headline."""
        return {column: features[JSD_NSS] for column, features in self.identity_features.items()}

    def row(self, model: str, component: str = JSD_NSS) -> Row:
        """Return the divergences of `model` from each true distortion in bits, by one component of VECTOR."""
        return {column: features[component] for column, features in self.feature_table[model].items()}

    def own(self, model: str, component: str = JSD_NSS) -> float:
        """Return the divergence in bits of `model` from the true distortion that it learned: the diagonal."""
        return self.feature_table[model][self.models[model].learned][component]

    def closer_distortions(self, model: str, component: str = JSD_NSS) -> list[str]:
        """Return the other true distortions that `model` is nearer to than to its own, nearest first."""
        own = self.own(model, component)
        nearer = {column: bits for column, bits in self.row(model, component).items() if bits < own}
        return sorted(nearer, key=lambda column: nearer[column])

    def closer_generators(self, model: str, component: str = JSD_NSS) -> list[str]:
        """Return the generators of other distortions that are nearer to what `model` learned than it is itself."""
        learned, own = self.models[model].learned, self.own(model, component)
        return [
            other
            for other, feature_table in self.feature_table.items()
            if self.models[other].learned != learned and feature_table[learned][component] < own
        ]

    def beats_pristine(self, model: str, component: str = JSD_NSS) -> bool:
        """Return whether `model` is nearer to its true distortion than the untouched images are."""
        return self.own(model, component) < self.identity_features[self.models[model].learned][component]

    def sample_diversity(self, model: str) -> SampleDiversity | None:
        """Return how `model` draws beside the truth; None where nothing is random or there is no second true draw."""
        made, true = (self.models[model].draws.get(kind) for kind in ("generated", "true"))
        if made is None or true is None or true.correlation is None or not true.variance:
            return None
        # without any variation the second draw is the first one
        correlation = 1.0 if made.correlation is None else made.correlation
        return SampleDiversity(correlation, true.correlation, made.variance / true.variance)

    def nearest_own(self, model: str, component: str = JSD_NSS) -> bool:
        """Return whether the diagonal is the smallest of its row and of its column, the pristine row included."""
        nearest = not self.closer_distortions(model, component) and not self.closer_generators(model, component)
        return nearest and self.beats_pristine(model, component)

    def nearest_in(self, model: str) -> list[str]:
        """Return the components of VECTOR of which `nearest_own` is true."""
        return [component for component in NSS_FEATURES if self.nearest_own(model, component)]


def summarise(
    images: Sequence[MeasuredImage], columns: Sequence[str], learned: Mapping[str, str], *, seed: int
) -> Evaluation:
    """Return the figures over measured `images`; `columns` are the true distortions, `learned` has each model's.

    Images may lack a true distortion and then do not count for it; one image at least has each.
    """
    rows = {model: {image.image: image.generated[model] for image in images} for model in learned}
    nothing = {image.image: (image.pristine,) for image in images}
    feature_table = {model: _feature_table(images, columns, rows[model]) for model in learned}
    untouched = _feature_table(images, columns, nothing)
    return Evaluation(
        columns=tuple(columns),
        images=tuple(images),
        feature_table=feature_table,
        identity_features=untouched,
        pooled_table={model: _pooled_row(images, columns, rows[model]) for model in learned},
        pooled_pristine=_pooled_row(images, columns, nothing),
        noise_floors={column: _noise_floor(images, column, seed) for column in columns},
        models={
            model: _model_figures(
                images, model, column, {"generated": feature_table[model][column], "pristine": untouched[column]}
            )
            for model, column in learned.items()
        },
    )


def _feature_table(
    images: Sequence[MeasuredImage], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Mapping[str, FeatureDivergences]:
    """Return the mean over images (and draws) of the divergences from each true distortion."""
    return {
        column: _mean_feature_divergences(
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


def _noise_floor(images: Sequence[MeasuredImage], column: str, seed: int) -> NoiseFloor:
    having = _having(images, column)
    second_draw = all(column in image.true_again for image in having)
    counts = [_jsd_nss_counts(image.true[column]) for image in having]
    if second_draw:
        again = [_jsd_nss_counts(image.true_again[column]) for image in having]
        sampling = fmean(map(jsd_bits, counts, again))
    else:
        seeds = [derive_seed(seed, "halves", column, image.image) for image in having]
        sampling = fmean(split_half_floor(own, make_rng(one)) for own, one in zip(counts, seeds, strict=True))
    content = None
    if len(having) > 1:
        rng = make_rng(derive_seed(seed, "content", column))
        stack = np.stack(counts)
        content = fmean(between_content_baseline(stack, rng.permutation(len(having))) for _ in range(CONTENT_SPLITS))
    return NoiseFloor(sampling, second_draw, content)


def _model_figures(
    images: Sequence[MeasuredImage], model: str, column: str, feature_table: dict[str, FeatureDivergences]
) -> ModelFigures:
    having = _having(images, column)
    comparisons = [image.comparisons[model] for image in having]
    if all(column in image.true_again for image in having):
        feature_table["true again"] = _mean_feature_divergences(
            [(image.true[column], image.true_again[column]) for image in having]
        )
    draws = {
        "generated": _mean_draws([one.generated_draws for one in comparisons]),
        "true": _mean_draws([one.true_draws for one in comparisons]),
    }
    return ModelFigures(
        learned=column,
        feature_table=feature_table,
        residuals={
            "generated": averaged([one.generated_residual for one in comparisons]),
            "true": averaged([one.true_residual for one in comparisons]),
        },
        draws={kind: mean for kind, mean in draws.items() if mean is not None},
        histograms={
            "pristine": _pool(image.pristine for image in having),
            "true": _pool(image.true[column] for image in having),
            "generated": _pool(drawn for image in having for drawn in image.generated[model]),
        },
    )


def _mean_feature_divergences(pairs: Sequence[tuple[Histograms, Histograms]]) -> FeatureDivergences:
    each = [feature_divergences(true, other) for true, other in pairs]
    return {component: fmean(one[component] for one in each) for component in NSS_FEATURES}


def _mean_draws(likenesses: Sequence[DrawLikeness | None]) -> Draws | None:
    there = [one for one in likenesses if one is not None]
    if not there:
        return None
    correlations = [one.correlation for one in there if one.correlation is not None]
    return Draws(fmean(correlations) if correlations else None, fmean(one.variance for one in there))


def _having(images: Sequence[MeasuredImage], column: str) -> list[MeasuredImage]:
    return [image for image in images if column in image.true]


def _jsd_nss_counts(histograms: Histograms) -> Counts:
    return histograms[_JSD_NSS_ROW]


def _pool(histograms: Iterable[Histograms]) -> Counts:
    return np.sum([_jsd_nss_counts(one) for one in histograms], axis=0, dtype=np.int64)
