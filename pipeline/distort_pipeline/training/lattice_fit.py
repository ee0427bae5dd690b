"""The quantisation step of each coefficient, fitted to pairs: values below half a step become 0, others whole steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAGNITUDE_STEP, MAGNITUDES = 0.25, 4096  # bin width in 8-bit levels and number of bins, up to 1024
FIRST_BIN = 4  # magnitude 1: smaller coefficients are the rounding of 8-bit pixels
LEAST_KEPT = 50  # coefficients not zeroed; with fewer the step is unknown
NEAR_LEVELS, NEAR_SHARE = 1.0, 0.3  # search range of the lattice: 8-bit levels, or share of the step if more
TRIES = 161  # steps tried in the range, and again around the best
SHARPNESS = 20.0  # only magnitudes within a twentieth of a step of multiples count: clipping shrinks many a little
WHOLE = 0.5  # mean cosine of the phase of kept magnitudes in a step: 1 on the lattice, 0 for any others


@dataclass(frozen=True)
class QuantizerSteps:
    """The quantisation steps of a band's coefficients, (count,): logarithms in 8-bit levels, and the evidence."""

    log_steps: Floats
    seen: NDArray[np.bool_]  # False: the step is a lower limit only
    closeness: Floats  # of kept magnitudes to the lattice, see WHOLE; 0 where not seen


class LatticeFit:
    """Counts of zeroed and kept coefficients by magnitude, summed group by group."""

    def __init__(self, count: int) -> None:
        self.zeroed, self.kept, self.decoded = (np.zeros((count, MAGNITUDES), np.int64) for _ in range(3))

    def add(self, before: Floats, after: Floats) -> None:
        """Add coefficients (N, h, w, count) before and after the codec, in 8-bit levels."""
        magnitude, decoded = np.abs(before), np.abs(after)
        zeroed = decoded < magnitude / 2
        for table, magnitudes, chosen in (
            (self.zeroed, magnitude, zeroed),
            (self.kept, magnitude, ~zeroed),
            (self.decoded, decoded, ~zeroed & (decoded >= FIRST_BIN * MAGNITUDE_STEP)),
        ):
            bins = np.minimum(
                np.rint(magnitudes / MAGNITUDE_STEP).astype(np.int64), MAGNITUDES - 1
            ) + MAGNITUDES * np.arange(len(self.zeroed))
            table += np.bincount(bins[chosen], minlength=table.size).reshape(table.shape)

    def steps(self) -> QuantizerSteps:
        """Return the steps: half a step is the magnitude that best separates zeroed from kept coefficients.

        Then the nearby step whose multiples are closest to the decoded magnitudes.
        """
        zeroed, kept = self.zeroed[:, FIRST_BIN:], self.kept[:, FIRST_BIN:]
        errors = np.cumsum(kept, 1) - np.cumsum(zeroed, 1)  # kept minus zeroed below the split
        split = errors.argmin(1) + 1
        largest = MAGNITUDES - FIRST_BIN - (np.cumsum((zeroed + kept)[:, ::-1], 1) == 0).sum(1)
        kept_above = kept.sum(1) - np.take_along_axis(np.cumsum(kept, 1), split[:, None] - 1, 1)[:, 0]
        seen = kept_above >= LEAST_KEPT
        steps = 2 * MAGNITUDE_STEP * (FIRST_BIN + np.where(seen, split, np.maximum(largest, 1))).astype(np.float64)
        closeness = np.zeros(len(steps))
        for index in np.flatnonzero(seen):
            step, closeness[index] = nearest_lattice(self.decoded[index], steps[index])
            if closeness[index] >= WHOLE:
                steps[index] = step
        return QuantizerSteps(np.log(steps).astype(np.float32), seen, closeness.astype(np.float32))


def nearest_lattice(counts: NDArray[np.int64], about: float) -> tuple[float, float]:
    """Return the step near `about` whose multiples fit magnitudes with `counts` (MAGNITUDES,) best, and the closeness.

    >>> counts = np.bincount([400, 800, 1200], minlength=MAGNITUDES)  # magnitudes 100, 200 and 300
    >>> round(nearest_lattice(counts, 98.0)[0])
    100
    """
    bins = np.flatnonzero(counts[:-1])  # the last bin is open-ended
    bins = bins[MAGNITUDE_STEP * bins > about / 2]  # noise around 0 is near a multiple of any step
    if not len(bins):
        return about, 0.0
    best, width = about, max(NEAR_LEVELS, NEAR_SHARE * about)
    for _ in range(2):
        tried = best + np.linspace(-width, width, TRIES)
        cosines = np.cos(2 * np.pi * MAGNITUDE_STEP * bins / tried[:, None])
        index = int((np.exp(SHARPNESS * (cosines - 1)) @ counts[bins]).argmax())
        best, width = float(tried[index]), 2 * width / (TRIES - 1)
    return best, float(cosines[index] @ counts[bins] / counts[bins].sum())


def resolve_lattice(log_steps: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return log steps (levels, count), unseen steps filled in from the other levels.

    A coefficient zeroed at a coarse level has the step of the finer level, times the median ratio of both levels'
    steps. A coefficient zeroed at every level keeps the lower limit of its step at the finest.
    """
    resolved = log_steps.copy()
    for level in range(1, len(resolved)):
        both = seen[level] & seen[level - 1]
        ratio = np.median(log_steps[level][both] - log_steps[level - 1][both]) if both.any() else 0.0
        resolved[level] = np.where(seen[level], log_steps[level], resolved[level - 1] + ratio)
    return resolved


def in_whole_steps(levels: list[QuantizerSteps]) -> bool:
    """Return whether a band is decoded to whole steps, by the median over all levels."""
    closeness = np.concatenate([steps.closeness[steps.seen] for steps in levels])
    return bool(len(closeness)) and float(np.median(closeness)) >= WHOLE
