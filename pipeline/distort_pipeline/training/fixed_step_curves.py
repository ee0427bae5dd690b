"""Curves where each coefficient has a step of its own, the same for every image, as JPEG's tables have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distort_pipeline.networks.coefficient_curves import CoefficientCurves
from distort_pipeline.pixels import Images
from distort_pipeline.training.coefficients import Solve, bands_of, curve_fits, groups, left_in
from distort_pipeline.training.lattice_fit import LatticeFit, in_whole_steps, resolve_lattice


def fixed_step_curves(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images]) -> Solve:
    """Return what gives the curves (levels, count, knots) of each band; `layer` gets the steps of its coefficients.

    A band that is left with whole steps was rounded to 8-bit pixels afterwards, which is undone first.
    """
    whole = _fit_steps(layer, pristine, levels)
    fits = [curve_fits(layer) for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(layer, pristine[group])
        for level, distorted in enumerate(levels):
            for band, after in enumerate(left_in(layer, distorted[group])):
                step = np.exp(np.asarray(layer.log_steps[band])[level])
                left = after / step
                gains = (np.rint(left) if whole[band] else left) - before[band] / step
                fits[level][band].add(before[band] / step, gains)
    return lambda shrinkage_gain: [
        np.stack([fit.hard_quantiser() if rounded else fit.bold(shrinkage_gain) for fit in own])
        for own, rounded in zip(zip(*fits, strict=True), whole, strict=True)
    ]


def _fit_steps(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images]) -> list[bool]:
    """Give `layer` the step of each coefficient at each level, and return which bands are left with whole steps."""
    tables = [[LatticeFit(curves.count) for curves in layer.codec_prior.curves] for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(layer, pristine[group])
        for own, distorted in zip(tables, levels, strict=True):
            for table, b, a in zip(own, before, left_in(layer, distorted[group]), strict=True):
                table.add(b, a)
    whole = []
    for band, log_steps in enumerate(layer.log_steps):
        steps = [own[band].steps() for own in tables]
        log_steps.assign(
            resolve_lattice(*(np.stack([getattr(one, part) for one in steps]) for part in ("log_steps", "seen")))
        )
        whole.append(in_whole_steps(steps))
    return whole
