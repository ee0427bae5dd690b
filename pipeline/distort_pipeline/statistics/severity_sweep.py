"""Measurements of a multi-level generator along the severity scale: at learned levels, at midpoints, and throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.pixels import Image
from distort_pipeline.seeds import make_rng
from distort_pipeline.statistics.calibration import HIGHEST_PSNR_DB
from distort_pipeline.statistics.divergence import jsd_bits
from distort_pipeline.statistics.eval_images import Quality, quality
from distort_pipeline.statistics.histograms import product_histogram
from distort_pipeline.statistics.noise_floor import split_half_floor

TILE_PX = 256
STEPS = 10  # of the severity scale: five levels and the midpoints between them
FALLING_GOAL = 0.99  # ours: of tiles whose PSNR falls from level to level
UNTOUCHED_GOAL_DB = 45.0  # ours: PSNR at severity 0; about that of a codec with rounding errors alone


@dataclass(frozen=True)
class SeverityPoint:
    """A severity with its true distortion."""

    severity: float
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class LevelResult:
    """Generated against true at a learned level, of one image or as means over images. Bits are of JSD_NSS."""

    bits: float
    identity_bits: float  # the identity baseline
    floor_bits: float  # the noise floor: true against itself
    generated: Quality
    true: Quality


@dataclass(frozen=True)
class MidpointResult:
    """Generated against true at a midpoint of two learned levels; the output at either level against the same truth."""

    bits: float
    below_bits: float
    above_bits: float
    generated: Quality
    true: Quality

    @property
    def nearest(self) -> bool:
        """Whether the output at the midpoint is nearer to the truth than the output at either level."""
        return self.bits < min(self.below_bits, self.above_bits)


Measured = TypeVar("Measured", LevelResult, MidpointResult)


@dataclass(frozen=True)
class SweepImage:
    """The measurements of one image."""

    levels: tuple[LevelResult, ...]
    midpoints: tuple[MidpointResult, ...]
    level_errors: NDArray[np.float64]  # (levels + 1, tiles): mean squared error against pristine, severity 0 first
    true_level_errors: NDArray[np.float64]  # the same of true distortions
    errors: NDArray[np.float64]  # (severities, tiles): the same from severity 0 to 1 in STEPS
    true_errors: NDArray[np.float64] | None  # the same of true distortions, where available
    untouched_db: float  # PSNR at severity 0, up to HIGHEST_PSNR_DB


@dataclass(frozen=True)
class SeveritySweep:
    """All figures of one generator along the severity scale, means over images."""

    levels: tuple[tuple[SeverityPoint, LevelResult], ...]  # weakest first, as the midpoints
    midpoints: tuple[tuple[SeverityPoint, MidpointResult], ...]
    falling_levels: int  # of `tiles`: PSNR falls from level to level
    true_falling_levels: int  # the same of true distortions
    both_falling_levels: int  # of `tiles`: both fall
    falling: int  # of `tiles`: PSNR falls at every step of the severity scale
    true_falling: int | None  # the same of true distortions, whose PSNR need not fall at every step
    tiles: int
    untouched_db: float
    untouched_least_db: float  # of the image with the lowest PSNR at severity 0
    images: int

    @property
    def falling_levels_share(self) -> float:
        """Return the share of tiles with a PSNR falling from level to level."""
        return self.falling_levels / self.tiles

    @property
    def true_falling_levels_share(self) -> float:
        """Return the share of tiles with a PSNR falling from level to level under true distortions."""
        return self.true_falling_levels / self.tiles

    @property
    def kept_falling_share(self) -> float | None:
        """Return the share with falling generated PSNR, of tiles with falling true PSNR; None without such tiles."""
        return self.both_falling_levels / self.true_falling_levels if self.true_falling_levels else None

    @property
    def falling_share(self) -> float:
        """Return the share of tiles with a PSNR falling at every step."""
        return self.falling / self.tiles

    @property
    def true_falling_share(self) -> float | None:
        """Return `falling_share` of true distortions; None where not available."""
        return None if self.true_falling is None else self.true_falling / self.tiles

    def steps(self) -> list[tuple[SeverityPoint, LevelResult | MidpointResult]]:
        """Return levels and midpoints, by severity."""
        return sorted([*self.levels, *self.midpoints], key=lambda point: point[0].severity)


def level_result(
    pristine: Image, true: Image, second_true: Image | None, generated: Image, *, seed: int
) -> LevelResult:
    """Return the measurements of one image at a level; `second_true` is another true draw, if available.

    Without a second draw the noise floor is split-half, with random halves drawn from `seed`.
    """
    counts = product_histogram(true)
    if second_true is None:
        floor = split_half_floor(counts, make_rng(seed))
    else:
        floor = jsd_bits(counts, product_histogram(second_true))
    return LevelResult(
        bits=jsd_bits(counts, product_histogram(generated)),
        identity_bits=jsd_bits(counts, product_histogram(pristine)),
        floor_bits=floor,
        generated=quality(pristine, generated),
        true=quality(pristine, true),
    )


def midpoint_result(pristine: Image, true: Image, generated: Image, below: Image, above: Image) -> MidpointResult:
    """Return the measurements of one image at a midpoint; `below` and `above` are generated at the levels around."""
    counts = product_histogram(true)
    bits, below_bits, above_bits = (jsd_bits(counts, product_histogram(image)) for image in (generated, below, above))
    return MidpointResult(bits, below_bits, above_bits, quality(pristine, generated), quality(pristine, true))


def tile_errors(pristine: Image, distorted: Image) -> NDArray[np.float64]:
    """Return the mean squared error of each whole tile of 256 px, (tiles,); tiles of a smaller image are smaller."""
    squares = np.square(distorted.astype(np.float32) - pristine).mean(-1)
    height, width = (min(side, TILE_PX) for side in squares.shape)
    down, across = squares.shape[0] // height, squares.shape[1] // width
    tiles = squares[: down * height, : across * width].reshape(down, height, across, width)
    return tiles.mean((1, 3), dtype=np.float64).ravel()


def falls(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each tile of `errors` (severities, tiles) whether PSNR never rises and falls overall.

    >>> falls(np.array([[0, 0, 1], [2, 2, 1], [2, 1, 1]]))
    array([ True, False, False])
    """
    return np.asarray((np.diff(errors, axis=0) >= 0).all(0) & (errors[-1] > errors[0]))


def summarise_sweep(
    images: Sequence[SweepImage], levels: Sequence[SeverityPoint], midpoints: Sequence[SeverityPoint]
) -> SeveritySweep:
    """Return the figures over measured `images`, all at the same `levels` and `midpoints`."""
    by_level = np.concatenate([falls(image.level_errors) for image in images])
    true_by_level = np.concatenate([falls(image.true_level_errors) for image in images])
    falling = [falls(image.errors) for image in images]
    true_falling = [falls(image.true_errors) for image in images if image.true_errors is not None]
    untouched = [image.untouched_db for image in images]
    level_means = [_mean(results) for results in zip(*(image.levels for image in images), strict=True)]
    midpoint_means = [_mean(results) for results in zip(*(image.midpoints for image in images), strict=True)]
    return SeveritySweep(
        levels=tuple(zip(levels, level_means, strict=True)),
        midpoints=tuple(zip(midpoints, midpoint_means, strict=True)),
        falling_levels=int(by_level.sum()),
        true_falling_levels=int(true_by_level.sum()),
        both_falling_levels=int((by_level & true_by_level).sum()),
        falling=int(sum(tiles.sum() for tiles in falling)),
        true_falling=int(sum(tiles.sum() for tiles in true_falling)) if true_falling else None,
        tiles=sum(tiles.size for tiles in falling),
        untouched_db=fmean(untouched),
        untouched_least_db=min(untouched),
        images=len(images),
    )


def capped(psnr_db: float | None) -> float:
    """Return a PSNR up to HIGHEST_PSNR_DB; None stands for identical images.

    >>> capped(None), capped(31.5)
    (60.0, 31.5)
    """
    return HIGHEST_PSNR_DB if psnr_db is None else min(psnr_db, HIGHEST_PSNR_DB)


def _mean(images: Sequence[Measured]) -> Measured:
    """Return the mean over images of every figure at one severity."""
    values_by_field = {field.name: [getattr(image, field.name) for image in images] for field in fields(images[0])}
    means: dict[str, Any] = {
        name: _mean_quality(values) if isinstance(values[0], Quality) else fmean(values)
        for name, values in values_by_field.items()
    }
    return type(images[0])(**means)


def _mean_quality(qualities: Sequence[Quality]) -> Quality:
    return Quality(fmean(capped(quality.psnr) for quality in qualities), fmean(quality.ssim for quality in qualities))
