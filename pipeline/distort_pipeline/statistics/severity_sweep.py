"""A multi-level generator's dial measured: at the levels it learned, between them, and all along the way."""

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
STEPS = 10  # along the dial: as many as there are levels of five, and half-way places
FALLING_GOAL = 0.99  # ours: of tiles whose PSNR falls from level to level
UNTOUCHED_GOAL_DB = 45.0  # ours: PSNR at severity 0; a codec that discards nothing has about as much by rounding


@dataclass(frozen=True)
class SeverityPoint:
    """A place on the dial where there is a true distortion to compare with."""

    severity: float
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class LevelResult:
    """Generated beside true at a learned level; of one image, or the means over images. Bits are of JSD_NSS."""

    bits: float
    pristine_bits: float  # what the identity baseline scores
    floor_bits: float  # what true scores against itself
    generated: Quality
    true: Quality


@dataclass(frozen=True)
class MidpointResult:
    """The same between two learned levels, with what the generator's output at each of those scores *there*."""

    bits: float
    below_bits: float
    above_bits: float
    generated: Quality
    true: Quality

    @property
    def nearest(self) -> bool:
        """Whether turning the dial gets nearer to the truth than staying at either level."""
        return self.bits < min(self.below_bits, self.above_bits)


Measured = TypeVar("Measured", LevelResult, MidpointResult)


@dataclass(frozen=True)
class SweepImage:
    """What is kept of one image."""

    levels: tuple[LevelResult, ...]
    midpoints: tuple[MidpointResult, ...]
    level_errors: NDArray[np.float64]  # (levels + 1, tiles): mean squared error against pristine, severity 0 first
    true_level_errors: NDArray[np.float64]  # the same of true distortions
    errors: NDArray[np.float64]  # (severities, tiles): the same of what is generated all along, from severity 0 to 1
    true_errors: NDArray[np.float64] | None  # and of true distortions, where these can be made
    untouched_db: float  # PSNR at severity 0, up to HIGHEST_PSNR_DB


@dataclass(frozen=True)
class SeveritySweep:
    """All figures of one generator's dial, means over images."""

    levels: tuple[tuple[SeverityPoint, LevelResult], ...]  # weakest first; so the next
    midpoints: tuple[tuple[SeverityPoint, MidpointResult], ...]
    falling_levels: int  # of `tiles`: their PSNR falls from level to level
    true_falling_levels: int  # the same of true distortions
    both_falling_levels: int  # of `tiles`: both do
    falling: int  # of `tiles`: their PSNR falls at every small step along the dial
    true_falling: int | None  # the same of true distortions, which need not get worse with every step either
    tiles: int
    untouched_db: float
    untouched_least_db: float  # of the image that severity 0 changes most
    images: int

    @property
    def falling_levels_share(self) -> float:
        """Return the share of tiles whose PSNR falls from level to level."""
        return self.falling_levels / self.tiles

    @property
    def true_falling_levels_share(self) -> float:
        """Return the same of true distortions."""
        return self.true_falling_levels / self.tiles

    @property
    def kept_falling_share(self) -> float | None:
        """Return the share of tiles that truly get worse from level to level and do so here too; None if none does."""
        return self.both_falling_levels / self.true_falling_levels if self.true_falling_levels else None

    @property
    def falling_share(self) -> float:
        """Return the share of tiles whose PSNR falls at every small step."""
        return self.falling / self.tiles

    @property
    def true_falling_share(self) -> float | None:
        """Return the same of true distortions, None where these could not be made."""
        return None if self.true_falling is None else self.true_falling / self.tiles

    def steps(self) -> list[tuple[SeverityPoint, LevelResult | MidpointResult]]:
        """Return levels and what is between them, by severity."""
        return sorted([*self.levels, *self.midpoints], key=lambda measured: measured[0].severity)


def level_result(pristine: Image, true: Image, again: Image | None, generated: Image, *, seed: int) -> LevelResult:
    """Return what there is to say of one image at a level; `again` is another true draw, if there is one.

    Without it the floor is between random halves of the one, for which `seed` is.
    """
    counts = product_histogram(true)
    second = split_half_floor(counts, make_rng(seed)) if again is None else jsd_bits(counts, product_histogram(again))
    return LevelResult(
        bits=jsd_bits(counts, product_histogram(generated)),
        pristine_bits=jsd_bits(counts, product_histogram(pristine)),
        floor_bits=second,
        generated=quality(pristine, generated),
        true=quality(pristine, true),
    )


def midpoint_result(pristine: Image, true: Image, generated: Image, below: Image, above: Image) -> MidpointResult:
    """Return what there is to say of one image between two levels; `below` and `above` are generated at those."""
    counts = product_histogram(true)
    bits, below_bits, above_bits = (jsd_bits(counts, product_histogram(made)) for made in (generated, below, above))
    return MidpointResult(bits, below_bits, above_bits, quality(pristine, generated), quality(pristine, true))


def tile_errors(pristine: Image, distorted: Image) -> NDArray[np.float64]:
    """Return the mean squared error of each whole tile of 256 px, (tiles,); a smaller image has smaller ones."""
    squares = np.square(distorted.astype(np.float32) - pristine).mean(-1)
    height, width = (min(side, TILE_PX) for side in squares.shape)
    down, across = squares.shape[0] // height, squares.shape[1] // width
    tiles = squares[: down * height, : across * width].reshape(down, height, across, width)
    return tiles.mean((1, 3), dtype=np.float64).ravel()


def falls(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each tile of `errors` (severities, tiles) whether none is smaller than the one before, and PSNR falls.

    >>> falls(np.array([[0, 0, 1], [2, 2, 1], [2, 1, 1]]))
    array([ True, False, False])
    """
    return np.asarray((np.diff(errors, axis=0) >= 0).all(0) & (errors[-1] > errors[0]))


def summarise_sweep(
    images: Sequence[SweepImage], levels: Sequence[SeverityPoint], midpoints: Sequence[SeverityPoint]
) -> SeveritySweep:
    """Return the figures over measured `images`, all of which have these `levels` and `betweens`."""
    by_level = np.concatenate([falls(image.level_errors) for image in images])
    true_by_level = np.concatenate([falls(image.true_level_errors) for image in images])
    each = [falls(image.errors) for image in images]
    true = [falls(image.true_errors) for image in images if image.true_errors is not None]
    untouched = [image.untouched_db for image in images]
    level_means = [_mean(measured) for measured in zip(*(one.levels for one in images), strict=True)]
    midpoint_means = [_mean(measured) for measured in zip(*(one.midpoints for one in images), strict=True)]
    return SeveritySweep(
        levels=tuple(zip(levels, level_means, strict=True)),
        midpoints=tuple(zip(midpoints, midpoint_means, strict=True)),
        falling_levels=int(by_level.sum()),
        true_falling_levels=int(true_by_level.sum()),
        both_falling_levels=int((by_level & true_by_level).sum()),
        falling=int(sum(one.sum() for one in each)),
        true_falling=int(sum(one.sum() for one in true)) if true else None,
        tiles=sum(one.size for one in each),
        untouched_db=fmean(untouched),
        untouched_least_db=min(untouched),
        images=len(images),
    )


def capped(psnr_db: float | None) -> float:
    """Return a PSNR up to HIGHEST_PSNR_DB; None is that of identical images.

    >>> capped(None), capped(31.5)
    (60.0, 31.5)
    """
    return HIGHEST_PSNR_DB if psnr_db is None else min(psnr_db, HIGHEST_PSNR_DB)


def _mean(images: Sequence[Measured]) -> Measured:
    """Return the mean over images of every number at one place on the dial."""
    each = {part.name: [getattr(one, part.name) for one in images] for part in fields(images[0])}
    means: dict[str, Any] = {
        name: _mean_quality(values) if isinstance(values[0], Quality) else fmean(values)
        for name, values in each.items()
    }
    return type(images[0])(**means)


def _mean_quality(severities: Sequence[Quality]) -> Quality:
    return Quality(fmean(capped(one.psnr) for one in severities), fmean(one.ssim for one in severities))
