"""Severities found sample by sample, so that a quality measure comes out as it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Picture, Pictures
from distort_pipeline.statistics.calibrated import HIGHEST_PSNR_DB, Calibration, reach, severity_for
from distort_pipeline.statistics.measured_labels import MEASURES
from distort_pipeline.tasks.chains import Chain

CORRECTIONS = 3  # a severity tried, and so many better ones; each is another run of the network
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

    The model's calibration gives the first severity, and what that one reaches says how sensitive this picture is. Of
    all tries the nearest is kept, so that a picture that no severity brings to its target is at the end of the dial, or
    as near as it came. `batch` pictures a part.
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
    """Return the severity to try next: between the mildest try that was too strong and the strongest too mild one.

    Qualities are read as severities of the calibration first. A picture that is twice as sensitive as the mean is then
    a straight line through 0, whatever the curve, and 0 itself is the first try that was too mild.
    """
    wanted = _as_severity(calibration, measure, target)
    tried = [(one.severity, _as_severity(calibration, measure, one.reached)) for one in tries]
    mild = max(((own, mean) for own, mean in tried if mean < wanted), default=(0.0, 0.0))
    strong = min(((own, mean) for own, mean in tried if mean >= wanted and own > mild[0]), default=None)
    if strong is not None:
        severity = mild[0] + (wanted - mild[1]) / (strong[1] - mild[1]) * (strong[0] - mild[0])
    else:
        severity = mild[0] * wanted / mild[1] if mild[1] else (mild[0] + 1) / 2
    return round(min(max(severity, 0.0), 1.0), DECIMALS)


def _as_severity(calibration: Calibration, measure: str, value: float) -> float:
    """Return the severity at which the mean has this value; above 1 for what is worse than the end of the dial."""
    best, worst = reach(calibration, measure)
    beyond = (value - worst) / (worst - best)
    return severity_for(calibration, measure, value) if beyond <= 0 else 1 + beyond


def _nearest(tries: Sequence[_Try], target: float) -> _Try:
    return min(tries, key=lambda one: abs(one.reached - target))


def _calibration(chain: Chain) -> Calibration:
    (card,) = chain.cards.values()
    found: Mapping[str, Sequence[float]] = card["calibration"]
    return found
