"""Diffusion with learned conductances: what it is exact or near for, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from synthetic_pairs import bases_of, pairs_of, photographs

from distort_pipeline.networks import diffusion as diffusion_module
from distort_pipeline.networks.diffusion import Diffusion, fit_diffusion
from distort_pipeline.networks.filters import fit_filters
from distort_pipeline.records import Image, to_uint8


@pytest.fixture(autouse=True)
def _fewer_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion_module, "PIXELS", 12_000)


def perona_malik(image: Image) -> Image:
    """Return `image` after four steps along rows and columns, each channel by its own differences."""
    values = image.astype(np.float32)
    for _ in range(4):
        padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), "edge")
        slopes = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
        values = values + 0.2 * sum(np.exp(-np.square((slope - values) / 15)) * (slope - values) for slope in slopes)
    return to_uint8(values)


def error(part: object, image: Image, distorted: Image) -> float:
    """Return the mean squared error of `part` on `image`, in levels²."""
    return float(np.square(part.distort(image.astype(np.float32), 0) - distorted).mean())


@pytest.mark.parametrize(
    ("distort", "coupled"), [(perona_malik, False), (lambda image: cv2.bilateralFilter(image, 7, 30, 3), True)]
)
def test_what_spares_edges_is_learned_where_filters_fail(distort: Callable[[Image], Image], coupled: bool) -> None:
    patches = pairs_of(lambda image, _: distort(image))
    bases = bases_of(patches)
    unseen = photographs(seed=7)[0]
    true = distort(unseen)
    identity = float(np.square(unseen.astype(float) - true).mean())
    diffusion = error(fit_diffusion(patches, bases, coupled=coupled), unseen, true)
    linear = error(fit_filters(patches, bases, radius_px=3, per_image=False), unseen, true)
    assert diffusion < 0.1 * identity
    assert diffusion < 0.5 * linear


def test_where_nothing_changes_nothing_flows() -> None:
    patches = pairs_of(lambda image, _: image)
    assert np.abs(fit_diffusion(patches, bases_of(patches), coupled=False).conductances).max() < 1e-4


def test_a_part_of_an_image_is_the_part_of_the_whole_and_means_stay() -> None:
    rng = np.random.default_rng(0)
    part = Diffusion(rng.uniform(0, 0.02, (2, 7, 11)).astype(np.float32), coupled=True)
    image = photographs()[0].astype(np.float32)
    whole, reach = part.distort(image), part.reach_px
    inside = part.distort(image[40 - reach : 120 + reach, 60 - reach : 200 + reach])
    assert np.array_equal(inside[reach:-reach, reach:-reach], whole[40:120, 60:200])
    assert np.abs(whole - image).mean() > 0.5
    assert whole.mean() == pytest.approx(image.mean(), abs=0.1)
