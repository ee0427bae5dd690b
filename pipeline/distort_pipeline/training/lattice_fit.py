"""The step of each coefficient, read off pairs: what is smaller than half of it vanishes, the rest is whole steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZE_GREY, SIZES = 0.25, 4096  # sizes of coefficients are told apart so finely, up to 1024 greys
FIRST_SIZE = 4  # a grey: smaller coefficients are the rounding of 8-bit pixels
LEAST_SEEN = 50  # coefficients that did not vanish; with fewer the size where they do is not known
NEAR_GREY, NEAR_SHARE = 1.0, 0.3  # of a step, whichever is more: where the comb of whole steps is looked for
TRIES = 161  # steps that are tried there, and again as many around the best of them
SHARPNESS = 20.0  # only sizes within a twentieth of a step of whole numbers count: clipping makes many a little smaller
WHOLE = 0.5  # mean cosine of the phase in a step of what was left: 1 for whole steps, 0 for anything


@dataclass(frozen=True)
class QuantizerSteps:
    """Of the coefficients of a band (count,): the logarithms of their steps in greys, and how each is known."""

    log_steps: Floats
    seen: NDArray[np.bool_]  # or else the step is only the least that it can be
    whole: Floats  # how much what was left is a number of whole steps, see WHOLE; 0 where it was not seen


class LatticeFit:
    """Counts of what became of coefficients of each size, added up group by group."""

    def __init__(self, count: int) -> None:
        self.gone, self.there, self.after = (np.zeros((count, SIZES), np.int64) for _ in range(3))

    def add(self, before: Floats, after: Floats) -> None:
        """Take in coefficients (N, h, w, count) and what became of them, in greys."""
        size, left = np.abs(before), np.abs(after)
        gone = left < size / 2
        for table, sizes, chosen in (
            (self.gone, size, gone),
            (self.there, size, ~gone),
            (self.after, left, ~gone & (left >= FIRST_SIZE * SIZE_GREY)),
        ):
            place = np.minimum(np.rint(sizes / SIZE_GREY).astype(np.int64), SIZES - 1) + SIZES * np.arange(
                len(self.gone)
            )
            table += np.bincount(place[chosen], minlength=table.size).reshape(table.shape)

    def steps(self) -> QuantizerSteps:
        """Return the steps: the size that splits those that vanish from those that stay with the fewest errors is half.

        Then the step near that at which what is left of the others comes closest to whole numbers of it.
        """
        gone, there = self.gone[:, FIRST_SIZE:], self.there[:, FIRST_SIZE:]
        errors = np.cumsum(there, 1) - np.cumsum(gone, 1)  # below the split those that stay, less those that vanish
        split = errors.argmin(1) + 1
        largest = SIZES - FIRST_SIZE - (np.cumsum((gone + there)[:, ::-1], 1) == 0).sum(1)
        stayed = there.sum(1) - np.take_along_axis(np.cumsum(there, 1), split[:, None] - 1, 1)[:, 0]
        seen = stayed >= LEAST_SEEN
        steps = 2 * SIZE_GREY * (FIRST_SIZE + np.where(seen, split, np.maximum(largest, 1))).astype(np.float64)
        whole = np.zeros(len(steps))
        for one in np.flatnonzero(seen):
            step, strength = nearest_lattice(self.after[one], steps[one])
            whole[one] = strength
            if strength >= WHOLE:
                steps[one] = step
        return QuantizerSteps(np.log(steps).astype(np.float32), seen, whole.astype(np.float32))


def nearest_lattice(counts: NDArray[np.int64], about: float) -> tuple[float, float]:
    """Return the step near `about` whose multiples the sizes with these `counts` (SIZES,) are nearest to, and how near.

    >>> counts = np.bincount([400, 800, 1200], minlength=SIZES)  # 100, 200 and 300 greys
    >>> round(nearest_comb(counts, 98.0)[0])
    100
    """
    places = np.flatnonzero(counts[:-1])  # the last is all that is larger
    places = places[SIZE_GREY * places > about / 2]  # noise around 0 is near a multiple of everything
    if not len(places):
        return about, 0.0
    best, width = about, max(NEAR_GREY, NEAR_SHARE * about)
    for _ in range(2):
        tried = best + np.linspace(-width, width, TRIES)
        phases = np.cos(2 * np.pi * SIZE_GREY * places / tried[:, None])
        found = int((np.exp(SHARPNESS * (phases - 1)) @ counts[places]).argmax())
        best, width = float(tried[found]), 2 * width / (TRIES - 1)
    return best, float(phases[found] @ counts[places] / counts[places].sum())


def resolve_lattice(log_steps: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return log steps (levels, count) with those that were not seen filled in from the other levels.

    A coefficient that is gone at a coarse level has the step that it has at a finer one, times the mean ratio of both
    levels' steps. One that no level ever let pass keeps the least that its step can be at the finest.
    """
    settled = log_steps.copy()
    for level in range(1, len(settled)):
        both = seen[level] & seen[level - 1]
        ratio = np.median(log_steps[level][both] - log_steps[level - 1][both]) if both.any() else 0.0
        settled[level] = np.where(seen[level], log_steps[level], settled[level - 1] + ratio)
    return settled


def in_whole_steps(levels: list[QuantizerSteps]) -> bool:
    """Return whether what a band is left with is whole steps: by most of what was seen of it at any level."""
    seen = np.concatenate([steps.whole[steps.seen] for steps in levels])
    return bool(len(seen)) and float(np.median(seen)) >= WHOLE
