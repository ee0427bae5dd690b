"""Severities found sample by sample, so that a quality measure comes out as it was asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from distort_pipeline.errors import PipelineError
from distort_pipeline.labels import LOWER_IS_BETTER
from distort_pipeline.pixels import Image, Images
from distort_pipeline.seeds import make_rng
from distort_pipeline.statistics.calibration import HIGHEST_PSNR_DB, Calibration, reach, severity_for
from distort_pipeline.statistics.computed_metrics import MEASURES
from distort_pipeline.tasks.composite import CompositeGenerator
from distort_pipeline.wavelets.significance import Significances

CORRECTIONS = 6  # a severity tried, and so many better ones, each another run of the network for those still off
NEAR = 0.002  # of the dial's range: who comes as near as this is tried no more
DECIMALS = 6  # of a severity, and of a target


@dataclass(frozen=True)
class _Trial:
    severity: float
    reached: float
    made: Image | None = None  # none where only what it reaches is known


@dataclass
class SeveritySearch:
    """The search for the severity of one image."""

    calibration: Calibration
    measure: str
    target: float
    tries: list[_Trial]

    def is_over(self) -> bool:
        """Return whether one of the images that were made is as near as counts, or no other one is left to make."""
        best, worst = reach(self.calibration, self.measure)
        enough = NEAR * abs(worst - best)
        made = [one for one in self.tries if one.made is not None]
        near = any(abs(one.reached - self.target) <= enough for one in made)
        return near or self.next_severity() in {one.severity for one in made}

    def unmade(self) -> float | None:
        """Return the severity that came nearest of all if its image is still to be made."""
        best = min(self.tries, key=lambda one: (abs(one.reached - self.target), one.made is None))
        return best.severity if best.made is None else None

    def nearest(self) -> tuple[Image, float]:
        """Return the image that came nearest, and its severity."""
        made = [(one.made, one) for one in self.tries if one.made is not None]
        image, best = min(made, key=lambda pair: abs(pair[1].reached - self.target))
        return image, best.severity

    def next_severity(self) -> float:
        """Return the severity to try next: where a smooth, rising curve through all tries has the target.

        Qualities are read as severities of the calibration first. An image that is twice as sensitive as the mean is
        then a straight line through 0, whatever the curve, and 0 itself is the first try that was too mild. Where two
        tries in turn fell short on one side, the curve is not to be trusted: then it is half-way to the other side.
        """
        if not self.tries:
            return round(severity_for(self.calibration, self.measure, self.target), DECIMALS)
        wanted = self._as_severity(self.target)
        tried = [(one.severity, self._as_severity(one.reached)) for one in self.tries]
        severities, means = [0.0], [0.0]
        for own, mean in sorted(tried):
            if mean == means[-1]:
                severities[-1] = own
            elif mean > means[-1]:  # what falls for once says nothing of where to look
                severities.append(own)
                means.append(mean)
        if wanted > means[-1]:
            severity = severities[-1] * wanted / means[-1] if means[-1] else (severities[-1] + 1) / 2
            return round(min(severity, 1.0), DECIMALS)
        severity = float(PchipInterpolator(means, severities)(wanted)) if len(means) > 1 else 0.0
        above = bisect_left(means, wanted)
        too_mild = [mean < wanted for _, mean in tried[-2:]]
        if len(tried) > 2 and above and len(set(too_mild)) == 1:
            severity = (severity + severities[above if too_mild[0] else above - 1]) / 2
        return round(severity, DECIMALS)

    def _as_severity(self, value: float) -> float:
        """Return the severity at which the mean has this value; above 1 for what is worse than the end of the dial."""
        best, worst = reach(self.calibration, self.measure)
        beyond = (value - worst) / (worst - best)
        return severity_for(self.calibration, self.measure, value) if beyond <= 0 else 1 + beyond


def lowest_quality(
    chain: CompositeGenerator,
    images: Images,
    seeds: Sequence[int],
    significances: Significances | None,
    *,
    measure: str,
) -> list[float]:
    """Return what `measure` comes to for each of `images` (N, H, W, 3) at the end of the dial, severity 1."""
    found: list[float] = []
    for made in chain.distort_batches(images, seeds, [1.0] * len(images), significances):
        own = images[len(found) : len(found) + len(made)]
        found += [measured(measure, clean, bad) for clean, bad in zip(own, made, strict=True)]
    return found


def assign_targets(
    targets: Sequence[float], worst: Sequence[float], *, measure: str, mildest: float, seed: int
) -> tuple[list[float], int]:
    """Return a target for each image, and for how many it had to be another than all of `targets`.

    `worst` is what each image reaches at the end of its dial. The hardest target goes first, to one at random of the
    images that can have it. What nobody can have is drawn anew for each image that is left, anywhere from its
    `worst` to the `mildest` that may be asked; that one itself for an image that has nothing as bad.

    >>> share_out([0.5, 0.7, 0.9], [0.8, 0.4, 0.6], measure="ssim", mildest=0.9, seed=0)
    ([0.9, 0.5, 0.7], 0)
    """
    sign = 1 if LOWER_IS_BETTER[measure] else -1  # times which harder is more
    rng = make_rng(seed)
    left = [int(place) for place in rng.permutation(len(worst))]
    given: dict[int, float] = {}
    for target in sorted(targets, key=lambda value: -sign * value):
        able = next((place for place in left if sign * worst[place] >= sign * target), None)
        if able is not None:
            given[able] = target
            left.remove(able)
    for place in left:
        hardest = worst[place] if sign * worst[place] > sign * mildest else mildest
        given[place] = round(hardest + float(rng.random()) * (mildest - hardest), DECIMALS)
    return [given[place] for place in range(len(worst))], len(left)


def distort_to_targets(
    chain: CompositeGenerator,
    images: Images,
    seeds: Sequence[int],
    targets: Sequence[float],
    significances: Significances | None,
    *,
    measure: str,
    batch: int,
    worst: Sequence[float] | None = None,
) -> Iterator[tuple[Images, list[float]]]:
    """Yield `images` (N, H, W, 3) distorted so that `measure` comes near each one's target, and their severities.

    The model's calibration gives the first severity or, where `worst` says what each image reaches at the end of its
    dial, that image's share of it; what a severity reaches says how sensitive this image is. Of all tries the
    nearest is kept, so that an image that no severity brings to its target is at the end of the dial, or as near as it
    came. `batch` images a part. `wholes` as in `Chain.distort_by_parts`.
    """
    calibration = _calibration(chain)
    for start in range(0, len(images), batch):
        own = slice(start, start + batch)
        part, own_seeds = images[own], seeds[own]
        significances_here = None if significances is None else significances[own]
        aims = [SeveritySearch(calibration, measure, target, []) for target in targets[own]]
        for aim, value in zip(aims, () if worst is None else worst[own], strict=worst is not None):
            aim.tries.append(_Trial(1.0, value))
        for _ in range(1 + CORRECTIONS):
            off = {place: aim.next_severity() for place, aim in enumerate(aims) if not aim.is_over()}
            if not off:
                break
            _try(chain, aims, off, part, own_seeds, significances_here)
        ends = {place: severity for place, aim in enumerate(aims) if (severity := aim.unmade()) is not None}
        if ends:
            _try(chain, aims, ends, part, own_seeds, significances_here)
        nearest = [aim.nearest() for aim in aims]
        yield np.stack([made for made, _ in nearest]), [severity for _, severity in nearest]


def _try(
    chain: CompositeGenerator,
    aims: Sequence[SeveritySearch],
    severities: Mapping[int, float],
    images: Images,
    seeds: Sequence[int],
    significances: Significances | None,
) -> None:
    """Make the images at the places of `severities`, each at its own, and add what they reach to their aims."""
    places = list(severities)
    told = None if significances is None else significances[places]
    own_seeds = [seeds[place] for place in places]
    parts = chain.distort_batches(images[places], own_seeds, list(severities.values()), told)
    for place, made in zip(places, np.concatenate(list(parts)), strict=True):
        aim = aims[place]
        reached = measured(aim.measure, images[place], made)
        aim.tries.append(_Trial(severities[place], reached, made.copy()))


def measured(measure: str, pristine: Image, distorted: Image) -> float:
    """Return the value of `measure`, of identical images the highest PSNR that counts."""
    value = MEASURES[measure](pristine, distorted)
    if value is None:
        raise PipelineError(f"{measure} has no value for a tile of {pristine.shape[1]} x {pristine.shape[0]} px")
    return min(value, HIGHEST_PSNR_DB) if measure == "psnr" else value


def _calibration(chain: CompositeGenerator) -> Calibration:
    (card,) = chain.cards.values()
    found: Mapping[str, Sequence[float]] = card["calibration"]
    return found
