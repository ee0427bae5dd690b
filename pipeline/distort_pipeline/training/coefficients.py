"""The coefficients of training tiles, group by group, and empty fits for each band."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.coefficient_curves import CoefficientCurves
from distort_pipeline.pixels import Images, normalize
from distort_pipeline.training.curve_fit import CurveFit

Floats = NDArray[np.float32]
Solve = Callable[[float], list[Floats]]  # shrinkage gain → the curves of each band, see `CurveFit.with_gain`

GROUP = 16  # tiles in memory as bands at a time


def bands_of(layer: CoefficientCurves, tiles: Images) -> list[Floats]:
    """Return the bands of pristine `tiles` (N, H, W, 3)."""
    return [np.asarray(band) for band in layer.analyse(normalize(tiles))]


def distorted_bands_of(layer: CoefficientCurves, tiles: Images) -> list[Floats]:
    """Return the bands from which a decoder synthesised distorted `tiles`."""
    return [np.asarray(band) for band in layer.recover(normalize(tiles))]


def curve_fits(layer: CoefficientCurves) -> list[CurveFit]:
    """Return an empty fit for each band."""
    return [CurveFit(curves.count, curves.knots, curves.spacing) for curves in layer.codec_prior.curves]


def groups(count: int) -> Iterator[slice]:
    """Return slices of GROUP tiles over `count` tiles."""
    return (slice(start, start + GROUP) for start in range(0, count, GROUP))
