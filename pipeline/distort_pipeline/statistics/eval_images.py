"""One validation image measured: all histograms, and each generator beside the true distortion that it learned."""

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

Histograms: TypeAlias = NDArray[np.int64]  # (12, 103), a row for each name of VECTOR

SMALLEST_SIDE_PX = 32  # the spectrum of a smaller image has no frequency in most rings, and SSIM hardly a window


@dataclass(frozen=True)
class EvalImages:
    """Everything that was made of one pristine image. Columns name true distortions, models generators."""

    pristine: Image
    true: Mapping[str, Image]  # by column
    true_again: Mapping[str, Image]  # by column: another draw, of random distortions that we can make ourselves
    generated: Mapping[str, Sequence[Image]]  # by model: one for each draw
    generated_again: Mapping[str, Image]  # by model: a second draw, of random generators


@dataclass(frozen=True)
class Quality:
    """How far a distorted image is from the pristine one."""

    psnr: float | None  # dB; None for identical images
    ssim: float


@dataclass(frozen=True)
class Comparison:
    """A generator's first draw of one image, and the true distortion of that image, each against the pristine."""

    generated: Quality
    true: Quality
    generated_residual: ResidualFigures
    true_residual: ResidualFigures
    generated_draws: DrawLikeness | None
    true_draws: DrawLikeness | None


@dataclass(frozen=True)
class MeasuredImage:
    """What is kept of one image: small enough for thousands of images."""

    image: str
    pristine: Histograms
    true: Mapping[str, Histograms]  # by column
    true_again: Mapping[str, Histograms]  # by column
    generated: Mapping[str, tuple[Histograms, ...]]  # by model
    comparisons: Mapping[str, Comparison]  # by model, where the image has the true distortion that the model learned


def measure(image: str, made: EvalImages, learned: Mapping[str, str]) -> MeasuredImage:
    """Return the measurements of the image called `image`; `learned` tells the column of each model."""
    return MeasuredImage(
        image,
        pristine=nss_histograms(made.pristine),
        true={column: nss_histograms(true) for column, true in made.true.items()},
        true_again={column: nss_histograms(true) for column, true in made.true_again.items()},
        generated={model: tuple(map(nss_histograms, drawn)) for model, drawn in made.generated.items()},
        comparisons={
            model: _comparison(made, model, column) for model, column in learned.items() if column in made.true
        },
    )


def quality(pristine: Image, distorted: Image) -> Quality:
    """Return how far `distorted` is from `pristine`."""
    ratio = psnr(pristine, distorted)
    return Quality(ratio if math.isfinite(ratio) else None, ssim(pristine, distorted))


def _comparison(made: EvalImages, model: str, column: str) -> Comparison:
    pristine, true, generated = made.pristine, made.true[column], made.generated[model][0]
    return Comparison(
        generated=quality(pristine, generated),
        true=quality(pristine, true),
        generated_residual=residual_figures(pristine, generated),
        true_residual=residual_figures(pristine, true),
        generated_draws=_draws(pristine, generated, made.generated_again.get(model)),
        true_draws=_draws(pristine, true, made.true_again.get(column)),
    )


def _draws(pristine: Image, first: Image, second: Image | None) -> DrawLikeness | None:
    return None if second is None else compare_draws(pristine, first, second)
