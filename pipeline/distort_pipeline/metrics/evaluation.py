"""The figures of an evaluation: divergences over all images, noise floors, and diagonal dominance.

Columns name true distortions, models generators. The identity baseline is the pristine image in a generator's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.acceptance import TileStatistics, judge, tile_statistics
from distort_pipeline.metrics.full_reference import Quality, quality
from distort_pipeline.metrics.jsd_nss import (
    JSD_NSS,
    JSD_NSS_ROW,
    NSS_FEATURES,
    Counts,
    between_content_baseline,
    feature_divergences,
    jsd_bits,
    nss_histograms,
)
from distort_pipeline.metrics.residuals import (
    Draws,
    ResidualFigures,
    SampleDiversity,
    compare_draws,
    mean_figures,
    residual_figures,
)
from distort_pipeline.metrics.severity_sweep import (
    SeveritySweep,
    SweepImage,
    SweepVersions,
    measure_sweep,
    summarise_sweep,
)
from distort_pipeline.records import Image, Judgement, derive_seed, make_rng

Histograms: TypeAlias = NDArray[np.int64]  # (12, 103), a row for each of NSS_FEATURES
Row: TypeAlias = Mapping[str, float]  # true distortion → bits
FeatureDivergences: TypeAlias = Mapping[str, float]  # NSS feature → bits

SMALLEST_SIDE_PX = 32  # in a smaller image most rings of the spectrum have no frequency, and SSIM hardly a window
# Random halvings in the mean of the between-content baseline: with few images a single halving is luck
CONTENT_SPLITS = 20


@dataclass(frozen=True)
class EvalImages:
    """All distorted versions of a pristine image."""

    pristine: Image
    true: Mapping[str, Image]  # by column
    true_again: Mapping[str, Image]  # by column: another draw, of random distortions of the registry
    generated: Mapping[str, Sequence[Image]]  # by model, then by draw
    generated_again: Mapping[str, Image]  # by model: a second draw, of random generators
    sweeps: Mapping[str, SweepVersions] = field(default_factory=dict)  # by multi-level model, where all levels exist


@dataclass(frozen=True)
class QualityPair:
    """PSNR in dB and SSIM against pristine, of generated and true: of an image, or means over images with a value."""

    psnr_generated: float | None  # None for identical images
    psnr_true: float | None
    psnr_difference: float | None  # generated minus true
    ssim_generated: float | None
    ssim_true: float | None
    ssim_difference: float | None

    @classmethod
    def of(cls, generated: Quality, true: Quality) -> QualityPair:
        """Return the pair of one image."""
        difference = None if generated.psnr is None or true.psnr is None else generated.psnr - true.psnr
        return cls(generated.psnr, true.psnr, difference, generated.ssim, true.ssim, generated.ssim - true.ssim)

    @classmethod
    def mean(cls, images: Sequence[QualityPair]) -> QualityPair:
        """Return the mean of each value over the images that have one."""
        columns = [[getattr(image, column.name) for image in images] for column in fields(cls)]
        known = [[value for value in column if value is not None] for column in columns]
        return cls(*(fmean(column) if column else None for column in known))


@dataclass(frozen=True)
class Comparison:
    """The first generated draw and the true distortion of one image, each against the pristine image."""

    quality: QualityPair
    generated_residual: ResidualFigures
    true_residual: ResidualFigures
    generated_draws: Draws | None
    true_draws: Draws | None
    generated_statistics: NDArray[np.float64]  # of the acceptance test
    true_statistics: NDArray[np.float64]
    redrawn_statistics: NDArray[np.float64] | None  # of a second true draw
    regenerated_statistics: NDArray[np.float64] | None  # of a second draw of a random generator


@dataclass(frozen=True)
class MeasuredImage:
    """All measurements of an image, without pixels."""

    image: str
    pristine: Histograms
    true: Mapping[str, Histograms]  # by column
    true_again: Mapping[str, Histograms]  # by column
    generated_again: Mapping[str, Histograms]  # by model: a second draw
    generated: Mapping[str, tuple[Histograms, ...]]  # by model
    comparisons: Mapping[str, Comparison]  # by model, where the image has the learned true distortion
    sweeps: Mapping[str, SweepImage]  # by multi-level model, where the image has all levels


def measure(image: str, versions: EvalImages, learned: Mapping[str, str]) -> MeasuredImage:
    """Return the measurements of the image named `image`; `learned` maps each model to its column."""
    return MeasuredImage(
        image,
        pristine=nss_histograms(versions.pristine),
        true={column: nss_histograms(true) for column, true in versions.true.items()},
        true_again={column: nss_histograms(true) for column, true in versions.true_again.items()},
        generated_again={model: nss_histograms(again) for model, again in versions.generated_again.items()},
        generated={model: tuple(map(nss_histograms, drawn)) for model, drawn in versions.generated.items()},
        comparisons={
            model: _comparison(versions, model, column) for model, column in learned.items() if column in versions.true
        },
        sweeps={model: measure_sweep(sweep) for model, sweep in versions.sweeps.items()},
    )


def _comparison(versions: EvalImages, model: str, column: str) -> Comparison:
    pristine, true, generated = versions.pristine, versions.true[column], versions.generated[model][0]
    again, regenerated = versions.true_again.get(column), versions.generated_again.get(model)
    return Comparison(
        QualityPair.of(quality(pristine, generated), quality(pristine, true)),
        generated_residual=residual_figures(pristine, generated),
        true_residual=residual_figures(pristine, true),
        generated_draws=_draws(pristine, generated, regenerated),
        true_draws=_draws(pristine, true, again),
        generated_statistics=tile_statistics(pristine, generated),
        true_statistics=tile_statistics(pristine, true),
        redrawn_statistics=None if again is None else tile_statistics(pristine, again),
        regenerated_statistics=None if regenerated is None else tile_statistics(pristine, regenerated),
    )


def _draws(pristine: Image, first: Image, second: Image | None) -> Draws | None:
    return None if second is None else compare_draws(pristine, first, second)


@dataclass(frozen=True)
class NoiseFloor:
    """Divergences in bits of the true distortion from itself."""

    second_draw: FeatureDivergences | None  # of the second draw from the first; None if deterministic
    content: float | None  # the between-content baseline; None with a single image

    @property
    def redraw(self) -> float | None:
        """JSD_NSS of the second draw: no generator can be expected below; None if deterministic."""
        return self.second_draw[JSD_NSS] if self.second_draw else None


@dataclass(frozen=True)
class ModelFigures:
    """One generator against the true distortion of its training: means over images, and pooled histograms."""

    learned: str
    quality: QualityPair
    generated_residual: ResidualFigures
    true_residual: ResidualFigures
    generated_draws: Draws | None  # None without two draws
    true_draws: Draws | None
    statistics: tuple[Judgement, ...]  # of the acceptance test
    pristine_histogram: Counts  # of JSD_NSS, as the others
    true_histogram: Counts
    generated_histogram: Counts


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
    sweeps: Mapping[str, SeveritySweep]  # by multi-level model

    @property
    def table(self) -> Mapping[str, Row]:
        """JSD_NSS in bits of each model (rows) against each true distortion: the paper's table."""
        return {
            model: {column: features[JSD_NSS] for column, features in row.items()}
            for model, row in self.feature_table.items()
        }

    @property
    def pristine(self) -> Row:
        """JSD_NSS in bits of the identity baseline, by true distortion."""
        return {column: features[JSD_NSS] for column, features in self.identity_features.items()}

    def failing(self, model: str) -> list[Judgement]:
        """Return the statistics of `model` beyond their thresholds, the farthest out first."""
        failing = [judgement for judgement in self.models[model].statistics if not judgement.accepted]
        return sorted(failing, key=lambda judgement: -judgement.excess)

    def diagonal(self, model: str, feature: str = JSD_NSS) -> float:
        """Return the divergence in bits of `model` from the true distortion of its training."""
        return self.feature_table[model][self.models[model].learned][feature]

    def closer_distortions(self, model: str, feature: str = JSD_NSS) -> list[str]:
        """Return the true distortions nearer to `model` than the distortion of its training, nearest first."""
        row = {column: features[feature] for column, features in self.feature_table[model].items()}
        return sorted((column for column in row if row[column] < self.diagonal(model, feature)), key=row.__getitem__)

    def closer_generators(self, model: str, feature: str = JSD_NSS) -> list[str]:
        """Return the generators of other distortions nearer to the truth of `model` than `model` itself."""
        learned, diagonal = self.models[model].learned, self.diagonal(model, feature)
        return [
            other
            for other, row in self.feature_table.items()
            if self.models[other].learned != learned and row[learned][feature] < diagonal
        ]

    def beats_identity(self, model: str, feature: str = JSD_NSS) -> bool:
        """Return whether `model` is nearer to its true distortion than the pristine images."""
        return self.diagonal(model, feature) < self.identity_features[self.models[model].learned][feature]

    def diagonal_dominant(self, model: str, feature: str = JSD_NSS) -> bool:
        """Return whether the diagonal is the smallest of its row and of its column, the identity row included."""
        nearest = not self.closer_distortions(model, feature) and not self.closer_generators(model, feature)
        return nearest and self.beats_identity(model, feature)

    def dominant_features(self, model: str) -> list[str]:
        """Return the NSS features in which `model` is diagonal-dominant."""
        return [feature for feature in NSS_FEATURES if self.diagonal_dominant(model, feature)]

    def sample_diversity(self, model: str) -> SampleDiversity | None:
        """Return the diversity of `model` beside the truth; None without randomness or a second true draw."""
        generated, true = self.models[model].generated_draws, self.models[model].true_draws
        if generated is None or true is None or true.correlation is None or not true.variance:
            return None
        correlation = 1.0 if generated.correlation is None else generated.correlation  # None: two identical draws
        return SampleDiversity(correlation, true.correlation, generated.variance / true.variance)


def summarise(
    images: Sequence[MeasuredImage], columns: Sequence[str], learned: Mapping[str, str], *, seed: int
) -> Evaluation:
    """Return the figures over measured `images`; `columns` are the true distortions, `learned` maps model → column.

    An image without a true distortion does not count for its column; each column has at least one image.
    """
    rows = {model: {image.image: image.generated[model] for image in images} for model in learned}
    identity_row = {image.image: (image.pristine,) for image in images}
    sweeps = {model: [image.sweeps[model] for image in images if model in image.sweeps] for model in learned}
    return Evaluation(
        columns=tuple(columns),
        images=tuple(images),
        feature_table={model: _feature_row(images, columns, rows[model]) for model in learned},
        identity_features=_feature_row(images, columns, identity_row),
        pooled_table={model: _pooled_row(images, columns, rows[model]) for model in learned},
        pooled_identity=_pooled_row(images, columns, identity_row),
        noise_floors={column: _noise_floor(images, column, seed) for column in columns},
        models={model: _model_figures(images, model, column, seed) for model, column in learned.items()},
        sweeps={model: summarise_sweep(measured) for model, measured in sweeps.items() if measured},
    )


def _feature_row(
    images: Sequence[MeasuredImage], columns: Sequence[str], row: Mapping[str, Sequence[Histograms]]
) -> Mapping[str, FeatureDivergences]:
    """Return the mean over images (and draws) of the divergences from each true distortion."""
    return {
        column: _mean_divergences(
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
    counts = [image.true[column][JSD_NSS_ROW] for image in having]
    second_draw = None
    if all(column in image.true_again for image in having):
        second_draw = _mean_divergences([(image.true[column], image.true_again[column]) for image in having])
    content = None
    if len(having) > 1:
        rng = make_rng(derive_seed(seed, "content", column))
        stack = np.stack(counts)
        content = fmean(between_content_baseline(stack, rng.permutation(len(having))) for _ in range(CONTENT_SPLITS))
    return NoiseFloor(second_draw, content)


def _judged(images: Sequence[MeasuredImage], model: str, column: str, seed: int) -> tuple[Judgement, ...]:
    """Return the judgements of a generator on whole images, the first draw of each.

    The chance level is that of two draws of the truth; of external pairs, which cannot be drawn again, that of two
    draws of the generator, if it is random.
    """
    comparisons = [image.comparisons[model] for image in images]
    generated = _statistics(comparisons, "generated", [image.generated[model][0] for image in images])
    true = _statistics(comparisons, "true", [image.true[column] for image in images])
    redrawn = _statistics(comparisons, "redrawn", [image.true_again.get(column) for image in images])
    regenerated = _statistics(comparisons, "regenerated", [image.generated_again.get(model) for image in images])
    draws = None
    if true is not None and redrawn is not None:
        draws = true, redrawn
    elif generated is not None and regenerated is not None:
        draws = generated, regenerated
    assert generated is not None
    assert true is not None
    rng = make_rng(derive_seed(seed, "acceptance", model))
    return judge(generated, true, range(len(images)), draws, rng=rng)


def _statistics(
    comparisons: Sequence[Comparison], kind: str, histograms: Sequence[Histograms | None]
) -> TileStatistics | None:
    """Return the statistics of this kind of all images; None if one has none."""
    values = [getattr(comparison, f"{kind}_statistics") for comparison in comparisons]
    known = [each for each in histograms if each is not None]
    if len(known) < len(comparisons) or any(value is None for value in values):
        return None
    return TileStatistics(np.stack(values), np.stack(known))


def _model_figures(images: Sequence[MeasuredImage], model: str, column: str, seed: int) -> ModelFigures:
    having = _having(images, column)
    comparisons = [image.comparisons[model] for image in having]
    return ModelFigures(
        learned=column,
        quality=QualityPair.mean([comparison.quality for comparison in comparisons]),
        generated_residual=mean_figures([comparison.generated_residual for comparison in comparisons]),
        true_residual=mean_figures([comparison.true_residual for comparison in comparisons]),
        generated_draws=_mean_draws([comparison.generated_draws for comparison in comparisons]),
        true_draws=_mean_draws([comparison.true_draws for comparison in comparisons]),
        statistics=_judged(having, model, column, seed),
        pristine_histogram=_pool(image.pristine for image in having),
        true_histogram=_pool(image.true[column] for image in having),
        generated_histogram=_pool(drawn for image in having for drawn in image.generated[model]),
    )


def _mean_divergences(pairs: Sequence[tuple[Histograms, Histograms]]) -> FeatureDivergences:
    divergences = [feature_divergences(true, other) for true, other in pairs]
    return {feature: fmean(by_feature[feature] for by_feature in divergences) for feature in NSS_FEATURES}


def _mean_draws(likenesses: Sequence[Draws | None]) -> Draws | None:
    known = [likeness for likeness in likenesses if likeness is not None]
    if not known:
        return None
    correlations = [likeness.correlation for likeness in known if likeness.correlation is not None]
    return Draws(fmean(correlations) if correlations else None, fmean(likeness.variance for likeness in known))


def _having(images: Sequence[MeasuredImage], column: str) -> list[MeasuredImage]:
    return [image for image in images if column in image.true]


def _pool(histograms: Iterable[Histograms]) -> Counts:
    """Return the sum of the histograms of JSD_NSS."""
    return np.sum([image[JSD_NSS_ROW] for image in histograms], axis=0, dtype=np.int64)
