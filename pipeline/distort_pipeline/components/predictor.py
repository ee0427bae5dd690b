"""A composed generator where the product expects a network's `Forward`: the same calls, images in, images out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distort_pipeline.components.composed import ComposedGenerator, TilePosition
from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image, Images
from distort_pipeline.wavelets.significance import Significances


class ComposedPredictor:
    """Distorts images with a composed generator, one by one: nothing depends on what else is in a batch."""

    multi_level = False  # one level; between it and the pristine image, the change is scaled and the last stage kept
    image_stats = False

    def __init__(self, generator: ComposedGenerator, *, batch_size: int) -> None:
        self.generator, self.batch_size = generator, batch_size
        self.positions: Mapping[int, TilePosition] = {}

    @property
    def model(self) -> Any:
        """Refused: there is no single network to export."""
        raise PipelineError("a composed generator is no single network: model export knows only networks so far")

    def set_positions(self, positions: Mapping[int, TilePosition]) -> None:
        """Take in where the tile of each seed lies in its image; tiles of other seeds are taken for whole images."""
        self.positions = positions

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its own seed; a severity other than 1 is refused."""
        parts = list(self.distort_batches(images, seeds, severities, significances))
        return np.concatenate(parts) if parts else np.empty_like(images)

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,  # noqa: ARG002 - of other generators
    ) -> Iterator[Images]:
        """Yield what `distort` returns, `batch_size` images at a time."""
        if severities is not None and any(severity != 1 for severity in severities):
            raise PipelineError("this generator has learned one level, which is severity 1; learn several to vary it")
        for first in range(0, len(images), self.batch_size):
            rows = range(first, min(first + self.batch_size, len(images)))
            yield np.stack([self._distorted(images[row], int(seeds[row])) for row in rows])

    def distort_image(self, image: Image, seed: int, severity: float = 1.0) -> Image:
        """Return one whole `image` (H, W, 3) distorted."""
        return self.distort(image[None], [seed], [severity])[0]

    def _distorted(self, image: Image, seed: int) -> Image:
        return self.generator.distort(image, 1.0, seed, self.positions.get(seed))
