"""The sweep of a multi-level generator along its severity scale, on validation images.

Learned levels and midpoints between them are measured against the truth, and the fall of PSNR along the scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB, Quality, psnr, quality
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.records import Image

TILE_PX = 256
STEPS = 10  # of a sweep, from 0 to the last level: about as many as levels and midpoints of five
FALLING_GOAL = 0.99  # ours: of tiles whose PSNR falls from level to level
UNTOUCHED_GOAL_DB = 45.0  # ours: PSNR at severity 0; about that of a codec with rounding errors alone


@dataclass(frozen=True)
class SeverityPoint:
    """A severity with its true distortion."""

    severity: float
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Midpoint:
    """A point about half-way between two learned levels, at the nearest parameter of the distortion."""

    point: SeverityPoint
    below: float  # severity of the learned level below
    above: float


@dataclass(frozen=True)
class TrueLevel:
    """An image truly distorted at a learned level."""

    point: SeverityPoint
    true: Image
    true_again: Image | None  # another draw of a random distortion


@dataclass(frozen=True)
class SweepVersions:
    """One image along the severity scale of a multi-level generator."""

    pristine: Image
    levels: tuple[TrueLevel, ...]  # weakest first
    midpoints: tuple[tuple[Midpoint, Image], ...]  # each with the true image; empty where not available
    true_steps: Callable[[], Iterable[Image]] | None  # true images at ascending severities, where available
    generated: Callable[[float], Image]  # by severity, cached


@dataclass(frozen=True)
class LevelResult:
    """Generated against true at a learned level, of one image or as means over images. Bits are of JSD_NSS."""

    point: SeverityPoint
    bits: float
    identity_bits: float  # the identity baseline
    floor_bits: float | None  # the noise floor: a second true draw against the first; None if deterministic
    generated: Quality
    true: Quality


@dataclass(frozen=True)
class MidpointResult:
    """Generated against true at a midpoint of two learned levels; the output at either level against the same truth."""

    point: SeverityPoint
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
    errors: NDArray[np.float64]  # (severities, tiles): the same along `sweep_severities`
    true_errors: NDArray[np.float64] | None  # the same of true distortions, where available
    untouched_db: float  # PSNR at severity 0, up to HIGHEST_PSNR_DB


@dataclass(frozen=True)
class SeveritySweep:
    """All figures of one generator along the severity scale, means over images."""

    levels: tuple[LevelResult, ...]  # weakest first, as the midpoints
    midpoints: tuple[MidpointResult, ...]
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
        """The share of tiles with a PSNR falling from level to level."""
        return self.falling_levels / self.tiles

    @property
    def true_falling_levels_share(self) -> float:
        """The share of tiles with a PSNR falling from level to level under true distortions."""
        return self.true_falling_levels / self.tiles

    @property
    def kept_falling_share(self) -> float | None:
        """The share with falling generated PSNR, of tiles with falling true PSNR; None without such tiles."""
        return self.both_falling_levels / self.true_falling_levels if self.true_falling_levels else None

    @property
    def falling_share(self) -> float:
        """The share of tiles with a PSNR falling at every step."""
        return self.falling / self.tiles

    @property
    def true_falling_share(self) -> float | None:
        """`falling_share` of true distortions; None where not available."""
        return None if self.true_falling is None else self.true_falling / self.tiles

    @property
    def midpoints_nearest(self) -> int:
        """The number of midpoints nearer to the truth than both neighbouring levels."""
        return sum(result.nearest for result in self.midpoints)

    def points(self) -> list[LevelResult | MidpointResult]:
        """Return levels and midpoints, by severity."""
        return sorted([*self.levels, *self.midpoints], key=lambda result: result.point.severity)


def sweep_severities(highest: float) -> list[float]:
    """Return the severities of a sweep: STEPS + 1, equally spaced from 0 to the `highest`."""
    return [highest * step / STEPS for step in range(STEPS)] + [highest]


def measure_sweep(versions: SweepVersions) -> SweepImage:
    """Return the measurements of one image along the severity scale."""
    pristine, generated = versions.pristine, versions.generated
    severities = (0.0, *(level.point.severity for level in versions.levels))
    return SweepImage(
        levels=tuple(level_result(pristine, level, generated(level.point.severity)) for level in versions.levels),
        midpoints=tuple(midpoint_result(pristine, *midpoint, generated) for midpoint in versions.midpoints),
        level_errors=_errors(pristine, map(generated, severities)),
        true_level_errors=_errors(pristine, (pristine, *(level.true for level in versions.levels))),
        errors=_errors(pristine, map(generated, sweep_severities(severities[-1]))),
        true_errors=_errors(pristine, (pristine, *versions.true_steps())) if versions.true_steps else None,
        untouched_db=capped(psnr(pristine, generated(0.0))),
    )


def level_result(pristine: Image, level: TrueLevel, generated: Image) -> LevelResult:
    """Return the measurements of one image at a level."""
    counts, again = product_histogram(level.true), level.true_again
    return LevelResult(
        level.point,
        bits=jsd_bits(counts, product_histogram(generated)),
        identity_bits=jsd_bits(counts, product_histogram(pristine)),
        floor_bits=None if again is None else jsd_bits(counts, product_histogram(again)),
        generated=quality(pristine, generated),
        true=quality(pristine, level.true),
    )


def midpoint_result(
    pristine: Image, midpoint: Midpoint, true: Image, generated: Callable[[float], Image]
) -> MidpointResult:
    """Return the measurements of one image at a midpoint; `generated` is by severity."""
    counts = product_histogram(true)
    severities = (midpoint.point.severity, midpoint.below, midpoint.above)
    bits, below, above = (jsd_bits(counts, product_histogram(generated(severity))) for severity in severities)
    return MidpointResult(
        midpoint.point, bits, below, above, quality(pristine, generated(severities[0])), quality(pristine, true)
    )


def _errors(pristine: Image, distorted: Iterable[Image]) -> NDArray[np.float64]:
    return np.stack([tile_errors(pristine, image) for image in distorted])


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


def summarise_sweep(images: Sequence[SweepImage]) -> SeveritySweep:
    """Return the figures over measured `images`, all at the same levels and midpoints."""
    by_level = np.concatenate([falls(image.level_errors) for image in images])
    true_by_level = np.concatenate([falls(image.true_level_errors) for image in images])
    falling = np.concatenate([falls(image.errors) for image in images])
    true_falling = [falls(image.true_errors) for image in images if image.true_errors is not None]
    untouched = [image.untouched_db for image in images]
    return SeveritySweep(
        levels=tuple(map(_mean, zip(*(image.levels for image in images), strict=True))),
        midpoints=tuple(map(_mean, zip(*(image.midpoints for image in images), strict=True))),
        falling_levels=int(by_level.sum()),
        true_falling_levels=int(true_by_level.sum()),
        both_falling_levels=int((by_level & true_by_level).sum()),
        falling=int(falling.sum()),
        true_falling=int(np.concatenate(true_falling).sum()) if true_falling else None,
        tiles=falling.size,
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
    columns = {field.name: [getattr(image, field.name) for image in images] for field in fields(images[0])}
    return type(images[0])(**{name: _mean_value(values) for name, values in columns.items()})


def _mean_value(values: Sequence[Any]) -> Any:
    if isinstance(values[0], SeverityPoint):
        return values[0]
    if isinstance(values[0], Quality):
        return Quality(fmean(capped(quality.psnr) for quality in values), fmean(quality.ssim for quality in values))
    return None if values[0] is None else fmean(values)
