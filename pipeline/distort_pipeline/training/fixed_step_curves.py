"""Curves with a fixed quantisation step per coefficient, the same for every image, as in JPEG's tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distort_pipeline.networks.coefficient_curves import CoefficientCurves
from distort_pipeline.pixels import Images
from distort_pipeline.training.coefficients import Solve, bands_of, curve_fits, distorted_bands_of, groups
from distort_pipeline.training.lattice_fit import LatticeFit, in_whole_steps, resolve_lattice


def fixed_step_curves(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images]) -> Solve:
    """Return a function from shrinkage gain to the curves (levels, count, knots) of each band.

    `layer` gets the quantisation steps. In a band of whole steps, the rounding to 8-bit pixels is undone first.
    """
    is_whole = _fit_steps(layer, pristine, levels)
    fits = [curve_fits(layer) for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(layer, pristine[group])
        for level, distorted in enumerate(levels):
            for band, decoded in enumerate(distorted_bands_of(layer, distorted[group])):
                step = np.exp(np.asarray(layer.log_steps[band])[level])
                steps_out = decoded / step
                gains = (np.rint(steps_out) if is_whole[band] else steps_out) - before[band] / step
                fits[level][band].add(before[band] / step, gains)
    return lambda shrinkage_gain: [
        np.stack([fit.hard_quantiser() if rounded else fit.with_gain(shrinkage_gain) for fit in level_fits])
        for level_fits, rounded in zip(zip(*fits, strict=True), is_whole, strict=True)
    ]


def _fit_steps(layer: CoefficientCurves, pristine: Images, levels: Sequence[Images]) -> list[bool]:
    """Assign the step of each coefficient and level to `layer`; return for each band if decoded to whole steps."""
    tables = [[LatticeFit(curves.count) for curves in layer.codec_prior.curves] for _ in levels]
    for group in groups(len(pristine)):
        before = bands_of(layer, pristine[group])
        for level_tables, distorted in zip(tables, levels, strict=True):
            for table, b, a in zip(level_tables, before, distorted_bands_of(layer, distorted[group]), strict=True):
                table.add(b, a)
    is_whole = []
    for band, log_steps in enumerate(layer.log_steps):
        steps = [level_tables[band].steps() for level_tables in tables]
        log_steps.assign(
            resolve_lattice(*(np.stack([getattr(level, field) for level in steps]) for field in ("log_steps", "seen")))
        )
        is_whole.append(in_whole_steps(steps))
    return is_whole
