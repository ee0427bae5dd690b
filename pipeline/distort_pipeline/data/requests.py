"""Requests for the samples of a condition: one severity, a range of severities, or a quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from distort_pipeline.records import Images, make_rng

if TYPE_CHECKING:
    from distort_pipeline.networks.wavelets import Significances

SEVERITY = "severity"
DECIMALS = 6  # of a severity, and of a requested quality


class Generator(Protocol):
    """A generator that distorts images batch by batch, each with its seed and severity."""

    @property
    def calibration(self) -> Mapping[str, Sequence[float]]:
        """The mean quality by severity up to the highest, see `metrics/severity_sweep.py`."""

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted; `significances` (N, 18) are of the whole images of these tiles."""


@dataclass(frozen=True)
class Tiles:
    """Some pristine tiles of a batch (N, H, W, 3), or one whole image, with the seeds and requests of their samples."""

    pristine: Images
    seeds: Sequence[int]
    requested: Sequence[float]
    significances: Significances | None = None

    def distorted(self, generator: Generator, severities: Mapping[int, float]) -> Images:
        """Return the tiles at the indices in `severities`, distorted."""
        indices = list(severities)
        chosen = None if self.significances is None else self.significances[indices]
        seeds = [self.seeds[index] for index in indices]
        return np.concatenate(
            list(generator.distort_batches(self.pristine[indices], seeds, list(severities.values()), chosen))
        )


@dataclass(frozen=True)
class Distorted:
    """Tiles before and after a generator, (N, H, W, 3), with their severities and requested qualities."""

    pristine: Images
    distorted: Images
    severities: Sequence[float]
    targets: Sequence[float | None]  # None where a severity was requested
    resampled: Sequence[bool]  # whether a target was drawn again because the tile could not reach the first


@dataclass(frozen=True)
class Request:
    """The request for the samples of a condition: from `first` to `last`, in units of SEVERITY or of a metric."""

    of: str
    first: float
    last: float

    @property
    def varies(self) -> bool:
        """Whether samples have different values."""
        return self.first != self.last

    def values(self, count: int, seed: int) -> list[float]:
        """Return a value for each of `count` samples, from `count` equal strata of the range in random order.

        >>> Request("severity", 0.5, 0.5).values(2, seed=0)
        [0.5, 0.5]
        >>> [int(value * 3) for value in sorted(Request("severity", 0, 1).values(3, seed=0))]
        [0, 1, 2]
        """
        if not self.varies:
            return [self.first] * count
        rng = make_rng(seed)
        fractions = (rng.permutation(count) + rng.random(count)) / count
        return [float(value) for value in np.round(self.first + (self.last - self.first) * fractions, DECIMALS)]

    def distort(self, generator: Generator, batch: Iterable[Tiles], *, seed: int) -> Iterator[Distorted]:  # noqa: ARG002
        """Yield the tiles of a batch at their requested severities, inference batch by inference batch."""
        for tiles in batch:
            first = 0
            for distorted in generator.distort_batches(
                tiles.pristine, tiles.seeds, tiles.requested, tiles.significances
            ):
                rows = slice(first, first + len(distorted))
                count = len(distorted)
                yield Distorted(tiles.pristine[rows], distorted, tiles.requested[rows], [None] * count, [False] * count)
                first = rows.stop


class FixedSeverity(Request):
    """One severity for all samples: the true distortions of their tiles are shared by all batches."""


class SeverityRange(Request):
    """A severity for each sample, from a range."""


class QualityTarget(Request):
    """A value of a metric for each sample, one for all or from a range."""

    def distort(self, generator: Generator, batch: Iterable[Tiles], *, seed: int) -> Iterator[Distorted]:
        """Yield the tiles of a batch near their requested quality; a range is assigned by what the tiles can reach."""
        # a reader of a corpus needs neither SciPy nor OpenCV
        from distort_pipeline.data.severity_search import assign_targets, distort_to_targets, lowest_quality

        lowest: list[float] | None = None
        targets = [value for tiles in batch for value in tiles.requested]
        resampled = [False] * len(targets)
        if self.varies:
            lowest = [value for tiles in batch for value in lowest_quality(generator, tiles, measure=self.of)]
            targets, resampled = assign_targets(targets, lowest, measure=self.of, mildest=self.first, seed=seed)
        first = 0
        for tiles in batch:
            rows = slice(first, first + len(tiles.seeds))
            images, severities = distort_to_targets(
                generator, tiles, targets[rows], measure=self.of, lowest=None if lowest is None else lowest[rows]
            )
            yield Distorted(tiles.pristine, images, severities, targets[rows], resampled[rows])
            first = rows.stop


def request_for(of: str, first: float, last: float) -> Request:
    """Return the request of the kind for `of`, SEVERITY or a metric, and its range."""
    if of != SEVERITY:
        return QualityTarget(of, first, last)
    return FixedSeverity(of, first, last) if first == last else SeverityRange(of, first, last)
