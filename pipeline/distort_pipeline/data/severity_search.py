"""The severity of each image at a requested quality: the calibration of a generator, a search, and an assignment.

The `calibration` of a model card has "severity" from 0 to that of the last level, and the means of "psnr", "ssim" and
"gmsd" over validation tiles at each severity, measured by `training/validation.py`. Values between the points are
interpolated linearly. A calibration holds on average; a single image may differ widely, so its severity is searched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.interpolate import PchipInterpolator

from distort_pipeline.config import CALIBRATED
from distort_pipeline.data.conditions import DECIMALS, SEVERITY, Generator, Tiles
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB, LOWER_IS_BETTER, MEASURES
from distort_pipeline.records import Image, Images, make_rng

Calibration: TypeAlias = Mapping[str, Sequence[float]]


def expected(calibration: Calibration, measure: str, severity: float) -> float:
    """Return the expected mean of `measure` ("psnr" in dB, "ssim" or "gmsd") at a `severity`.

    >>> expected({"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}, "ssim", 0.75)
    0.7
    """
    _require(calibration, measure)
    return float(np.interp(severity, calibration[SEVERITY], calibration[measure]))


def severity_for(calibration: Calibration, measure: str, target: float) -> float:
    """Return the lowest severity at which the mean of `measure` is `target`.

    Clipped to 0 or the highest for a target outside the range of the calibration, see `reach`.

    >>> calibration = {"severity": [0, 0.5, 1], "ssim": [1, 0.9, 0.5]}
    >>> severity_for(calibration, "ssim", 0.7), severity_for(calibration, "ssim", 0.1)
    (0.75, 1.0)
    """
    _require(calibration, measure)
    severities = calibration[SEVERITY]
    worse = -1 if not LOWER_IS_BETTER[measure] else 1
    badness, target_badness = worse * np.asarray(calibration[measure], np.float64), worse * target
    above = int(np.searchsorted(badness, target_badness))
    if above in (0, len(badness)):
        return float(severities[0 if above == 0 else -1])
    low, high = badness[above - 1], badness[above]
    share = (target_badness - low) / (high - low)
    return float(severities[above - 1] + share * (severities[above] - severities[above - 1]))


def reach(calibration: Calibration, measure: str) -> tuple[float, float]:
    """Return the best and the worst mean of `measure`: at severity 0 and at the highest.

    >>> reach({"severity": [0, 1], "gmsd": [0.001, 0.2]}, "gmsd")
    (0.001, 0.2)
    """
    _require(calibration, measure)
    return float(calibration[measure][0]), float(calibration[measure][-1])


def monotone(measure: str, means: Sequence[float]) -> list[float]:
    """Return the isotonic regression of `means` by severity: quality never improves (pool adjacent violators).

    >>> monotone("psnr", [40, 30, 32, 20]), monotone("gmsd", [0, 0.2, 0.1])
    ([40.0, 31.0, 31.0, 20.0], [0.0, 0.15, 0.15])
    """
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression(means, increasing=LOWER_IS_BETTER[measure])
    return [round(value, 6) for value in fitted.x.tolist()]


def _require(calibration: Calibration, measure: str) -> None:
    if measure not in CALIBRATED or measure not in calibration:
        raise PipelineError(f"the model is not calibrated in {measure!r}{did_you_mean(measure, CALIBRATED)}")


CORRECTIONS = 6  # evaluations after the first, for images off their target
TOLERANCE = 0.002  # of the range of the calibration: the search ends within this distance of the target


def lowest_quality(generator: Generator, tiles: Tiles, *, measure: str) -> list[float]:
    """Return the value of `measure` for each of `tiles` at the highest severity of the generator."""
    distorted = tiles.distorted(generator, dict.fromkeys(range(len(tiles.seeds)), generator.calibration[SEVERITY][-1]))
    return [quality_of(measure, *pair) for pair in zip(tiles.pristine, distorted, strict=True)]


def quality_of(measure: str, pristine: Image, distorted: Image) -> float:
    """Return the value of `measure`; PSNR up to HIGHEST_PSNR_DB."""
    value = MEASURES[measure](pristine, distorted)
    if value is None:
        raise PipelineError(f"{measure} has no value for a tile of {pristine.shape[1]} x {pristine.shape[0]} px")
    return min(value, HIGHEST_PSNR_DB) if measure == "psnr" else value


def assign_targets(
    targets: Sequence[float], lowest: Sequence[float], *, measure: str, mildest: float, seed: int
) -> tuple[list[float], list[bool]]:
    """Return a target for each image, and whether it was resampled.

    `lowest` is the quality of each image at the highest severity. Targets are assigned from the lowest quality on, each
    to a random image within reach. Targets out of reach are resampled for each remaining image, uniformly from its
    `lowest` to the `mildest` of the request; an image with nothing as bad gets the `mildest`.

    >>> assign_targets([0.5, 0.7, 0.9], [0.8, 0.4, 0.6], measure="ssim", mildest=0.9, seed=0)
    ([0.9, 0.5, 0.7], [False, False, False])
    """
    sign = 1 if LOWER_IS_BETTER[measure] else -1  # sign * value increases with distortion
    rng = make_rng(seed)
    remaining = [int(index) for index in rng.permutation(len(lowest))]
    assigned: dict[int, float] = {}
    for target in sorted(targets, key=lambda value: -sign * value):
        capable = next((index for index in remaining if sign * lowest[index] >= sign * target), None)
        if capable is not None:
            assigned[capable] = target
            remaining.remove(capable)
    for index in remaining:
        hardest = lowest[index] if sign * lowest[index] > sign * mildest else mildest
        assigned[index] = round(hardest + float(rng.random()) * (mildest - hardest), DECIMALS)
    indices = range(len(lowest))
    return [assigned[index] for index in indices], [index in remaining for index in indices]


def distort_to_targets(
    generator: Generator,
    tiles: Tiles,
    targets: Sequence[float],
    *,
    measure: str,
    lowest: Sequence[float] | None = None,
) -> tuple[Images, list[float]]:
    """Return `tiles` distorted to a `measure` near their targets, (N, H, W, 3), and their severities.

    The first severity is from the calibration, scaled to the image where `lowest` has its quality at the highest
    severity; the next ones are from a curve through the image's evaluations. The nearest evaluation is the result: an
    image with a target out of reach is clipped at severity 0 or the highest.
    """
    searches = [SeveritySearch(generator.calibration, measure, target) for target in targets]
    for search, value in zip(searches, lowest or (), strict=lowest is not None):
        search.evaluations.append(_Evaluation(search.highest, value))
    for _ in range(1 + CORRECTIONS):
        off = {index: search.next_severity() for index, search in enumerate(searches) if not search.is_over()}
        if not off:
            break
        _evaluate(generator, tiles, searches, off)
    missing = {index: search.nearest_without_image() for index, search in enumerate(searches)}
    _evaluate(generator, tiles, searches, {index: at for index, at in missing.items() if at is not None})
    nearest = [search.nearest() for search in searches]
    return np.stack([image for image, _ in nearest]), [severity for _, severity in nearest]


def _evaluate(
    generator: Generator, tiles: Tiles, searches: Sequence[SeveritySearch], severities: Mapping[int, float]
) -> None:
    """Distort the tiles at the indices in `severities` and add their qualities to their searches."""
    if not severities:
        return
    for index, image in zip(severities, tiles.distorted(generator, severities), strict=True):
        search = searches[index]
        quality = quality_of(search.measure, tiles.pristine[index], image)
        search.evaluations.append(_Evaluation(severities[index], quality, image.copy()))


@dataclass(frozen=True)
class _Evaluation:
    severity: float
    quality: float
    image: Image | None = None  # None where only the quality is known


@dataclass
class SeveritySearch:
    """The search for the severity of one image."""

    calibration: Calibration
    measure: str
    target: float
    evaluations: list[_Evaluation] = field(default_factory=list)

    @property
    def highest(self) -> float:
        """The highest severity of the generator."""
        return float(self.calibration[SEVERITY][-1])

    def is_over(self) -> bool:
        """Return whether an image is within the tolerance of the target, or the next severity is an evaluated one."""
        best, worst = reach(self.calibration, self.measure)
        tolerance = TOLERANCE * abs(worst - best)
        evaluated = [evaluation for evaluation in self.evaluations if evaluation.image is not None]
        near = any(abs(evaluation.quality - self.target) <= tolerance for evaluation in evaluated)
        return near or self.next_severity() in {evaluation.severity for evaluation in evaluated}

    def nearest_without_image(self) -> float | None:
        """Return the severity nearest to the target if its image does not exist yet, else None."""
        best = min(self.evaluations, key=lambda item: (abs(item.quality - self.target), item.image is None))
        return best.severity if best.image is None else None

    def nearest(self) -> tuple[Image, float]:
        """Return the image nearest to the target, and its severity."""
        evaluated = [(item.image, item) for item in self.evaluations if item.image is not None]
        image, best = min(evaluated, key=lambda pair: abs(pair[1].quality - self.target))
        return image, best.severity

    def next_severity(self) -> float:
        """Return the next severity: of the target on a smooth, increasing curve through all evaluations.

        Qualities are converted to severities of the calibration first: the curve of an image twice as sensitive as the
        mean is then a straight line through 0. After two evaluations in turn on the same side of the target, the next
        severity is half-way between the curve's and the nearest evaluation on the other side.
        """
        if not self.evaluations:
            return round(severity_for(self.calibration, self.measure, self.target), DECIMALS)
        target = self._as_severity(self.target)
        points = [(item.severity, self._as_severity(item.quality)) for item in self.evaluations]
        severities, means = [0.0], [0.0]
        for severity, mean in sorted(points):
            if mean == means[-1]:
                severities[-1] = severity
            elif mean > means[-1]:  # others would make the curve decrease
                severities.append(severity)
                means.append(mean)
        if target > means[-1]:
            severity = severities[-1] * target / means[-1] if means[-1] else (severities[-1] + self.highest) / 2
            return min(round(severity, DECIMALS), self.highest)
        severity = float(PchipInterpolator(means, severities)(target)) if len(means) > 1 else 0.0
        above = bisect_left(means, target)
        too_mild = [mean < target for _, mean in points[-2:]]
        if len(points) > 2 and above and len(set(too_mild)) == 1:
            severity = (severity + severities[above if too_mild[0] else above - 1]) / 2
        return round(severity, DECIMALS)

    def _as_severity(self, value: float) -> float:
        """Return the severity of the calibration with the mean `value`; above the highest for a quality below its."""
        best, worst = reach(self.calibration, self.measure)
        beyond = (value - worst) / (worst - best)
        return severity_for(self.calibration, self.measure, value) if beyond <= 0 else self.highest * (1 + beyond)
