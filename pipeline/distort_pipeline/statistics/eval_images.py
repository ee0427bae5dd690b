"""Measurements of a validation image: all histograms, and each generator against the distortion of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.nss_features import nss_histograms
from distort_pipeline.statistics.residual_figures import ResidualFigures, residual_figures
from distort_pipeline.statistics.sample_diversity import DrawLikeness, compare_draws
from distort_pipeline.statistics.ssim import ssim

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
