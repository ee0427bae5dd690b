"""The figures of an evaluation: divergences over all images, noise floors, and diagonal dominance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.metrics.jsd_nss import (
    JSD_NSS,
    NSS_FEATURES,
    between_content_baseline,
    feature_divergences,
    jsd_bits,
    nss_histograms,
    split_half_floor,
)
from distort_pipeline.metrics.nss_features import Counts
from distort_pipeline.metrics.residuals import (
    DrawLikeness,
    ResidualFigures,
    SampleDiversity,
    compare_draws,
    mean_figures,
    residual_figures,
)
from distort_pipeline.records import Image, derive_seed, make_rng

Histograms: TypeAlias = NDArray[np.int64]  # (12, 103), a row for each of NSS_FEATURES

SMALLEST_SIDE_PX = 32  # in a smaller image most rings of the spectrum have no frequency, and SSIM hardly a window


@dataclass(frozen=True)
class EvalImages:
    """All distorted versions of a pristine image. Columns name true distortions, models generators."""

    pristine: Image
    true: Mapping[str, Image]  # by column
    true_again: Mapping[str, Image]  # by column: another draw, of random distortions of the registry
    generated: Mapping[str, Sequence[Image]]  # by model, then by draw
    generated_again: Mapping[str, Image]  # by model: a second draw, of random generators


@dataclass(frozen=True)
class Quality:
    """PSNR and SSIM of a distorted image against the pristine image."""

    psnr: float | None  # dB; None for identical images
    ssim: float


@dataclass(frozen=True)
class Comparison:
    """The first generated draw and the true distortion of one image, each against the pristine image."""

    generated: Quality
    true: Quality
    generated_residual: ResidualFigures
    true_residual: ResidualFigures
    generated_draws: DrawLikeness | None
    true_draws: DrawLikeness | None


@dataclass(frozen=True)
class MeasuredImage:
    """All measurements of an image, without pixels."""

    image: str
    pristine: Histograms
    true: Mapping[str, Histograms]  # by column
    true_again: Mapping[str, Histograms]  # by column
    generated: Mapping[str, tuple[Histograms, ...]]  # by model
    comparisons: Mapping[str, Comparison]  # by model, where the image has the learned true distortion


def measure(image: str, versions: EvalImages, learned: Mapping[str, str]) -> MeasuredImage:
    """Return the measurements of the image named `image`; `learned` maps each model to its column."""
    return MeasuredImage(
        image,
        pristine=nss_histograms(versions.pristine),
        true={column: nss_histograms(true) for column, true in versions.true.items()},
        true_again={column: nss_histograms(true) for column, true in versions.true_again.items()},
        generated={model: tuple(map(nss_histograms, drawn)) for model, drawn in versions.generated.items()},
        comparisons={
            model: _comparison(versions, model, column) for model, column in learned.items() if column in versions.true
        },
    )


def quality(pristine: Image, distorted: Image) -> Quality:
    """Return PSNR and SSIM of `distorted` against `pristine`."""
    ratio = psnr(pristine, distorted)
    return Quality(ratio if math.isfinite(ratio) else None, ssim(pristine, distorted))


def _comparison(versions: EvalImages, model: str, column: str) -> Comparison:
    pristine, true, generated = versions.pristine, versions.true[column], versions.generated[model][0]
    return Comparison(
        generated=quality(pristine, generated),
        true=quality(pristine, true),
        generated_residual=residual_figures(pristine, generated),
        true_residual=residual_figures(pristine, true),
        generated_draws=_draws(pristine, generated, versions.generated_again.get(model)),
        true_draws=_draws(pristine, true, versions.true_again.get(column)),
    )


def _draws(pristine: Image, first: Image, second: Image | None) -> DrawLikeness | None:
    return None if second is None else compare_draws(pristine, first, second)


CONTENT_SPLITS = (
    20  # random halvings in the mean of the between-content baseline: with few images a single halving is luck
)

Row: TypeAlias = Mapping[str, float]  # true distortion → bits
FeatureDivergences: TypeAlias = Mapping[str, float]  # NSS feature → bits

_JSD_NSS_ROW = NSS_FEATURES.index(JSD_NSS)


@dataclass(frozen=True)
class NoiseFloor:
    """Divergences in bits of the true distortion from itself."""

    sampling: float  # mean over images
    second_draw: bool  # whether `sampling` compares two draws; else random halves of one image's products
    content: float | None  # the between-content baseline; None with a single image


@dataclass(frozen=True)
class Draws:
    """Two draws on one image, mean over images."""

    correlation: float | None
    variance: float


@dataclass(frozen=True)
class ModelFigures:
    """One generator against the true distortion of its training."""

    learned: str
    feature_table: Mapping[
        str, FeatureDivergences
    ]  # of 'generated', 'pristine' and perhaps 'true again', from the truth
    residuals: Mapping[str, ResidualFigures]  # 'generated' and 'true'
    draws: Mapping[str, Draws]  # 'generated' and 'true', where there are two draws
    histograms: Mapping[str, Counts]  # of JSD_NSS, pooled: 'pristine', 'true' and 'generated'


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    columns: tuple[str, ...]  # the true distortions
    images: tuple[MeasuredImage, ...]
    feature_table: Mapping[str, Mapping[str, FeatureDivergences]]  # model → column: means over images and draws
    identity_features: Mapping[str, FeatureDivergences]  # by column: the identity baseline
    pooled_table: Mapping[str, Row]
    pooled_identity: Row
    noise_floors: Mapping[str, NoiseFloor]  # by column
    models: Mapping[str, ModelFigures]

    @property
    def table(self) -> Mapping[str, Row]:
        """JSD_NSS in bits of each model (rows) against each true distortion: the paper's table."""
        return {model: self.row(model) for model in self.feature_table}

    @property
    def pristine(self) -> Row:
        """JSD_NSS in bits of the identity baseline, by true distortion."""
        return {column: features[JSD_NSS] for column, features in self.identity_features.items()}

    def row(self, model: str, feature: str = JSD_NSS) -> Row:
        """Return the divergences in bits of `model` from each true distortion, in one NSS feature."""
        return {column: features[feature] for column, features in self.feature_table[model].items()}

    def diagonal(self, model: str, feature: str = JSD_NSS) -> float:
        """Return the divergence in bits of `model` from the true distortion of its training."""
        return self.feature_table[model][self.models[model].learned][feature]

    def closer_distortions(self, model: str, feature: str = JSD_NSS) -> list[str]:
        """Return the true distortions nearer to `model` than the distortion of its training, nearest first."""
        diagonal = self.diagonal(model, feature)
        nearer = {column: bits for column, bits in self.row(model, feature).items() if bits < diagonal}
        return sorted(nearer, key=lambda column: nearer[column])

    def closer_generators(self, model: str, feature: str = JSD_NSS) -> list[str]:
        """Return the generators of other distortions nearer to the truth of `model` than `model` itself."""
        learned, diagonal = self.models[model].learned, self.diagonal(model, feature)
        return [
            other
            for other, feature_table in self.feature_table.items()
            if self.models[other].learned != learned and feature_table[learned][feature] < diagonal
        ]

    def beats_identity(self, model: str, feature: str = JSD_NSS) -> bool:
        """Return whether `model` is nearer to its true distortion than the pristine images."""
        return self.diagonal(model, feature) < self.identity_features[self.models[model].learned][feature]

    def sample_diversity(self, model: str) -> SampleDiversity | None:
        """Return the diversity of `model` beside the truth; None without randomness or a second true draw."""
        generated, true = (self.models[model].draws.get(kind) for kind in ("generated", "true"))
        if generated is None or true is None or true.correlation is None or not true.variance:
            return None
        correlation = 1.0 if generated.correlation is None else generated.correlation  # None: two identical draws
        return SampleDiversity(correlation, true.correlation, generated.variance / true.variance)

    def diagonal_dominant(self, model: str, feature: str = JSD_NSS) -> bool:
        """Return whether the diagonal is the smallest of its row and of its column, the identity row included."""
        nearest = not self.closer_distortions(model, feature) and not self.closer_generators(model, feature)
        return nearest and self.beats_identity(model, feature)

    def dominant_features(self, model: str) -> list[str]:
        """Return the NSS features in which `model` is diagonal-dominant."""
        return [feature for feature in NSS_FEATURES if self.diagonal_dominant(model, feature)]


def summarise(
    images: Sequence[MeasuredImage], columns: Sequence[str], learned: Mapping[str, str], *, seed: int
) -> Evaluation:
    """Return the figures over measured `images`; `columns` are the true distortions, `learned` maps model → column.

    An image without a true distortion does not count for its column; each column has at least one image.
    """
    rows = {model: {image.image: image.generated[model] for image in images} for model in learned}
    identity_row = {image.image: (image.pristine,) for image in images}
    feature_table = {model: _feature_table(images, columns, rows[model]) for model in learned}
    identity_features = _feature_table(images, columns, identity_row)
    return Evaluation(
        columns=tuple(columns),
        images=tuple(images),
        feature_table=feature_table,
        identity_features=identity_features,
        pooled_table={model: _pooled_row(images, columns, rows[model]) for model in learned},
        pooled_identity=_pooled_row(images, columns, identity_row),
        noise_floors={column: _noise_floor(images, column, seed) for column in columns},
        models={
            model: _model_figures(
                images,
                model,
                column,
                {"generated": feature_table[model][column], "pristine": identity_features[column]},
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
    """Return JSD_NSS between the pooled histograms and those of each true distortion."""
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
        second_draws = [_jsd_nss_counts(image.true_again[column]) for image in having]
        sampling = fmean(map(jsd_bits, counts, second_draws))
    else:
        seeds = [derive_seed(seed, "halves", column, image.image) for image in having]
        sampling = fmean(split_half_floor(image, make_rng(draw)) for image, draw in zip(counts, seeds, strict=True))
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
        "generated": _mean_draws([comparison.generated_draws for comparison in comparisons]),
        "true": _mean_draws([comparison.true_draws for comparison in comparisons]),
    }
    return ModelFigures(
        learned=column,
        feature_table=feature_table,
        residuals={
            "generated": mean_figures([comparison.generated_residual for comparison in comparisons]),
            "true": mean_figures([comparison.true_residual for comparison in comparisons]),
        },
        draws={kind: mean for kind, mean in draws.items() if mean is not None},
        histograms={
            "pristine": _pool(image.pristine for image in having),
            "true": _pool(image.true[column] for image in having),
            "generated": _pool(drawn for image in having for drawn in image.generated[model]),
        },
    )


def _mean_feature_divergences(pairs: Sequence[tuple[Histograms, Histograms]]) -> FeatureDivergences:
    divergences = [feature_divergences(true, other) for true, other in pairs]
    return {feature: fmean(by_feature[feature] for by_feature in divergences) for feature in NSS_FEATURES}


def _mean_draws(likenesses: Sequence[DrawLikeness | None]) -> Draws | None:
    known = [likeness for likeness in likenesses if likeness is not None]
    if not known:
        return None
    correlations = [likeness.correlation for likeness in known if likeness.correlation is not None]
    return Draws(fmean(correlations) if correlations else None, fmean(likeness.variance for likeness in known))


def _having(images: Sequence[MeasuredImage], column: str) -> list[MeasuredImage]:
    return [image for image in images if column in image.true]


def _jsd_nss_counts(histograms: Histograms) -> Counts:
    return histograms[_JSD_NSS_ROW]


def _pool(histograms: Iterable[Histograms]) -> Counts:
    return np.sum([_jsd_nss_counts(image) for image in histograms], axis=0, dtype=np.int64)
