"""Severities found sample by sample, so that a quality measure comes out as it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Picture, Pictures
from distort_pipeline.statistics.calibrated import HIGHEST_PSNR_DB, Calibration, expected, severity_for
from distort_pipeline.statistics.measured_labels import MEASURES
from distort_pipeline.tasks.chains import Chain

CORRECTIONS = 2  # a severity tried, and so many better ones; each is another run of the network
DECIMALS = 6  # of a severity


@dataclass(frozen=True)
class _Try:
    severity: float
    reached: float
    made: Picture


def distort_to_targets(
    chain: Chain, pictures: Pictures, seeds: Sequence[int], targets: Sequence[float], *, measure: str, batch: int
) -> Iterator[tuple[Pictures, list[float]]]:
    """Yield `pictures` (N, H, W, 3) distorted so that `measure` comes near each one's target, and their severities.

    The model's calibration gives the first severity; what that one reaches says by how much this picture lies off the
    calibration, and two tries give a straight line to go on along. Of all tries the nearest is kept, so that a picture
    that no severity brings to its target is at the end of the dial, or as near as it came. `batch` pictures a part.
    """
    calibration = _calibration(chain)
    for start in range(0, len(pictures), batch):
        own = slice(start, start + batch)
        part, wanted = pictures[own], targets[own]
        tries: list[list[_Try]] = [[] for _ in part]
        severities = [round(severity_for(calibration, measure, target), DECIMALS) for target in wanted]
        for _ in range(1 + CORRECTIONS):
            made = np.concatenate(list(chain.distort_by_parts(part, seeds[own], severities)))
            for place, severity in enumerate(severities):
                reached = measured(measure, part[place], made[place])
                tries[place].append(_Try(severity, reached, made[place].copy()))
            severities = [
                _next(calibration, measure, found, target) for found, target in zip(tries, wanted, strict=True)
            ]
        best = [_nearest(found, target) for found, target in zip(tries, wanted, strict=True)]
        yield np.stack([one.made for one in best]), [one.severity for one in best]


def measured(measure: str, pristine: Picture, distorted: Picture) -> float:
    """Return the value of `measure`, of identical pictures the highest PSNR that counts."""
    value = MEASURES[measure](pristine, distorted)
    if value is None:
        raise PipelineError(f"{measure} has no value for a tile of {pristine.shape[1]} x {pristine.shape[0]} px")
    return min(value, HIGHEST_PSNR_DB) if measure == "psnr" else value


def _next(calibration: Calibration, measure: str, tries: Sequence[_Try], target: float) -> float:
    """Return the severity to try next: along the line through the two nearest tries, or along the calibration."""
    first = _nearest(tries, target)
    others = [one for one in tries if one is not first]
    second = _nearest(others, target) if others else first
    run, rise = second.severity - first.severity, second.reached - first.reached
    falls = expected(calibration, measure, 1) - expected(calibration, measure, 0)
    if run and rise and (rise / run) * falls > 0:
        severity = first.severity + (target - first.reached) * run / rise
    else:
        severity = severity_for(
            calibration, measure, expected(calibration, measure, first.severity) + target - first.reached
        )
    return round(min(max(severity, 0.0), 1.0), DECIMALS)


def _nearest(tries: Sequence[_Try], target: float) -> _Try:
    return min(tries, key=lambda one: abs(one.reached - target))


def _calibration(chain: Chain) -> Calibration:
    (card,) = chain.cards.values()
    found: Mapping[str, Sequence[float]] = card["calibration"]
    return found
