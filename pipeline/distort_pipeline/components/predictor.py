"""A composed generator where the product expects a network's `Forward`: the same calls, images in, images out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distort_pipeline.components.composed import ComposedGenerator, DistortedImage
from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image, Images
from distort_pipeline.wavelets.significance import Significances


@dataclass(frozen=True)
class TileSource:
    """Which image a tile is of, and where in it; tiles of one image share its seed: kernel, tone, gain, noise."""

    digest: str  # of the image
    read: Callable[[], Image]  # the whole image
    y: int
    x: int
    seed: int


class ComposedPredictor:
    """Distorts images with a composed generator, one by one: nothing depends on what else is in a batch."""

    multi_level = False  # one level; between it and the pristine image, the change is scaled and the last stage kept
    image_stats = False

    def __init__(self, generator: ComposedGenerator, *, batch_size: int) -> None:
        self.generator, self.batch_size = generator, batch_size
        self.sources: Mapping[int, TileSource] = {}
        self._last: tuple[Hashable, DistortedImage] | None = None

    @property
    def model(self) -> Any:
        """Refused: there is no single network to export."""
        raise PipelineError("a composed generator is no single network: model export knows only networks so far")

    def set_sources(self, sources: Mapping[int, TileSource]) -> None:
        """Take in which image the tile of each seed is of; tiles of other seeds are taken for whole images."""
        self.sources = sources

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its own seed; a severity below 1 scales the change."""
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
        severities = [1.0] * len(images) if severities is None else severities
        for first in range(0, len(images), self.batch_size):
            rows = range(first, min(first + self.batch_size, len(images)))
            yield np.stack([self._distorted(images[row], int(seeds[row]), float(severities[row])) for row in rows])

    def distort_image(self, image: Image, seed: int, severity: float = 1.0) -> Image:
        """Return one whole `image` (H, W, 3) distorted."""
        return self.distort(image[None], [seed], [severity])[0]

    def _distorted(self, image: Image, seed: int, severity: float) -> Image:
        source = self.sources.get(seed)
        if source is None:
            return self.generator.distort(image, severity, seed)
        key = (source.digest, source.seed, severity)
        if self._last is None or self._last[0] != key:
            self._last = key, DistortedImage(self.generator, source.read(), severity, source.seed)
        return self._last[1].tile(source.y, source.x, *image.shape[:2])
